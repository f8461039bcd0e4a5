"""What a refusal of ElevenLabs means: one pure function of the answer's status and body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What is to be done about a failed call."""

    CROWDED = "crowded"
    """Too many calls at once: lower the limit, ask again. Nothing was done, and no attempt is counted."""
    BUSY = "busy"
    """Nothing was done; ask again after a pause that doubles."""
    UNCLEAR = "unclear"
    """It may have been done and billed: look into the history before asking again."""
    QUOTA = "quota"
    """The credits are used up: nothing more is sent until they are renewed."""
    KEY = "key"
    """The account refuses us, whatever we ask: stop."""
    VOICE_GONE = "voice_gone"
    """It knows no voice of that id (any more)."""
    VOICES_FULL = "voices_full"
    """No slot for another cloned voice is free."""
    UNVERIFIED = "unverified"
    """The voice must be verified by a person first."""
    ITEM = "item"
    """It refuses this one request, and would again."""


_BY_CODE = {
    "too_many_concurrent_requests": Kind.CROWDED,
    "concurrent_limit_exceeded": Kind.CROWDED,
    "system_busy": Kind.BUSY,
    "rate_limit_exceeded": Kind.BUSY,
    "quota_exceeded": Kind.QUOTA,
    "invalid_api_key": Kind.KEY,
    "needs_authorization": Kind.KEY,
    "missing_permissions": Kind.KEY,
    "detected_unusual_activity": Kind.KEY,
    "payment_required": Kind.KEY,
    "payment_issue": Kind.KEY,
    "voice_not_found": Kind.VOICE_GONE,
    "voice_does_not_exist": Kind.VOICE_GONE,
    "voice_limit_reached": Kind.VOICES_FULL,
    "voice_not_verified": Kind.UNVERIFIED,
    "voice_requires_verification": Kind.UNVERIFIED,
    "max_character_limit_exceeded": Kind.ITEM,
}
_CLEAR_BUSY = frozenset({425, 429, 500, 503, 529})
_GATEWAY = frozenset({408, 409, 502, 504})
LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call. `code` is the provider's, or ours where it gave none; `message` is safe to show and to log.

    `maximum` is how many calls at once the answer says are allowed, `credits` and `request_id` what it says was billed,
    `retry_after` how many seconds it asks to wait.
    """

    kind: Kind
    code: str
    message: str
    status: int | None = None
    maximum: int | None = None
    credits: int | None = None
    request_id: str | None = None
    retry_after: float | None = None


class ProviderFailure(Exception):
    """A call to ElevenLabs failed. It never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


def classify(status: int, body: object) -> tuple[Kind, str, str]:
    """Return what to do about an answer, its code, and its message.

    Both shapes of bodies are read, `{"detail": {"status": ...}}` and `{"detail": {"type": ..., "code": ...}}`, and the
    list of a 422. What was sent is not repeated in the message, only where it was wrong.
    """
    code, message = _read(body)
    if 200 <= status < 300:
        return Kind.UNCLEAR, "damaged_answer", "The answer was cut off or is not what was asked for."
    return _kind(status, code), code or f"http_{status}", message or f"HTTP status {status}."


def _kind(status: int, code: str) -> Kind:
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _CLEAR_BUSY:
        return Kind.BUSY
    if status in _GATEWAY or status > 504:
        return Kind.UNCLEAR
    if status >= 500:
        return Kind.BUSY
    if status in {401, 402}:
        return Kind.KEY
    return Kind.ITEM


def _read(body: object) -> tuple[str, str]:
    detail = body.get("detail") if isinstance(body, Mapping) else body
    if isinstance(detail, Mapping):
        names = [detail.get("status"), detail.get("code")]
        code = next((name for name in names if isinstance(name, str) and name in _BY_CODE), None)
        code = code or next((name for name in names if isinstance(name, str) and name), "")
        message = detail.get("message")
        return _word(code), _line(message if isinstance(message, str) else "")
    if isinstance(detail, list):
        return "invalid_request", _line("; ".join(_place(entry) for entry in detail[:3]))
    return "", ""


def _place(entry: object) -> str:
    """Say where a 422 saw a fault and which; never its `input`, which is what a person wanted spoken."""
    if not isinstance(entry, Mapping):
        return "unreadable"
    where, what = entry.get("loc"), entry.get("msg")
    path = ".".join(str(part) for part in where) if isinstance(where, list | tuple) else "?"
    return f"{path}: {what}" if isinstance(what, str) else path


def _word(code: str) -> str:
    return re.sub(r"[^a-z0-9_+-]", "_", code.lower())[:80]


def _line(text: str) -> str:
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"
