"""The borders of the face room: detections, the landmark track, and the detector protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Frame

LANDMARKS = 478
"""MediaPipe's refined face mesh: 468 vertices and two irises of 5. 'Left' is the subject's left."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One face in one frame.

    `landmarks`: (478, 3) float32, x over image width, y over image height (down), z over image width (away from the
    camera is positive). `blendshapes`: (51,) float32 ARKit scores, or None. `transform`: (4, 4) head matrix, or None.
    """

    landmarks: NDArray[np.float32]
    blendshapes: NDArray[np.float32] | None = None
    transform: NDArray[np.float32] | None = None


class LandmarkDetector(Protocol):
    """Finds the face in a run of frames. A detector that tracks is fed in order and has memory."""

    name: str
    version: str
    """Name and version of the code and the model; part of the artifact's key."""
    run_in: int
    """Frames a tracker needs before its landmarks equal those of an unbroken track (to 0.2 px)."""
    blendshape_names: tuple[str, ...]
    """Names of the scores, in order; empty where the detector gives none."""

    def detect(self, frames: Iterable[Frame]) -> Iterator[Detection | None]:
        """Yield a detection (or None) for each frame, in order, from a fresh state."""


@dataclass(frozen=True, slots=True)
class LandmarkTrack:
    """The face over a whole video, one row a frame (T rows). Arrays of frames without a face hold NaN.

    `width` and `height` are of the upright frame, in pixels; `pts` (T,) int64 in units of `time_base`; `found` (T,)
    bool; `landmarks` (T, 478, 3) float32 as in `Detection`; `angles` (T, 3) float32 yaw, pitch, roll of the head in
    degrees (yaw > 0: turned to the subject's left; pitch > 0: up; roll > 0: towards the subject's right shoulder);
    `blur` (T,) float32 variance of the Laplacian over the face box resampled to 128 px; `face_size` (T,) float32
    face box height over image height; `blendshapes` (T, 51) float32 or None; `detector` name and version.
    """

    width: int
    height: int
    time_base: Fraction
    pts: NDArray[np.int64]
    found: NDArray[np.bool_]
    landmarks: NDArray[np.float32]
    angles: NDArray[np.float32]
    blur: NDArray[np.float32]
    face_size: NDArray[np.float32]
    blendshapes: NDArray[np.float32] | None
    blendshape_names: tuple[str, ...]
    detector: str

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Presentation times (T,) in seconds."""
        return self.pts * float(self.time_base)
