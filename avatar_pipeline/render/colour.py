"""Pictures as YCbCr planes: BT.709, limited range, 4:2:0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.render.renderer import split_planes

_TO_YCBCR = np.array(
    [[0.2126, 0.7152, 0.0722], [-0.2126 / 1.8556, -0.7152 / 1.8556, 0.5], [0.5, -0.7152 / 1.5748, -0.0722 / 1.5748]]
)
"""ITU-R BT.709-6, items 3.2 and 3.3."""
_EXCURSION = np.array([219.0, 224.0, 224.0])
_OFFSET = np.array([16.0, 128.0, 128.0])
BLACK = 16.0
"""Luma of black."""


def atlas_to_ycbcr(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an RGB picture (H, W, 3) as Y, Cb, Cr of the same shape: no chroma is dropped."""
    values = rgb.astype(np.float32) / np.float32(255) @ (_TO_YCBCR.T * _EXCURSION).astype(np.float32)
    ycbcr: NDArray[np.uint8] = np.clip(np.rint(values + _OFFSET.astype(np.float32)), 0, 255).astype(np.uint8)
    return ycbcr


def scale_i420(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resample an I420 frame (H*3/2, W) to `size` (width, height; even) by area; where it fits, return it as it is."""
    import cv2

    width, height = size
    if frame.shape == (height * 3 // 2, width):
        return frame
    out = np.empty((height * 3 // 2, width), np.uint8)
    for source, target in zip(split_planes(frame), split_planes(out), strict=True):
        target[:] = cv2.resize(source, (target.shape[1], target.shape[0]), interpolation=cv2.INTER_AREA)
    return out
