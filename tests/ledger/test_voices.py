"""Voices at providers, on SQLite and on PostgreSQL."""

import pytest

from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.voices import VoiceBook, VoiceRecord
from tests.ledger.desk import NOW, SECOND, Desk


@pytest.fixture
def voices(desk: Desk) -> VoiceBook:
    return VoiceBook(desk.ledger.engine, clock=desk.clock)


def ready(voices: VoiceBook, key: str, avatar_id: str | None = "ada", consent_id: str | None = "consent-1") -> None:
    voices.remember(
        provider="acme",
        voice_key=key,
        state="ready",
        voice_id=f"id-{key}",
        avatar_id=avatar_id,
        consent_id=consent_id,
        name=f"voice {key}",
    )


def keys(records: list[VoiceRecord]) -> list[str]:
    return [record.voice_key for record in records]


def test_a_voice_is_remembered_by_what_it_was_made_from(desk: Desk, voices: VoiceBook) -> None:
    assert voices.get("acme", "k1") is None
    made = voices.remember(provider="acme", voice_key="k1", state="making", avatar_id="ada", consent_id="consent-1")
    assert made == VoiceRecord("acme", "k1", None, "making", "ada", "consent-1", "", NOW, NOW)
    desk.now += SECOND
    ready(voices, "k1")
    assert voices.get("acme", "k1") == VoiceRecord(
        "acme", "k1", "id-k1", "ready", "ada", "consent-1", "voice k1", NOW + SECOND, NOW + SECOND
    )
    assert voices.get("other", "k1") is None


def test_those_that_were_silent_for_longest_are_parked_first(desk: Desk, voices: VoiceBook) -> None:
    for key in ("a", "b", "c", "d"):
        ready(voices, key)
        desk.now += SECOND
    voices.touch("acme", "a")
    voices.touch("acme", "never heard of")
    voices.set_state("acme", "b", "unverified")
    assert keys(voices.park_candidates("acme")) == ["c"]
    assert keys(voices.park_candidates("acme", limit=9)) == ["c", "d", "a"]
    assert voices.park_candidates("other") == []


def test_a_clock_that_is_behind_takes_back_no_use(desk: Desk, voices: VoiceBook) -> None:
    ready(voices, "a")
    desk.now -= SECOND
    voices.touch("acme", "a")
    found = voices.get("acme", "a")
    assert found is not None
    assert found.last_used_at == NOW


def test_a_state_changes_alone_or_with_the_id(desk: Desk, voices: VoiceBook) -> None:
    ready(voices, "k1")
    desk.now += SECOND
    voices.set_state("acme", "k1", "unverified")
    found = voices.get("acme", "k1")
    assert found is not None
    assert (found.state, found.voice_id, found.updated_at) == ("unverified", "id-k1", NOW + SECOND)
    voices.set_state("acme", "k1", "parked", voice_id=None)
    found = voices.get("acme", "k1")
    assert found is not None
    assert (found.state, found.voice_id) == ("parked", None)
    with pytest.raises(NotFound, match="k2"):
        voices.set_state("acme", "k2", "deleted")


def test_the_voices_of_a_consent_and_of_an_avatar(voices: VoiceBook) -> None:
    ready(voices, "b")
    ready(voices, "a", consent_id="consent-2")
    ready(voices, "c", avatar_id="bob")
    ready(voices, "stock", avatar_id=None, consent_id=None)
    assert keys(voices.of_consent("consent-1")) == ["b", "c"]
    assert keys(voices.of_avatar("ada")) == ["a", "b"]
    assert voices.of_avatar("nobody") == []


def test_an_avatar_goes_and_a_voice_that_the_provider_has_stays_known(desk: Desk, voices: VoiceBook) -> None:
    for key in ("ready", "parked", "gone"):
        ready(voices, key)
    voices.set_state("acme", "parked", "parked", voice_id=None)
    voices.set_state("acme", "gone", "deleted", voice_id=None)
    desk.ledger.delete_avatar("ada")
    assert keys(voices.of_avatar("ada")) == ["parked", "ready"]


def test_voices_that_were_deleted_long_ago_are_forgotten(desk: Desk, voices: VoiceBook) -> None:
    ready(voices, "a")
    ready(voices, "b")
    voices.set_state("acme", "a", "deleted", voice_id=None)
    assert voices.prune(NOW) == 0
    assert voices.prune(NOW + SECOND) == 1
    assert voices.get("acme", "a") is None
    assert voices.get("acme", "b") is not None
