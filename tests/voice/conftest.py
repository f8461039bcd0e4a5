"""Speech to test with: spoken by eSpeak NG, and real recordings where the evaluation data is at hand."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.espeak import Settings, speak
from avatar_pipeline.voice.local import LocalVoiceProvider

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PASSAGE = (
    "The harbour was quiet when we came back from the islands. Nobody had thought to leave a light on, "
    "so my brother walked ahead with a small lamp, and the rest of us followed as well as we could. "
    "What would you have done?"
)


def say(text: str, **settings: str | int) -> Audio:
    """Speak `text` with eSpeak NG, as a source of speech."""
    spoken = speak(text, Settings(**({"voice": "gmw/en-US"} | settings)))  # type: ignore[arg-type]
    return Audio(spoken.samples.astype(np.float32) / 32768, spoken.rate)


@pytest.fixture(scope="session")
def speech() -> Audio:
    return say(PASSAGE)


@pytest.fixture(scope="session")
def provider() -> LocalVoiceProvider:
    return LocalVoiceProvider(clock=lambda: NOW)


@pytest.fixture(scope="session")
def consent() -> ConsentRecord:
    return ConsentRecord(
        consent_id="consent-1",
        subject="Ada",
        statement="I agree that my voice is used for my avatar.",
        statement_version="1",
        scope=frozenset({"voice"}),
        given_at=datetime(2025, 1, 1, tzinfo=UTC),
    )


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The audio folder of the evaluation data."""
    root = os.environ.get("AVATAR_EVAL_DATA")
    if not root:
        pytest.skip("AVATAR_EVAL_DATA is not set: no real recordings to measure on")
    return Path(root) / "audio"


def load(path: Path) -> Audio:
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32")
    return Audio(samples, rate)


def join(*parts: Audio) -> Audio:
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].rate)
