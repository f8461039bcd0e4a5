"""Speech to test with: spoken by eSpeak NG, and real recordings where the evaluation data is at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.espeak import Settings, speak
from avatar_pipeline.voice.local import LocalVoiceProvider

if TYPE_CHECKING:
    from tests.voice.hosted import Desk

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PASSAGE = (
    "The harbour was quiet when we came back from the islands. Nobody had thought to leave a light on, "
    "so my brother walked ahead with a small lamp, and the rest of us followed as well as we could. "
    "What would you have done?"
)
ANOTHER_PASSAGE = (
    "My neighbour keeps bees on the roof of the house. In summer they fly out to the park, and in winter she feeds "
    "them sugar. Last year there was honey for everybody in the street, and some was left for the school."
)


def say(text: str, **settings: str | int) -> Audio:
    """Speak `text` with eSpeak NG, as a source of speech."""
    spoken = speak(text, Settings(**({"voice": "gmw/en-US"} | settings)))  # type: ignore[arg-type]
    return Audio(spoken.samples.astype(np.float32) / 32768, spoken.rate)


@pytest.fixture(scope="session")
def speech() -> Audio:
    return say(PASSAGE)


@pytest.fixture(scope="session")
def man() -> Audio:
    return say(PASSAGE, pitch=40)


@pytest.fixture(scope="session")
def man_again() -> Audio:
    return say(ANOTHER_PASSAGE, pitch=40)


@pytest.fixture(scope="session")
def woman() -> Audio:
    return say(ANOTHER_PASSAGE, voice="gmw/en-US+f3", pitch=60)


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


@pytest.fixture(scope="session")
def migrated_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger, to be copied."""
    from avatar_pipeline.ledger.ledger import Ledger

    file = tmp_path_factory.mktemp("hosted") / "ledger.db"
    Ledger(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def open_desk(migrated_ledger: Path, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Makes the desk of a test of the hosted voice: `open_desk(**rules)`, with the rules of the stand-in."""
    from contextlib import ExitStack

    from avatar_pipeline.ledger.ledger import Ledger
    from tests.elevenlabs.server import StandIn
    from tests.voice.hosted import Desk

    with ExitStack() as stack:

        def make(**rules: Any) -> Desk:
            shutil.copyfile(migrated_ledger, tmp_path / "ledger.db")
            standin = stack.enter_context(StandIn(**({"speech": "beeps"} | rules)))
            ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
            stack.callback(ledger.close)
            return Desk(tmp_path, standin, ledger)

        yield make


def load(path: Path) -> Audio:
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32")
    return Audio(samples, rate)


def join(*parts: Audio) -> Audio:
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].rate)
