"""Takes a voice out of its noise: a small network of our own, a classical estimator, or a model of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avatar_pipeline.media.types import Audio


def isolate(audio: Audio) -> Audio:
    """Isolate with the classical estimator."""
    from avatar_pipeline.voice.isolation.dsp import DspIsolator

    return DspIsolator().isolate(audio)
