"""Signatures of webhooks, as Standard Webhooks has them (https://www.standardwebhooks.com)."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.ledger.callbacks import Callback
from avatar_pipeline.settings import InvalidSettings, Settings

PREFIX = "whsec_"
SHORTEST_KEY, LONGEST_KEY = 24, 64
"""Bytes of a key, by the specification."""
GENERATE = "echo whsec_$(openssl rand -base64 32)"


class Signer:
    """Signs bodies with the secret of the settings; with several secrets, while one takes over from another, by each.

    Raises:
        EnvironmentProblem: no secret is set.
        InvalidSettings: a secret is not `whsec_` and the base64 of 24 to 64 bytes.
    """

    def __init__(self, settings: Settings) -> None:
        secret = settings.callback_secret
        words = [] if secret is None else secret.get_secret_value().split()
        if not words:
            raise EnvironmentProblem(
                "AVATAR_CALLBACKS is on and AVATAR_CALLBACK_SECRET is not set: webhooks are signed, always.",
                remedy=f"Make a secret ({GENERATE}), set it, and give it to those who receive the webhooks.",
            )
        from standardwebhooks.webhooks import Webhook

        self._hooks = [Webhook(key) for key in _keys(words)]

    def headers(self, message_id: str, body: str, at: datetime) -> dict[str, str]:
        """Return the headers that prove that `body` is ours and was sent at `at`.

        Two calls with the same `message_id` are the same webhook to its receiver.
        """
        signatures = [hook.sign(msg_id=message_id, timestamp=at, data=body) for hook in self._hooks]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def message_id(callback: Callback) -> str:
    """Return the webhook-id of a callback, the same at every attempt; a full stop must not be in one."""
    return f"msg_{callback.request_id}_{callback.id}"


def _keys(words: Sequence[str]) -> list[bytes]:
    keys = []
    for word in words:
        try:
            # The library passes over what is no base64, and would sign with what is left.
            key = b64decode(word.removeprefix(PREFIX), validate=True) if word.startswith(PREFIX) else b""
        except (binascii.Error, ValueError):
            key = b""
        if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
            # Not chained, and nothing quoted: it is a secret.
            raise InvalidSettings(
                f"AVATAR_CALLBACK_SECRET is not {PREFIX} and the base64 of {SHORTEST_KEY} to {LONGEST_KEY} bytes.",
                remedy=f"Make a new one: {GENERATE}.",
            ) from None
        keys.append(key)
    return keys
