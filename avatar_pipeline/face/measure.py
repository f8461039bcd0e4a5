"""What a face looks like in its frame, beyond its landmarks: where it is and how sharp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE = 128


@dataclass(frozen=True, slots=True)
class FaceBox:
    """An upright box over a face, as shares of the image's width and height; it may stick out of the image."""

    left: float
    top: float
    right: float
    bottom: float

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the part of `image` (H, W, ...) under the box, at least one pixel."""
        height, width = image.shape[:2]
        top, left = int(np.clip(self.top * height, 0, height - 1)), int(np.clip(self.left * width, 0, width - 1))
        bottom = int(np.clip(np.ceil(self.bottom * height), top + 1, height))
        right = int(np.clip(np.ceil(self.right * width), left + 1, width))
        return image[top:bottom, left:right]


def face_box(landmarks: NDArray[np.float32]) -> FaceBox:
    """Return the box around normalised landmarks (V, 3)."""
    (left, top), (right, bottom) = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    return FaceBox(float(left), float(top), float(right), float(bottom))


def sharpness(image: NDArray[np.uint8], box: FaceBox) -> float:
    """Return the variance of the Laplacian of a face in an RGB image, resampled to 128 × 128 px of grey.

    The size is fixed so that near and far faces compare; pixels are picked, not averaged, and green stands for grey:
    this is done for every frame, beside the detector. Pech-Pacheco et al., "Diatom autofocusing in brightfield
    microscopy: a comparative study", ICPR 2000.
    """
    import cv2

    small = cv2.resize(box.crop(image), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(np.ascontiguousarray(small[..., 1]), cv2.CV_16S))
    return float(deviation[0, 0]) ** 2
