"""Does a finished clip do what it was told? The face is tracked in it anew, and its lips compared to the command."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
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
from avatar_pipeline.render.loop import PLATE_FPS

if TYPE_CHECKING:
    from avatar_pipeline.face.types import LandmarkDetector
    from avatar_pipeline.media.types import Frame
    from avatar_pipeline.render.plate import Plate

MOST_LAG_SECONDS = 0.2
"""Lag, each way, that is looked through."""

_LEAST_MOTION = 0.6
_FEWEST_SECONDS = 1.0
_FEWEST_COMPARED = 15
"""Pairs of frames of which a correlation is worth anything."""
_LONGEST_LAG_SECONDS = 0.05
"""Sound ahead of the picture is noticed from 45 ms (ITU-R BT.1359-1): under 20 fps, one frame is too late."""
_LEAST_FACE = 96
"""Pixels from brow to chin under which lips cannot be measured well enough. Six heads, reduced step by step at 25 fps:
faces of 98 to 127 px give r from 0.86 to 0.98 (8 clips); of 54 to 92 px, from 0.75 to 0.98, 6 of 15 under 0.85; of 25
to 49 px, 9 of 10 under it."""
_BROW, _CHIN = 10, 152
_MOST_STILL_MOTION = 1.0
_LEAST_FOUND = 0.95
_PROGRESS_EVERY = 50


@dataclass(frozen=True, slots=True)
class SyncReport:
    """How the lips of a clip follow the command. Gaps are in mm, between the inner lips, free of pose.

    `correlation` at lag 0, and `lag_frames` (> 0: the picture is late) with `lag_correlation`, the greatest within
    ±0.2 s; all None where the clip is too short, or its command moves too little, for a correlation to mean
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
    most_lag: int = MAX_LAG_FRAMES
    """Frames of lag that are let pass."""

    @property
    def judged_by(self) -> str:
        """'correlation', or 'stillness' where the command hardly moves or the clip is under a second."""
        return "stillness" if self.correlation is None else "correlation"

    @property
    def passed(self) -> bool:
        """Whether the face is found in 95 % of the frames, and the lips follow (r ≥ 0.85, lag ≤ 1 frame and 50 ms) or
        are still.

        A short clip that moves passes unjudged but for the face: a few frames prove nothing of synchrony.
        """
        if self.found < _LEAST_FOUND * self.frames:
            return False
        if self.correlation is None or self.lag_frames is None or self.lag_correlation is None:
            return self.commanded_motion >= _LEAST_MOTION or self.measured_motion <= _MOST_STILL_MOTION
        return abs(self.lag_frames) <= self.most_lag and self.lag_correlation >= MIN_SYNC


def least_side(plate: Plate) -> int:
    """Return the least short side, in pixels and even, of clips from a plate in which the lips can be measured.

    It is over the plate's own where the face is small; then the plate's own is the best there is.
    """
    face = plate.landmarks[:, [_BROW, _CHIN], :2].astype(np.float64)
    height = float(np.median(np.linalg.norm(face[:, 0] - face[:, 1], axis=1)))
    return 2 * math.ceil(_LEAST_FACE * min(plate.width, plate.height) / height / 2)


def verify_clip(
    clip: Path,
    mesh: AvatarMesh,
    commanded_gap_mm: NDArray[np.float64],
    *,
    fps: Fraction = PLATE_FPS,
    detector: LandmarkDetector | None = None,
    progress: Progress = silent,
) -> SyncReport:
    """Track a finished clip and compare its inner-lip gap with the commanded one (T,) in mm, from `curves.lip_gap`.

    `fps` is the clip's.

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
    return compare_gaps(np.asarray(commanded_gap_mm, np.float64), gaps, fps=fps, name=clip.name)


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


def compare_gaps(
    commanded: NDArray[np.float64], measured: NDArray[np.float64], *, fps: Fraction = PLATE_FPS, name: str = "clip"
) -> SyncReport:
    """Compare commanded and measured gaps (T,) in mm, `fps` a second; frames without a face (NaN) are bridged linearly.

    Raises:
        QualityTooLow: no frame shows a face.
    """
    seen = np.isfinite(measured)
    if not seen.any():
        raise QualityTooLow(f"{name}: no frame shows a face.", remedy="Render the clip again from other footage.")
    index = np.arange(len(measured))
    filled = np.interp(index, index[seen], measured[seen])
    most = max(1, round(MOST_LAG_SECONDS * fps))
    lags = np.arange(-most, most + 1)
    fewest = max(_FEWEST_SECONDS * fps, _FEWEST_COMPARED + 2 * most)
    judged = len(commanded) >= fewest and float(commanded.std()) >= _LEAST_MOTION
    values = np.array([_correlation(commanded, filled, lag, most) for lag in lags.tolist()]) if judged else 0.0 * lags
    best = int(values.argmax())
    return SyncReport(
        frames=len(measured),
        found=int(seen.sum()),
        correlation=float(values[most]) if judged else None,
        lag_frames=int(lags[best]) if judged else None,
        lag_correlation=float(values[best]) if judged else None,
        commanded_motion=float(commanded.std()),
        measured_motion=float(filled.std()),
        offset_mm=float((filled - commanded).mean()),
        most_lag=min(MAX_LAG_FRAMES, int(_LONGEST_LAG_SECONDS * fps)),
    )


def _correlation(commanded: NDArray[np.float64], measured: NDArray[np.float64], lag: int, most: int) -> float:
    """Pearson's r of the command with what is measured `lag` frames later; 0 where one of them does not move.

    The same part of the command is compared at each lag of up to `most` frames.
    """
    inner = slice(most, len(commanded) - most)
    a = commanded[inner]
    b = measured[inner.start + lag : inner.stop + lag]
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
