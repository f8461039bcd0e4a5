"""A consent that is taken back: recorded first, then everything goes, whatever dies or is down in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import ConsentMissing, ConsentRevoked, InvalidId, NotFound
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.stages.avatar_requests import take_in_uploads
from avatar_pipeline.stages.consent import consent_recording, recording_recipe, require_consent
from avatar_pipeline.stages.intake import register_avatar, upload_of
from avatar_pipeline.stages.line import Line, produce
from avatar_pipeline.stages.revocation import anything_left, finish_revocations, revoke_consent
from avatar_pipeline.store.artifacts import ArtifactStore, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints
from avatar_pipeline.voice.types import VoiceModel
from tests.stages.benches import make_line

if TYPE_CHECKING:
    from tests.elevenlabs.server import StandIn

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MADE = ("upload", "isolated_voice", "enrolment", "voice_model", "speech", "clips", "mesh", "consent_recording")


def consent(name: str = "consent-1", **changes) -> ConsentRecord:
    values = {
        "consent_id": name,
        "subject": "A person",
        "statement": "I agree that my likeness and voice are used.",
        "statement_version": "1",
        "scope": {"likeness", "voice"},
        "given_at": NOW - timedelta(days=1),
    }
    return ConsentRecord.model_validate(values | changes)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = make_line(tmp_path, lambda: NOW)
    yield line
    line.ledger.close()


def make_avatar(line: Line, avatar_id: str, record: ConsentRecord) -> None:
    """Put an avatar into the ledger as ready, and into its every slot something that holds its name."""
    line.ledger.register_avatar(
        avatar_id, voice="enrol:en", greeting="Hello.", upload_key="k", source_name="me.mp4", consent=record
    )
    line.ledger.set_avatar_state(avatar_id, "ready")
    for asset in MADE:
        with line.store.create(Recipe(Slot.avatar(avatar_id, asset), "1", {}, {})) as draft:
            (draft.folder / "content").write_text(f"<{avatar_id}>")
    with line.store.checkpoints(Slot.avatar(avatar_id, "clips"), "half-made").put("segment") as path:
        path.write_text(f"<{avatar_id}>")
    copies = line.settings.scratch / "copies" / "avatars" / avatar_id
    copies.mkdir(parents=True)
    (copies / "voice.json").write_text(f"<{avatar_id}>")


def files_of(line: Line, avatar_id: str) -> list[Path]:
    """Return every file of the home, but the ledger, whose path or content names the avatar."""
    files = [path for path in line.settings.home.rglob("*") if path.is_file() and not path.name.startswith("ledger.db")]
    return [path for path in files if avatar_id in path.parts or f"<{avatar_id}>".encode() in path.read_bytes()]


def clip(name: str, avatar_id: str = "ada") -> ClipRequest:
    return ClipRequest(request_id=name, avatar_id=avatar_id, text="Hello.")


def test_everything_made_with_it_goes_and_all_that_waits_is_refused(line: Line) -> None:
    make_avatar(line, "ada", consent())
    make_avatar(line, "bob", consent("consent-2"))
    line.requests.submit([clip("done"), clip("running"), clip("claimed")], batch_id="batch-1")
    line.requests.claim("batch-1", 3)
    line.requests.finish("done", clip_key="k")
    line.requests.begin("running", max_attempts=8)
    line.requests.submit([clip("queued"), clip("held"), clip("other", "bob")])
    line.requests.hold("held", "no credits left")
    done = revoke_consent(line, "consent-1", reason="asked by post")
    assert (done.avatars, done.refused, done.left) == (("ada",), 4, ())
    assert done.revoked_at == NOW
    for name in ("running", "claimed", "queued", "held"):
        record = line.requests.get(name)
        assert record.state == "failed" and record.error is not None
        assert record.error["code"] == "consent_revoked"
        assert line.requests.history(name)[-1].note == "refused: consent revoked (consent-1)."
    assert line.requests.get("done").state == "done"
    assert line.requests.get("other").state == "queued"
    assert files_of(line, "ada") == []
    assert len(files_of(line, "bob")) >= len(MADE)
    ada = line.ledger.avatar("ada")
    assert ada.state == "failed" and ada.error is not None and ada.error["code"] == "consent_revoked"
    assert line.ledger.avatar("bob").state == "ready"
    assert [(one.consent_id, one.reason) for one in line.consents.all()] == [("consent-1", "asked by post")]


def test_taking_it_back_again_changes_nothing(line: Line) -> None:
    make_avatar(line, "ada", consent())
    first = revoke_consent(line, "consent-1", reason="first")
    again = revoke_consent(replace(line, clock=lambda: NOW + timedelta(days=1)), "consent-1", reason="second")
    assert (again.revoked_at, again.refused, again.avatars, again.left) == (first.revoked_at, 0, ("ada",), ())
    assert [one.reason for one in line.consents.all()] == ["first"]
    assert not anything_left(line) and finish_revocations(line) == []


def test_whatever_uses_the_person_is_refused(line: Line) -> None:
    make_avatar(line, "ada", consent())
    avatar = line.ledger.avatar("ada")
    require_consent(line, avatar, "voice")
    with pytest.raises(ConsentMissing, match="expired"):
        require_consent(line, replace(avatar, consent=consent(expires_at=NOW)), "voice")
    revoke_consent(line, "consent-1")
    for scope in ("voice", "likeness"):
        with pytest.raises(ConsentRevoked, match="refused: consent revoked"):
            require_consent(line, avatar, scope)  # type: ignore[arg-type]
    with pytest.raises(ConsentRevoked):
        upload_of(line, avatar)


def test_a_consent_taken_back_registers_no_avatar_and_takes_no_avatars_place(line: Line, tmp_path: Path) -> None:
    """An old message that comes again must not put the old consent in the place of the new one."""
    make_avatar(line, "ada", consent("consent-2"))
    with pytest.raises(NotFound, match="No avatar was made with the consent 'consent-1'"):
        revoke_consent(line, "consent-1")
    assert line.consents.revoked_at("consent-1") is None
    assert revoke_consent(line, "consent-1", even_unknown=True).avatars == ()
    for avatar_id in ("ada", "new"):
        with pytest.raises(ConsentRevoked):
            register_avatar(line, avatar_id, tmp_path / "none.mp4", consent())
    assert line.ledger.avatar("ada").consent.consent_id == "consent-2"
    assert not line.ledger.has_avatar("new")


@pytest.mark.parametrize("name", ["", "A", "../../x", "a" * 64, "a b"])
def test_what_is_no_id_of_a_consent_is_refused(name: str, line: Line) -> None:
    with pytest.raises(InvalidId):
        revoke_consent(line, name, even_unknown=True)
    assert line.consents.all() == []


class Died(BaseException):
    """The process is killed here."""


@pytest.mark.parametrize("steps", range(2))
def test_killed_in_the_middle_it_is_refused_already_and_the_next_call_finishes(line: Line, steps: int) -> None:
    class Store(ArtifactStore):
        left = steps

        def delete_owner(self, collection: str, owner: str) -> None:
            if not self.left:
                raise Died
            self.left -= 1
            super().delete_owner(collection, owner)

    make_avatar(line, "ada", consent())
    make_avatar(line, "eve", consent())
    line.requests.submit([clip("queued")])
    dying = replace(line, store=Store(line.settings.store_uri, line.settings.scratch))
    with pytest.raises(Died):
        revoke_consent(dying, "consent-1")
    with pytest.raises(ConsentRevoked):
        require_consent(line, line.ledger.avatar("ada"), "likeness")
    assert line.requests.get("queued").state == "failed"
    (finished,) = finish_revocations(line)
    assert (finished.avatars, finished.left) == (("ada", "eve"), ())
    assert files_of(line, "ada") == files_of(line, "eve") == []
    assert finish_revocations(line) == []


def test_killed_right_after_it_was_recorded_it_is_carried_out_later(line: Line) -> None:
    make_avatar(line, "ada", consent())
    line.consents.revoke("consent-1", reason="")
    assert anything_left(line)
    (finished,) = finish_revocations(line)
    assert finished.avatars == ("ada",) and files_of(line, "ada") == []
    assert not anything_left(line)


def test_what_is_finished_after_it_was_taken_back_is_not_kept(line: Line) -> None:
    make_avatar(line, "ada", consent())

    def make(draft: Draft, _: Checkpoints) -> None:
        revoke_consent(line, "consent-1")
        draft.folder.mkdir(parents=True, exist_ok=True)
        (draft.folder / "clip.mp4").write_text("<ada>")

    with pytest.raises(ConsentRevoked):
        produce(line, Recipe(Slot.avatar("ada", "clips"), "2", {}, {}), make)
    assert files_of(line, "ada") == []


def test_who_renews_a_consent_takes_the_old_one_back_and_goes_on(line: Line) -> None:
    make_avatar(line, "ada", consent())
    line.voices.remember(
        provider="elevenlabs", voice_key="ada-1", state="ready", voice_id="v1", avatar_id="ada", consent_id="consent-1"
    )
    line.ledger.set_consent("ada", consent("consent-2"))
    done = revoke_consent(line, "consent-1")
    assert (done.avatars, done.left) == ((), ())
    assert line.ledger.avatar("ada").state == "ready" and files_of(line, "ada")
    voice = line.voices.get("elevenlabs", "ada-1")
    assert voice is not None and voice.state == "ready"


def test_the_files_that_requests_named_go_too(line: Line) -> None:
    uploads = Path(line.settings.uploads_uri)
    (uploads / "ada").mkdir(parents=True)
    for name in ("me.mp4", "consent.json", "i-agree.wav", "others.mp4"):
        (uploads / "ada" / name).write_text("<ada>")
    record = consent(recording="i-agree.wav", evidence_sha256="0" * 64)
    uris = {"video_uri": f"{uploads}/ada/me.mp4", "consent_uri": f"{uploads}/ada/consent.json"}
    line.requests.submit([AvatarRequest(avatar_id="ada", **uris)])
    make_avatar(line, "ada", record)
    assert revoke_consent(line, "consent-1").refused == 1
    assert [path.name for path in (uploads / "ada").iterdir()] == ["others.mp4"]


def test_a_request_that_comes_too_late_leaves_nothing_in_the_uploads_place(line: Line) -> None:
    """It has no avatar yet, so nothing but the request knows of its files; others' files stay."""
    uploads = Path(line.settings.uploads_uri)
    (uploads / "ada").mkdir(parents=True)
    for name in ("me.mp4", "i-agree.wav", "others.mp4"):
        (uploads / "ada" / name).write_text("<ada>")
    record = consent(recording="i-agree.wav", evidence_sha256="0" * 64)
    (uploads / "ada" / "consent.json").write_text(record.model_dump_json())
    uris = {name: f"{uploads}/ada/{file}" for name, file in (("video_uri", "me.mp4"), ("consent_uri", "consent.json"))}
    others = uris | {"video_uri": f"{uploads}/ada/others.mp4", "consent_uri": f"{uploads}/bob/consent.json"}
    late = AvatarRequest(avatar_id="ada", **uris)
    shared = AvatarRequest(avatar_id="eve", **uris | {"video_uri": others["video_uri"]})
    line.requests.submit([late, shared, AvatarRequest(avatar_id="bob", **others)])
    revoke_consent(line, "consent-1", even_unknown=True)
    for request in (late, shared):
        with pytest.raises(ConsentRevoked):
            take_in_uploads(line, request.avatar_id)
        assert line.requests.get(request.request_id).state == "failed"
    assert [path.name for path in (uploads / "ada").iterdir()] == ["others.mp4"]
    assert not line.ledger.has_avatar("ada")


