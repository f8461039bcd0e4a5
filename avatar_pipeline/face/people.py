"""How many people are in a video, and how well they are lit, from a few frames spread over it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_pipeline.face.measure import FaceBox
from avatar_pipeline.face.quiet import without_chatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import MediaInfo

MOST_SAMPLES = 20
"""Frames looked at: one a second, and at most this many."""
LEAST_CONFIDENCE = 0.75
"""Real faces at talking distance score above 0.9; a blurred background was once taken for a face at over 0.6."""
SECOND_FACE_SIZE = 0.4
"""A second face counts from this share of the largest one's width: smaller ones are passers-by or pictures on walls."""
SECOND_FACE_SHARE = 0.25
"""It must be in this share of the samples, and in two of them if there are two, to be a person and not a mistake."""


@dataclass(frozen=True, slots=True)
class FaceCount:
    """What the samples showed: `samples` frames, `with_several` of them with two or more comparable faces.

    `brightness` is the median luma of the largest face, 0 to 255, NaN if no sample has a face.
    """

    samples: int
    with_several: int
    brightness: float

    @property
    def several(self) -> bool:
        """Whether more than one person is in the video."""
        return self.with_several >= max(min(2, self.samples), SECOND_FACE_SHARE * self.samples, 1)


def count_faces(path: Path, info: MediaInfo) -> FaceCount:
    """Look for people in a video with MediaPipe's short-range face detector, the one that Face Mesh starts from.

    A face that this detector does not see is none that landmark tracking could jump to.

    Raises:
        InvalidMedia: the video cannot be decoded.
        EnvironmentProblem: MediaPipe, or its face detector, is not there.
    """
    samples = with_several = 0
    brightness: list[float] = []
    for image, boxes in _detections(_samples(path, info)):
        widths = [box.right - box.left for box in boxes]
        samples += 1
        with_several += sum(width >= SECOND_FACE_SIZE * max(widths) for width in widths) > 1
        if boxes:
            brightness.append(_luma(boxes[int(np.argmax(widths))].crop(image)))
    return FaceCount(samples, with_several, float(np.median(brightness)) if brightness else float("nan"))


def _samples(path: Path, info: MediaInfo) -> Iterator[NDArray[np.uint8]]:
    """Yield RGB frames from all over the video: keyframes, where there are enough of them to be spread well."""
    count = min(MOST_SAMPLES, max(2, round(info.seconds)))
    span = Fraction(round(info.seconds * 1000 / count), 1000)
    keys: dict[int, Fraction] = {}
    for time in _key_times(path):
        keys.setdefault(max(0, time // span), time)
    times = [keys[index] for index in range(count) if index in keys]
    return _seek_to(path, times) if len(times) * 2 >= count else _pick(path, [span * index for index in range(count)])


def _key_times(path: Path) -> list[Fraction]:
    """Return the times at which decoding can start, without decoding."""
    from avatar_pipeline.media.container import open_media
    from avatar_pipeline.media.streams import video_stream

    with open_media(path) as container:
        stream = video_stream(container, path)
        # Only the times are kept: in all-intra video every packet is a keyframe, with all its data.
        return [
            packet.pts * packet.time_base
            for packet in container.demux(stream)
            if packet.is_keyframe and packet.pts is not None
        ]


def _seek_to(path: Path, times: list[Fraction]) -> Iterator[NDArray[np.uint8]]:
    from avatar_pipeline.media.decode import decode_frames

    for time in times:
        with closing(decode_frames(path, start=time, prefetch=1)) as frames:
            frame = next(frames, None)
        if frame is not None:
            yield frame.image


def _pick(path: Path, times: list[Fraction]) -> Iterator[NDArray[np.uint8]]:
    from avatar_pipeline.media.decode import decode_frames
    from avatar_pipeline.media.encode import i420_to_rgb

    waiting = deque(times)
    for frame in decode_frames(path, pixel_format="yuv420p", prefetch=2):
        if not waiting:
            return
        if frame.time >= waiting[0]:
            waiting.popleft()
            yield i420_to_rgb(frame.image)


def _detections(images: Iterator[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[np.uint8], list[FaceBox]]]:
    from avatar_pipeline.face.mediapipe_mesh import solution

    first = next(images, None)
    if first is None:
        return
    face_detection = solution("face_detection").FaceDetection
    with ExitStack() as stack:
        with without_chatter():
            detector = stack.enter_context(face_detection(min_detection_confidence=LEAST_CONFIDENCE, model_selection=0))
            boxes = _boxes(detector.process(first))
        yield first, boxes
        for image in images:
            yield image, _boxes(detector.process(image))


def _boxes(result: Any) -> list[FaceBox]:
    boxes = [detection.location_data.relative_bounding_box for detection in result.detections or []]
    return [FaceBox(box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height) for box in boxes]


def _luma(rgb: NDArray[np.uint8]) -> float:
    """Return the mean luma of an image (ITU-R BT.709-6)."""
    return float(rgb.reshape(-1, 3).mean(axis=0) @ [0.2126, 0.7152, 0.0722])
