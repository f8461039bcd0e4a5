"""`avatar consent` and `avatar verify`: for eyes and for machines, with exit codes that mean something."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.provenance import sign
from avatar_pipeline.settings import read_settings
from tests.cli.conftest import CONSENT, Avatar
from tests.provenance.samples import CLAIM, make


def register(name: str, **changes: object) -> None:
    record = ConsentRecord.model_validate(CONSENT | changes)
    with open_line() as line:
        line.ledger.register_avatar(
            name, voice="local:en", greeting="Hello.", upload_key="k", source_name="me.mp4", consent=record
        )
        line.ledger.set_avatar_state(name, "ready")


def test_consents_are_listed_with_what_they_are_good_for(avatar: Avatar) -> None:
    ended = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    register("ada")
    register("bob")
    register("eve", consent_id="consent-2", scope=["likeness"], expires_at=ended, subject="Eve\x1b[31m")
    code, out, _ = avatar("consent", "list")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "in force" in rows["consent-1"] and "ada, bob" in rows["consent-1"]
    assert "expired" in rows["consent-2"] and "\x1b" not in out
    listed = json.loads(avatar("consent", "list", "--json")[1])
    assert [(one["consent_id"], one["state"], one["avatars"]) for one in listed] == [
        ("consent-1", "in force", ["ada", "bob"]),
        ("consent-2", "expired", ["eve"]),
    ]


def test_one_is_shown_whole(avatar: Avatar) -> None:
    register("ada")
    code, out, _ = avatar("consent", "show", "consent-1")
    assert code == 0
    for text in ("consent-1: in force", "subject: Nobody", "avatars: ada", CONSENT["statement"]):
        assert str(text) in out
    told = json.loads(avatar("consent", "show", "consent-1", "--json")[1])
    assert told["statement"] == CONSENT["statement"] and told["scope"] == ["likeness", "voice"]
    code, _, err = avatar("consent", "show", "consent-9")
    assert code == 2 and "avatar consent list" in err


def test_taking_one_back_refuses_what_waits_and_says_what_was_done(avatar: Avatar) -> None:
    register("ada")
    with open_line() as line:
        line.requests.submit([ClipRequest(request_id="r-1", avatar_id="ada", text="Hello.")])
    code, out, _ = avatar("consent", "revoke", "consent-1", "--reason", "by post", "--yes", "--json")
    done = json.loads(out)
    assert code == 0
    assert (done["avatars"], done["refused"], done["left"]) == (["ada"], 1, [])
    assert "refused: consent revoked" in avatar("requests", "r-1")[1]
    assert "consent-1: revoked" in avatar("consent", "show", "consent-1")[1]
    assert json.loads(avatar("consent", "show", "consent-1", "--json")[1])["reason"] == "by post"
    code, _, err = avatar("say", "ada", "Hello.")
    assert code == 2 and "refused: consent revoked" in err
    code, out, _ = avatar("consent", "revoke", "consent-1", "--yes")
    assert code == 0 and "0 requests refused" in out


def test_it_asks_first_and_an_unknown_id_is_told(avatar: Avatar) -> None:
    register("ada")
    code, _, err = avatar("consent", "revoke", "consent-1")
    assert code == 1 and "delete all that was made with it" in err
    code, _, err = avatar("consent", "revoke", "consent-9", "--yes")
    assert code == 2 and "--unknown" in err
    assert json.loads(avatar("consent", "list", "--json")[1])[0]["state"] == "in force"
    assert avatar("consent", "revoke", "consent-9", "--yes", "--unknown")[0] == 0
    told = json.loads(avatar("consent", "show", "consent-9", "--json")[1])
    assert (told["state"], told["subject"], told["avatars"]) == ("revoked", None, [])


def test_a_consent_that_was_taken_back_makes_no_avatar(avatar: Avatar, upload: tuple[Path, Path]) -> None:
    avatar("consent", "revoke", "consent-1", "--yes", "--unknown")
    video, consent = upload
    code, _, err = avatar("create", "ada", video, "--consent", consent)
    assert code == 2 and err.startswith("error: refused: consent revoked (consent-1)")


def test_verify_tells_good_from_changed_and_from_none(avatar: Avatar, tmp_path: Path) -> None:
    path = make(tmp_path / "speech.wav")
    code, _, err = avatar("verify", path)
    assert code == 2 and "no content credentials" in err
    sign(path, CLAIM, read_settings())
    code, out, _ = avatar("verify", path)
    assert code == 0
    assert "speech.wav: Valid, signed with a test certificate" in out and "trainedAlgorithmicMedia" in out
    told = json.loads(avatar("verify", path, "--json")[1])
    assert (told["state"], told["is_test"], told["origin"]["voice_provider"]) == ("Valid", True, "local")
    with path.open("r+b") as file:
        file.seek(5_000)
        file.write(os.urandom(8))
    code, out, _ = avatar("verify", path)
    assert code == 1 and "Invalid: changed after it was signed" in out
    code, _, err = avatar("verify", tmp_path / "none.wav")
    assert code == 2 and err.count("\n") == 1


@pytest.mark.parametrize("command", [("consent", "list"), ("consent", "show", "x1"), ("verify", "x.wav")])
def test_errors_are_one_line_or_one_document(command: tuple[str, ...], avatar: Avatar) -> None:
    code, out, err = avatar(*command, "--json")
    assert code in {0, 2} and err == ""
    json.loads(out)
