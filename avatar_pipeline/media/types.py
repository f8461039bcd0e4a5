"""What the media room hands out: probed facts, decoded frames, audio."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What an upload may be. Everything is checked before a single frame is decoded, but for the truth of the file."""

    max_bytes: int = 2 * 1024**3
    min_seconds: float = 2.0
    max_seconds: float = 600.0
    min_side: int = 128
    max_long_side: int = 4096
    max_short_side: int = 2304
    min_fps: float = 10.0
    max_fps: float = 121.0


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The one audio stream of a file."""

    codec: str
    rate: int
    channels: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What `probe` learnt of a file.

    `width` and `height` are as displayed, that is after `rotation` (clockwise degrees: 0, 90, 180 or 270).
    """

    container: str
    codec: str
    width: int
    height: int
    rotation: int
    fps: Fraction
    seconds: float
    variable_frame_rate: bool
    size_bytes: int
    audio: AudioInfo | None


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame. `image` is uint8, upright, C-contiguous: (H, W, 3) for rgb24."""

    pts: int
    time_base: Fraction
    image: NDArray[np.uint8]

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.pts * self.time_base


@dataclass(frozen=True, slots=True)
class Audio:
    """Mono audio: float32 samples in [-1, 1] and their rate in Hz. Sample 0 is presentation time 0 of the file."""

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate
