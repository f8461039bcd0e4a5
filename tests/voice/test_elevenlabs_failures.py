"""What each refusal of ElevenLabs means, in both shapes of its bodies."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import AccountRefused, ProviderBusy, ProviderDenied, QuotaExhausted, VoiceNotReady
from avatar_pipeline.voice.elevenlabs.errors import error_of, quota_exhausted
from avatar_pipeline.voice.elevenlabs.failures import LONGEST_MESSAGE, Failure, Kind, classify

TABLE = [
    (429, "too_many_concurrent_requests", Kind.CROWDED),
    (429, "concurrent_limit_exceeded", Kind.CROWDED),
    (429, "system_busy", Kind.BUSY),
    (429, "something_new", Kind.BUSY),
    (500, "internal_server_error", Kind.BUSY),
    (503, "", Kind.BUSY),
    (502, "", Kind.UNCLEAR),
    (504, "", Kind.UNCLEAR),
    (524, "", Kind.UNCLEAR),
    (408, "", Kind.UNCLEAR),
    (401, "quota_exceeded", Kind.QUOTA),
    (401, "invalid_api_key", Kind.KEY),
    (401, "something_new", Kind.KEY),
    (402, "payment_required", Kind.KEY),
    (400, "voice_limit_reached", Kind.VOICES_FULL),
    (400, "max_character_limit_exceeded", Kind.ITEM),
    (400, "voice_not_found", Kind.VOICE_GONE),
    (404, "voice_not_found", Kind.VOICE_GONE),
    (400, "voice_does_not_exist", Kind.VOICE_GONE),
    (403, "voice_not_verified", Kind.UNVERIFIED),
    (403, "can_not_use_instant_voice_cloning", Kind.ITEM),
    (422, "", Kind.ITEM),
]


@pytest.mark.parametrize(("status", "code", "kind"), TABLE)
@pytest.mark.parametrize("shape", ["status", "code"])
def test_the_table(status: int, code: str, kind: Kind, shape: str) -> None:
    detail = {"status": code, "message": "Why."}
    if shape == "code":
        detail = {"type": "some_error", "code": code, "message": "Why.", "request_id": "r"}
    if not code:
        detail = {"message": "Why."}
    found, name, message = classify(status, {"detail": detail})
    assert found is kind
    if code:
        assert (name, message) == (code, "Why.")


def test_a_list_says_where_it_is_wrong_and_does_not_repeat_what_was_sent() -> None:
    entry = {"loc": ["body", "text"], "msg": "Field required", "type": "missing", "input": {"text": "a secret text"}}
    kind, code, message = classify(422, {"detail": [entry]})
    assert (kind, code, message) == (Kind.ITEM, "invalid_request", "body.text: Field required")


def test_an_answer_that_was_cut_off_may_have_been_billed() -> None:
    assert classify(200, '{"audio_base64": "AAA')[0] is Kind.UNCLEAR


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DETAILS = st.fixed_dictionaries(
    {}, optional={"status": JSON, "code": JSON, "message": JSON, "type": JSON, "loc": JSON, "msg": JSON}
)


@given(st.integers(100, 999), st.fixed_dictionaries({"detail": DETAILS | st.lists(DETAILS | JSON) | JSON}) | JSON)
def test_whatever_comes_is_classified(status: int, body: object) -> None:
    kind, code, message = classify(status, body)
    assert code and code == code.strip() and len(code) <= 80
    assert message and len(message) <= LONGEST_MESSAGE and message.isprintable()
    if 400 <= status < 500 and kind is Kind.BUSY:
        assert status in {425, 429} or code in {"system_busy", "rate_limit_exceeded"}


@given(st.sampled_from([code for _, code, _ in TABLE if code]), st.integers(400, 599))
def test_a_known_code_counts_whatever_the_status_is(code: str, status: int) -> None:
    known = {name: kind for _, name, kind in TABLE}
    kinds = {classify(status, {"detail": detail})[0] for detail in ({"status": code}, {"type": "x", "code": code})}
    if code not in {"something_new", "internal_server_error", "can_not_use_instant_voice_cloning"}:
        assert kinds == {known[code]}
    assert len(kinds) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.BUSY, ProviderBusy),
        (Kind.UNCLEAR, ProviderBusy),
        (Kind.CROWDED, ProviderBusy),
        (Kind.QUOTA, QuotaExhausted),
        (Kind.KEY, AccountRefused),
        (Kind.ITEM, ProviderDenied),
        (Kind.VOICE_GONE, ProviderDenied),
        (Kind.VOICES_FULL, ProviderDenied),
        (Kind.UNVERIFIED, VoiceNotReady),
    ],
)
def test_each_is_an_error_that_says_what_to_do(kind: Kind, error: type[Exception]) -> None:
    found = error_of(Failure(kind, "code_of_it", "Why."))
    assert type(found) is error
    assert "code_of_it" in found.message and found.remedy


def test_a_reset_that_nobody_knows_or_that_is_over_is_waited_for_an_hour() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    failure = Failure(Kind.QUOTA, "quota_exceeded", "Why.")
    assert quota_exhausted(failure, None, now)[1] == now + timedelta(hours=1)
    assert quota_exhausted(failure, now - timedelta(days=1), now)[1] == now + timedelta(hours=1)
    error, until = quota_exhausted(failure, now + timedelta(days=3), now)
    assert error.resets_at == until == now + timedelta(days=3)
