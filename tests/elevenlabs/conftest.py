"""A stand-in that beeps, and the real SDK talking to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.elevenlabs.formats import encode
from tests.elevenlabs.server import StandIn

if TYPE_CHECKING:
    from elevenlabs.client import ElevenLabs

ADAM = "pNInz6obpgDQGcFmaJgB"
TEXT = "It is 5 o'clock, and the harbour is quiet."
RECORDING = encode(np.zeros(12_000, np.int16), 24_000, "wav_24000")
"""Half a second, for uploads."""


def sdk(standin: StandIn, **settings: Any) -> ElevenLabs:
    """Return the SDK's client for a stand-in."""
    from elevenlabs.client import ElevenLabs

    return ElevenLabs(api_key=standin.api_key, base_url=standin.url, **settings)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(speech="beeps", tier="pro") as running:
        yield running


@pytest.fixture
def client(standin: StandIn) -> ElevenLabs:
    return sdk(standin)
