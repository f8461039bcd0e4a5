"""What takes a voice out of its noise looks like from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from avatar_pipeline.media.types import Audio

Progress = Callable[[float, float], None]
"""Called with the seconds done, and the seconds there are."""


class VoiceIsolator(Protocol):
    """Leaves the voice of a recording and turns the rest down."""

    @property
    def name(self) -> str:
        """'dsp', 'neural' or 'model', as the setting has it."""

    @property
    def fingerprint(self) -> str:
        """Method, version and hash of the weights: what a result depends on besides the sound."""

    def isolate(self, audio: Audio, progress: Progress | None = None) -> Audio:
        """Return the voice: same rate, same length, not delayed by a single sample.

        Memory beyond what comes in and goes out does not grow with the length.
        """
