"""Contact sheets: a row of frames as one small JPEG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatar_pipeline.errors import InvalidMedia

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]

MAX_BYTES = 50_000
"""An image in Dagster's metadata is kept in its event log; more than this and the log grows heavy."""


_LONGEST_FRAME = 0.2
"""Seconds: longer than any frame of a video at the least frame rate we accept."""


def jpeg(image: Rgb, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode an RGB image (H, W, 3) as JPEG of at most `max_bytes`: quality gives way first, then size."""
    from PIL import Image

    picture = Image.fromarray(image)
    while True:
        for quality in (85, 75, 65, 50):
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= max_bytes:
                return buffer.getvalue()
        picture = picture.resize((max(1, picture.width * 3 // 4), max(1, picture.height * 3 // 4)))


def contact_sheet(images: Sequence[Rgb], *, columns: int = 4, cell: int = 200) -> Rgb:
    """Lay RGB images out in a grid; each is scaled so that its long side is `cell` pixels."""
    import numpy as np
    from PIL import Image

    scale = cell / max(max(image.shape[:2]) for image in images)
    cells = []
    for image in images:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        cells.append(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)))
    height, width = max(c.shape[0] for c in cells), max(c.shape[1] for c in cells)
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    gap = 4
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, picture in enumerate(cells):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def frames_at(video: Path, times: Sequence[float]) -> list[Rgb]:
    """Decode the frames shown at `times` (seconds, each within the video), one seek a frame.

    Raises:
        InvalidMedia: there is no frame at or around one of the times.
    """
    return [_frame_at(video, moment) for moment in times]


def _frame_at(video: Path, moment: float) -> Rgb:
    from avatar_pipeline.media.decode import decode_frames

    shown = None
    start = Fraction(max(0.0, moment - _LONGEST_FRAME)).limit_denominator(100_000)
    with closing(decode_frames(video, start=start, prefetch=0)) as frames:
        for frame in frames:
            if shown is not None and frame.time > moment:
                break
            shown = frame.image
    if shown is None:
        raise InvalidMedia(f"{video.name} has no frame at {moment:.2f} s.", remedy="Export the video again.")
    return shown


def spread(seconds: float, count: int) -> list[float]:
    """Return `count` times spread evenly over a video of `seconds`, away from both ends."""
    return [seconds * (number + 0.5) / count for number in range(count)]


def draw_landmarks(image: Rgb, landmarks: NDArray[np.floating[Any]]) -> Rgb:
    """Return a copy of an RGB image with landmarks (N, >=2; in units of the image's width and height) as dots."""
    import cv2

    height, width = image.shape[:2]
    canvas = image.copy()
    radius = max(1, round(min(height, width) / 400))
    for x, y in landmarks[:, :2]:
        cv2.circle(canvas, (round(float(x) * width), round(float(y) * height)), radius, (80, 255, 120), -1, cv2.LINE_AA)
    return canvas
