"""Tiny videos of a real face for the tests: NASA's portrait of Eileen Collins, public domain, out of scikit-image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256
FPS = 25


def portrait() -> NDArray[np.uint8]:
    """The head (512, 512, 3), the face about 210 px wide."""
    from skimage import data

    return cv2.resize(data.astronaut()[0:256, 96:352], (512, 512), interpolation=cv2.INTER_CUBIC)


def moving_face(frames: int, *, side: int = SIDE) -> Iterator[NDArray[np.uint8]]:
    """The head, slowly panned, zoomed and tilted."""
    image = portrait()
    for index in range(frames):
        t = index / FPS
        matrix = cv2.getRotationMatrix2D((256, 256), 4 * np.sin(2 * t), (1.0 + 0.05 * np.sin(3 * t)) * side / 512)
        matrix[:, 2] += side / 2 - 256 + np.array([10 * np.sin(1.5 * t), 6 * np.cos(2.5 * t)])
        yield cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def blank(frames: int, *, side: int = SIDE) -> Iterator[NDArray[np.uint8]]:
    """A grey wall."""
    for _ in range(frames):
        yield np.full((side, side, 3), 110, np.uint8)


def write_video(path: Path, images: Iterable[NDArray[np.uint8]], *, keyframe_every: int = 12) -> Path:
    """Encode RGB images as H.264 at 25 frames a second."""
    import av

    with av.open(str(path), "w") as container:
        options = {"crf": "12", "preset": "ultrafast", "g": str(keyframe_every), "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for index, image in enumerate(images):
            if not index:
                stream.width, stream.height = image.shape[1], image.shape[0]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
