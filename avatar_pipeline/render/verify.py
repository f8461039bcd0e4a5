"""Does a finished clip do what it was told? The face is tracked in it anew, and its lips compared to the command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import QualityTooLow
from avatar_pipeline.face.pose import fit_poses, to_camera
from avatar_pipeline.mesh.types import FACE_VERTICES, AvatarMesh
from avatar_pipeline.progress import Progress, silent
from avatar_pipeline.render.curves import LOWER_LIP, UPPER_LIP
from avatar_pipeline.render.limits import MAX_LAG_FRAMES, MIN_SYNC

if TYPE_CHECKING:
    from avatar_pipeline.face.types import LandmarkDetector
    from avatar_pipeline.media.types import Frame

MOST_LAG = 5
"""Frames of lag, each way, that are looked through."""

_LEAST_MOTION = 0.6
_FEWEST_FRAMES = 25
_MOST_STILL_MOTION = 1.0
_LEAST_FOUND = 0.95
_PROGRESS_EVERY = 50


@dataclass(frozen=True, slots=True)
class SyncReport:
    """How the lips of a clip follow the command. Gaps are in mm, between the inner lips, free of pose.

    `correlation` at lag 0, and `lag_frames` (> 0: the picture is late) with `lag_correlation`, the greatest within
    ±5 frames; all None where the clip is too short, or its command moves too little, for a correlation to mean
    anything: then `measured_motion` (standard deviation) is what there is to judge.
    """

    frames: int
    found: int
    correlation: float | None
    lag_frames: int | None
    lag_correlation: float | None
    commanded_motion: float
    measured_motion: float
    offset_mm: float
    """Mean of measured less commanded gap."""

    @property
    def judged_by(self) -> str:
        """'correlation', or 'stillness' where the command hardly moves or the clip is under a second."""
        return "stillness" if self.correlation is None else "correlation"

    @property
    def passed(self) -> bool:
        """Whether the face is found in 95 % of the frames, and the lips follow (r ≥ 0.85, lag ≤ 1) or are still.

        A short clip that moves passes unjudged but for the face: a few frames prove nothing of synchrony.
        """
        if self.found < _LEAST_FOUND * self.frames:
            return False
        if self.correlation is None or self.lag_frames is None or self.lag_correlation is None:
            return self.commanded_motion >= _LEAST_MOTION or self.measured_motion <= _MOST_STILL_MOTION
        return abs(self.lag_frames) <= MAX_LAG_FRAMES and self.lag_correlation >= MIN_SYNC


def verify_clip(
    clip: Path,
    mesh: AvatarMesh,
    commanded_gap_mm: NDArray[np.float64],
    *,
    detector: LandmarkDetector | None = None,
    progress: Progress = silent,
) -> SyncReport:
    """Track a finished clip and compare its inner-lip gap with the commanded one (T,) in mm, from `curves.lip_gap`.

    Raises:
        QualityTooLow: the clip shows no face at all, or has not as many frames as commanded.
        InvalidMedia: it cannot be decoded.
    """
    gaps = measure_lip_gap(clip, mesh, detector=detector, progress=progress)
    if len(gaps) != len(commanded_gap_mm):
        raise QualityTooLow(
            f"{clip.name}: has {len(gaps)} frames; {len(commanded_gap_mm)} were commanded.",
            remedy="Render the clip again.",
        )
    return compare_gaps(np.asarray(commanded_gap_mm, np.float64), gaps, name=clip.name)


def measure_lip_gap(
    clip: Path, mesh: AvatarMesh, *, detector: LandmarkDetector | None = None, progress: Progress = silent
) -> NDArray[np.float64]:
    """Return the inner-lip gap (T,) of a video in mm, free of head pose; NaN where no face is found."""
    from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
    from avatar_pipeline.media.decode import decode_frames

    detector = detector or FaceMeshDetector()
    size = [1, 1]

    def frames() -> Iterator[Frame]:
        for frame in decode_frames(clip):
            size[:] = [frame.image.shape[1], frame.image.shape[0]]
            yield frame

    gaps: list[float] = []
    for number, detection in enumerate(detector.detect(frames())):
        if number % _PROGRESS_EVERY == 0:
            progress("verification", number, None)
        if detection is None:
            gaps.append(np.nan)
            continue
        camera = to_camera(detection.landmarks, *size)[None]
        lips = fit_poses(camera, mesh.vertices[:FACE_VERTICES]).unproject(camera)[0, [UPPER_LIP, LOWER_LIP], 1]
        gaps.append(max(float(lips[0] - lips[1]), 0.0))
    return np.array(gaps)


def compare_gaps(commanded: NDArray[np.float64], measured: NDArray[np.float64], *, name: str = "clip") -> SyncReport:
    """Compare commanded and measured gaps (T,) in mm; frames without a face (NaN) are bridged linearly.

    Raises:
        QualityTooLow: no frame shows a face.
    """
    seen = np.isfinite(measured)
    if not seen.any():
        raise QualityTooLow(f"{name}: no frame shows a face.", remedy="Render the clip again from other footage.")
    index = np.arange(len(measured))
    filled = np.interp(index, index[seen], measured[seen])
    lags = np.arange(-MOST_LAG, MOST_LAG + 1)
    judged = len(commanded) >= _FEWEST_FRAMES and float(commanded.std()) >= _LEAST_MOTION
    values = np.array([_correlation(commanded, filled, int(lag)) for lag in lags]) if judged else np.zeros(len(lags))
    best = int(values.argmax())
    return SyncReport(
        frames=len(measured),
        found=int(seen.sum()),
        correlation=float(values[MOST_LAG]) if judged else None,
        lag_frames=int(lags[best]) if judged else None,
        lag_correlation=float(values[best]) if judged else None,
        commanded_motion=float(commanded.std()),
        measured_motion=float(filled.std()),
        offset_mm=float((filled - commanded).mean()),
    )


def _correlation(commanded: NDArray[np.float64], measured: NDArray[np.float64], lag: int) -> float:
    """Pearson's r of the command with what is measured `lag` frames later; 0 where one of them does not move."""
    inner = slice(MOST_LAG, len(commanded) - MOST_LAG)
    a = commanded[inner]
    b = measured[inner.start + lag : inner.stop + lag]
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
