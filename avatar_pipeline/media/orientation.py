"""How a recorded frame is to be turned so that it stands upright, from the container's display matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from avatar_pipeline.errors import InvalidMedia

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av import VideoFrame
    from av.buffer import Buffer
    from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)
_TOLERANCE_DEGREES = 1.0


@dataclass(frozen=True, slots=True)
class Orientation:
    """First mirrored left to right (front cameras), then turned by `clockwise` degrees: 0, 90, 180 or 270."""

    clockwise: int
    mirrored: bool

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.clockwise in {90, 270}

    def apply(self, image: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Return a view of the image (H, W, ...) turned upright."""
        upright = image[:, ::-1] if self.mirrored else image
        return np.rot90(upright, -self.clockwise // 90)


UPRIGHT = Orientation(clockwise=0, mirrored=False)


def orientation_of(frame: VideoFrame, path: Path) -> Orientation:
    """Read the display matrix of a decoded frame (libavutil/display.h; 3x3, 16.16 fixed point, row vectors).

    Raises:
        InvalidMedia: the matrix turns by something else than a multiple of 90 degrees.
    """
    from av.sidedata.sidedata import Type

    side_data = cast("Mapping[Type, Buffer]", frame.side_data)
    if Type.DISPLAYMATRIX not in side_data:
        return UPRIGHT
    fixed = np.frombuffer(memoryview(side_data[Type.DISPLAYMATRIX]), np.int32)
    matrix = fixed.reshape(3, 3)[:2, :2].astype(np.float64)
    mirrored = bool(np.linalg.det(matrix) < 0)
    # A point (x, y), y down, goes to (x, y) @ matrix; mirroring comes first, so it is taken off the first row.
    x, y = matrix[0] * (-1 if mirrored else 1)
    if not matrix.any():
        return UPRIGHT
    degrees = math.degrees(math.atan2(y, x))
    clockwise = round(degrees / 90) * 90
    if abs(degrees - clockwise) > _TOLERANCE_DEGREES:
        raise InvalidMedia(
            f"{path.name}: is to be shown turned by {degrees:.0f} degrees; only multiples of 90 are supported.",
            remedy="Export the video upright.",
        )
    return Orientation(clockwise=clockwise % 360, mirrored=mirrored)
