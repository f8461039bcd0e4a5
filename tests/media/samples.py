"""Small videos that the tests make for themselves: each frame carries its own number, so any frame can be told."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SIDE = 256
_BITS = 10


def numbered_frame(number: int, width: int = SIDE, height: int = SIDE) -> NDArray[np.uint8]:
    """An RGB frame whose top row of blocks is `number` in binary, with a red corner at the top left below it."""
    image = np.full((height, width, 3), 90, np.uint8)
    block = width // _BITS
    for bit in range(_BITS):
        image[: height // 4, bit * block : (bit + 1) * block] = 235 if number >> bit & 1 else 20
    image[height // 2 :, : width // 2] = (200, 40, 40)
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that `numbered_frame` drew; for RGB (H, W, 3) and I420 (H*3/2, W) images."""
    luma = image.mean(axis=2) if image.ndim == 3 else image[: image.shape[0] * 2 // 3].astype(float)
    height, width = luma.shape
    block = width // _BITS
    row = luma[height // 16 : height // 5]
    return sum(1 << bit for bit in range(_BITS) if row[:, bit * block + 5 : (bit + 1) * block - 5].mean() > 128)


def tone(seconds: float, rate: int = 48_000, hz: float = 440.0) -> NDArray[np.float32]:
    """A sine of amplitude 0.5, mono."""
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_video(
    path: Path,
    *,
    frames: int = 60,
    fps: Fraction | int = 25,
    width: int = SIDE,
    height: int = SIDE,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    sound: NDArray[np.float32] | None = None,
    sound_codec: str = "aac",
    sound_rate: int = 48_000,
    rotation: int = 0,
    mirrored: bool = False,
    gop: int = 25,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a video of numbered frames, at the times `pts` in units of `time_base` where given."""
    fps = Fraction(fps)
    with av.open(str(path), "w", container_options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=fps, options={"preset": "ultrafast"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.codec_context.options |= options or {}
        if time_base is not None:
            stream.codec_context.time_base = time_base
            stream.time_base = time_base
        if rotation or mirrored:
            stream.set_display_rotation(-rotation, hflip=mirrored)
        voice = out.add_stream(sound_codec, rate=sound_rate, layout="mono") if sound is not None else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, width, height), "rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.pts = number if pts is None else pts[number]
            frame.time_base = time_base or 1 / fps
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if voice is not None and sound is not None:
            _write_sound(out, voice, sound, sound_rate)
    return path


def _write_sound(
    out: av.container.OutputContainer, stream: av.AudioStream, sound: NDArray[np.float32], rate: int
) -> None:
    size = 1024
    for begin in range(0, len(sound), size):
        frame = av.AudioFrame.from_ndarray(sound[None, begin : begin + size], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