def test_what_a_killed_worker_leaves_after_it_was_taken_back_goes_too(line: Line) -> None:
    make_avatar(line, "ada", consent())
    revoke_consent(line, "consent-1")
    with line.store.checkpoints(Slot.avatar("ada", "clips"), "half-made").put("segment") as path:
        path.write_text("<ada>")
    half_deleted = Path(line.settings.store_uri) / "avatars" / ".ada.0123abcd.deleted"
    half_deleted.mkdir(parents=True)
    (half_deleted / "voice.wav").write_text("<ada>")
    half_made = line.store.drafts_of("avatars", "ada") / "intake-1.tmp"
    half_made.mkdir(parents=True)
    (half_made / "video").write_text("<ada>")
    assert [one.avatars for one in finish_revocations(line)] == [("ada",)]
    assert files_of(line, "ada") == []
    assert finish_revocations(line) == []


def test_the_recording_of_a_consent_is_found_where_it_was_kept(line: Line) -> None:
    content = b"I agree."
    digest = hashlib.sha256(content).hexdigest()
    record = consent(recording="i-agree.wav", evidence_sha256=digest)
    line.ledger.register_avatar(
        "ada", voice="enrol:en", greeting="Hello.", upload_key="k", source_name="me.mp4", consent=record
    )
    avatar = line.ledger.avatar("ada")
    with pytest.raises(NotFound, match=r"i-agree\.wav"):
        consent_recording(line, avatar)
    with line.store.create(recording_recipe("ada", digest)) as draft:
        (draft.folder / "recording").write_bytes(content)
    found = consent_recording(line, avatar)
    assert found is not None and found.read_bytes() == content
    assert consent_recording(line, replace(avatar, consent=consent())) is None


