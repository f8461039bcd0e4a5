"""The signature of a webhook: checked with the library that receivers use, and the secret stays one."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from avatar_pipeline.callbacks.signing import Signer
from avatar_pipeline.errors import EnvironmentProblem, InvalidInput
from avatar_pipeline.settings import Settings


def secret_of(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


SECRET = secret_of(bytes(range(32)))


def signer(secret: str | None) -> Signer:
    return Signer(Settings(callbacks=True, callback_secret=secret))


@given(st.text(), st.binary(min_size=24, max_size=64))
def test_the_library_of_a_receiver_accepts_what_we_sign(body: str, key: bytes) -> None:
    headers = signer(secret_of(key)).headers("msg_clip-1_7", body, datetime.now(UTC))
    Webhook(secret_of(key)).verify(body.encode(), headers, json_parse=False)
    assert headers["webhook-id"] == "msg_clip-1_7"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_of(key)).verify(body.encode() + b" ", headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_of(key)).verify(body, {**headers, "webhook-id": "msg_clip-2_7"}, json_parse=False)


def test_while_a_secret_is_changed_both_the_old_and_the_new_one_are_good() -> None:
    other = secret_of(b"n" * 24)
    headers = signer(f"{SECRET} {other}").headers("msg_a_1", "{}", datetime.now(UTC))
    for secret in (SECRET, other):
        assert Webhook(secret).verify("{}", headers) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_of(b"x" * 24)).verify("{}", headers)


@pytest.mark.parametrize("secret", [None, "", "   "])
def test_without_a_secret_nothing_is_signed_and_the_remedy_makes_one(secret: str | None) -> None:
    with pytest.raises(EnvironmentProblem, match="AVATAR_CALLBACK_SECRET is not set") as caught:
        signer(secret)
    assert "openssl rand -base64 32" in caught.value.remedy


@pytest.mark.parametrize(
    "secret",
    [
        SECRET.removeprefix("whsec_"),
        "whsec_",
        "whsec_short",
        "whsec_" + "!" * 43 + "=",
        SECRET[:-1],
        SECRET.replace("A", "*"),
        secret_of(b"k" * 23),
        secret_of(b"k" * 65),
        f"{SECRET} whsec_bad",
        "whsec_ümläut" + "a" * 40,
    ],
)
def test_a_secret_that_is_none_is_refused_and_never_quoted(secret: str) -> None:
    with pytest.raises(InvalidInput, match="AVATAR_CALLBACK_SECRET is not whsec_") as caught:
        signer(secret)
    for text in (str(caught.value), repr(caught.value)):
        assert secret.removeprefix("whsec_")[:8] not in text or len(secret) < 7
    assert caught.value.__cause__ is None


def test_the_secret_is_in_no_representation() -> None:
    one = signer(SECRET)
    assert SECRET[6:14] not in repr(one) + str(one) + repr(Settings(callback_secret=SECRET))
