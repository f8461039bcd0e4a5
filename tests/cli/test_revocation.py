"""After `avatar consent revoke` nothing of that voice remains, here or at the provider, and what waits is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.errors import ConsentRevoked
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.provenance.reading import read_credentials
from avatar_pipeline.queues.parse import dump
from avatar_pipeline.settings import Settings
from avatar_pipeline.stages.clips import make_clip, make_speech
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.line import open_line as open_line_of
from avatar_pipeline.stages.revocation import revoke_consent
from avatar_pipeline.stages.source import make_source_video
from avatar_pipeline.stages.voice import make_voice_model, read_voice
from avatar_pipeline.store.artifacts import Slot
from tests.conftest import avatar_environment, run_avatar

if TYPE_CHECKING:
    from tests.elevenlabs.server import StandIn

TEXT = "Nobody shall hear this afterwards."


def call(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avatar_pipeline.cli", *map(str, arguments)]
    return subprocess.run(command, env=avatar_environment(home), capture_output=True, text=True, check=False)


def everything(home: Path) -> dict[str, bytes]:
    """Return every file below a home, hidden ones too."""
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def databases(home: Path) -> str:
    """Return all that the databases below a home hold, as text, without what is deleted and not yet overwritten."""
    told = []
    for path in [*home.rglob("*.db")]:
        with sqlite3.connect(path) as database:
            told += list(database.iterdump())
    return "\n".join(told)


def test_nothing_is_left_of_the_avatar_and_what_waits_is_refused(own_home: Path, sample_upload: Path) -> None:
    said = Path(run_avatar(own_home, "say", "ada", TEXT)["clip"])
    assert read_credentials(said) is not None
    waiting = [ClipRequest(request_id=f"wait-{number}", avatar_id="ada", text="Hello.") for number in range(4)]
    with open_line() as line:
        # A figure of the voice that nothing else has.
        voice = str(read_voice(line, "ada")[0].facts["f0_median"])
        line.requests.submit(waiting[:2], batch_id="reserved")
        line.requests.submit(waiting[2:3])
        line.queues.clips.send([dump(waiting[3])])
        consent_id = line.ledger.avatar("ada").consent.consent_id
    assert voice in databases(own_home), "the figures of the voice are in Dagster's events before"
    done = run_avatar(own_home, "consent", "revoke", consent_id, "--yes")
    assert (done["avatars"], done["refused"], done["left"]) == (["ada"], 3, [])
    left = everything(own_home)
    names = {Path(name).name for name in left}
    assert not names & {"voice.wav", "speech.wav", "voice.json", "clip.mp4", "video", "timings.json", "avatar.glb"}
    assert not [name for name in left if name.startswith("store/avatars/ada") or "/ada/" in name]
    known = databases(own_home)
    assert voice not in known and "data:image/jpeg" not in known
    for request in waiting[:3]:
        told = run_avatar(own_home, "requests", request.request_id)
        assert told["state"] == "failed"
        assert told["history"][-1]["note"].startswith("refused: consent revoked")
    with open_line() as line:
        drain(line, "clip")
        line.requests.expire(unknown_avatar=timedelta(0))
        late = line.requests.get("wait-3")
        assert late.state == "failed" and "refused: consent revoked" in str(late.error)
    refused = (
        ("say", "ada", TEXT),
        ("create", "ada", sample_upload / "sample.mp4", "--consent", sample_upload / "consent.json"),
        ("create", "another", sample_upload / "sample.mp4", "--consent", sample_upload / "consent.json"),
    )
    for arguments in refused:
        result = call(own_home, *arguments)
        assert result.returncode == 2 and "refused: consent revoked" in result.stderr
    assert not (own_home / "store" / "avatars" / "ada").exists()


def test_a_rebuild_and_all_that_makes_anything_are_refused(own_home: Path) -> None:
    with open_line() as line:
        revoke_consent(line, line.ledger.avatar("ada").consent.consent_id)
        for stage in (make_source_video, make_voice_model):
            with pytest.raises(Exception, match=r"refused: consent revoked|has no isolated_voice yet"):
                stage(line, "ada")
        for make in (make_speech, make_clip):
            with pytest.raises(Exception, match=r"refused: consent revoked|has no voice_model yet"):
                make(line, "ada", TEXT)


def test_taken_back_while_a_clip_is_rendered_the_clip_is_not_kept(own_home: Path) -> None:
    with open_line() as line:
        consent_id = line.ledger.avatar("ada").consent.consent_id

        def revoke_when_rendered(stage: str, done: float, total: float | None) -> None:
            if stage == "clip" and done == total:
                revoke_consent(line, consent_id)

        with pytest.raises(ConsentRevoked):
            make_clip(replace(line, progress=revoke_when_rendered), "ada", "One, two, three.")
    assert [path for path in (own_home / "store" / "avatars").rglob("*") if path.is_file()] == []


@pytest.fixture
def hosted(own_home: Path, elevenlabs_standin: StandIn) -> Iterator[Line]:
    """The ready avatar, with a voice of its own at the stand-in."""
    settings = Settings(
        voice_provider="elevenlabs",
        AVATAR_ELEVENLABS_API_KEY=elevenlabs_standin.api_key,
        elevenlabs_url=elevenlabs_standin.url,
    )
    with open_line_of(settings) as line:
        make_voice_model(line, "ada")
        make_speech(line, "ada", TEXT)
        yield line


def test_nothing_is_left_of_the_voice_at_the_provider(
    hosted: Line, own_home: Path, elevenlabs_standin: StandIn
) -> None:
    before = elevenlabs_standin.report()
    assert len(before.voices) == 1 and before.history_items >= 1
    assert read_voice(hosted, "ada")[1].provider == "elevenlabs"
    (voice_id,) = before.voices
    assert voice_id in databases(own_home)
    hosted.requests.submit([ClipRequest(request_id="wait", avatar_id="ada", text="Hello.")])
    done = revoke_consent(hosted, hosted.ledger.avatar("ada").consent.consent_id)
    assert (done.left, done.refused) == ((), 1)
    after = elevenlabs_standin.report()
    assert dict(after.voices) == {} and after.history_items == 0
    assert hosted.requests.get("wait").error == ConsentRevoked("sample-consent").as_dict() | {
        "message": f"refused: consent revoked ({done.consent_id})."
    }
    left = everything(own_home)
    assert not [name for name in left if Path(name).suffix in {".speech", ".wav", ".mp4"}]
    assert voice_id not in databases(own_home)
    assert hosted.store.current(Slot.avatar("ada", "voice_model")) is None