def test_a_voice_at_a_provider_that_refuses_us_is_deleted_later(tmp_path: Path, elevenlabs_standin: StandIn) -> None:
    """What is here goes at once; the voice there stays known, and goes when the provider can be asked again."""
    at = {"voice_provider": "elevenlabs", "elevenlabs_url": elevenlabs_standin.url}
    refused = make_line(tmp_path, lambda: NOW, **at, AVATAR_ELEVENLABS_API_KEY="an-old-key")
    make_avatar(refused, "ada", consent())
    for key, state, voice_id in (("ada-1", "ready", "v1"), ("ada-2", "parked", None), ("ada-3", "unverified", "v3")):
        refused.voices.remember(
            provider="elevenlabs",
            voice_key=key,
            state=state,  # type: ignore[arg-type]
            voice_id=voice_id,
            avatar_id="ada",
            consent_id="consent-1",
        )
    paid_for = refused.settings.scratch / "speech-paid-for" / "ada-1"
    paid_for.mkdir(parents=True)
    (paid_for / "0.speech").write_text("<ada>")
    done = revoke_consent(refused, "consent-1")
    assert [text.split(" is still")[0] for text in done.left] == [f"the voice ada-{number}" for number in (1, 2, 3)]
    assert sum("not asked again" in text for text in done.left) == 2
    assert "an-old-key" not in json.dumps(done.left)
    assert files_of(refused, "ada") == []
    assert anything_left(refused)
    assert [len(one.left) for one in finish_revocations(refused)] == [3]
    key = SecretStr(elevenlabs_standin.api_key)
    line = replace(refused, settings=refused.settings.model_copy(update={"elevenlabs_api_key": key}))
    assert [one.left for one in finish_revocations(line)] == [()]
    assert {voice.state for voice in line.voices.of_consent("consent-1")} == {"deleted"}
    assert not anything_left(line) and finish_revocations(line) == []
    refused.ledger.close()


def test_a_voice_that_only_its_model_knows_is_deleted_too(line: Line) -> None:
    """It was made by a worker with another ledger, say before this one was brought back from a backup."""
    make_avatar(line, "ada", consent())
    model = VoiceModel(provider="nobody", language="en", label="cloned", parameters={"voice_key": "ada-1"})
    with line.store.create(Recipe(Slot.avatar("ada", "voice_model"), "2", {}, {})) as draft:
        (draft.folder / "voice.json").write_text(model.model_dump_json())
    found = line.store.find(Slot.avatar("ada", "voice_model"), draft.key)
    assert found is not None
    line.store.point(found)
    done = revoke_consent(line, "consent-1")
    assert len(done.left) == 1 and "ada-1 is still at nobody" in done.left[0]
    assert [voice.voice_key for voice in line.voices.of_consent("consent-1")] == ["ada-1"]
