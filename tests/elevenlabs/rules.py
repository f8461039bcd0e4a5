"""How the stand-in behaves: the plan of its account, its voice, its speed, and the faults that it plays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

API_KEY = "key-of-the-stand-in"
STANDARD, TURBO = "standard", "turbo"
"""The concurrency groups: multilingual and v3 models, and the flash and turbo ones."""

IN_FLIGHT = {
    "free": (2, 4),
    "starter": (3, 6),
    "creator": (5, 10),
    "pro": (10, 20),
    "scale": (15, 30),
    "business": (15, 30),
}
"""Calls at once by plan: (standard, turbo)."""
PCM_44100_FROM = ("pro", "scale", "business")


class Fault(StrEnum):
    """What can be played. The first four refuse before any work; of the others all bill and make the speech."""

    TOO_MANY_CONCURRENT = "too_many_concurrent"
    SYSTEM_BUSY = "system_busy"
    INTERNAL_ERROR = "internal_error"
    UNAVAILABLE = "unavailable"
    HANG = "hang"
    CUT_CONNECTION = "cut_connection"
    CUT_JSON = "cut_json"
    DRIFTED_ALIGNMENT = "drifted_alignment"
    MISSING_ALIGNMENT = "missing_alignment"
    EMPTY_AUDIO = "empty_audio"


REFUSING = frozenset({Fault.TOO_MANY_CONCURRENT, Fault.SYSTEM_BUSY, Fault.INTERNAL_ERROR, Fault.UNAVAILABLE})
"""Faults with which nothing was done and nothing billed."""

SPEECH = "speech"
"""The route group of all text-to-speech calls; the others are named in `routes.py`."""


class Faults(BaseModel):
    """Which faults are played: by a script for each route group, then, for speech, by seeded random shares.

    `script` gives what happens to the first, second, ... call of a group in order of arrival; None lets one pass.
    `shares` gives the part of speech calls that meets each fault. What an attempt meets depends on the seed, the voice,
    the text and which attempt it is, so it is the same in whatever order many processes call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    script: Mapping[str, tuple[Fault | None, ...]] = {}
    shares: Mapping[Fault, float] = {}
    seed: int = 0

    @field_validator("shares")
    @classmethod
    def _at_most_all(cls, shares: Mapping[Fault, float]) -> Mapping[Fault, float]:
        if min(shares.values(), default=0) < 0 or sum(shares.values()) > 1:
            raise ValueError("shares are parts of one: none below 0, together at most 1")
        return shares

    def scripted(self, group: str, call: int) -> Fault | None:
        """Return what the script has for the `call`th call (from 0) of a route group."""
        script = self.script.get(group, ())
        return script[call] if call < len(script) else None

    def drawn(self, voice_id: str, text: str, attempt: int) -> Fault | None:
        """Draw for the `attempt`th try (from 0) of a text with a voice."""
        digest = hashlib.sha256(f"{self.seed}\0{voice_id}\0{text}\0{attempt}".encode()).digest()
        draw = int.from_bytes(digest[:8], "big") / 2**64
        for fault, share in sorted(self.shares.items()):
            if draw < share:
                return fault
            draw -= share
        return None


class Rules(BaseModel):
    """Everything that a test can set, at the start or later through `/_control`.

    `limits` overrides the plan's calls at once by group. `quota` is in credits. Work takes `base_seconds` and
    `seconds_per_character`, as the time from arrival to answer. Over the limit a call waits `queue_seconds` for a place
    before it is refused. `retry_after` goes out as that header with every 429 and 503. A hanging call is closed without
    answer after `hang_seconds`; its place is free as soon as the speech is made. `history_lag_seconds` is how long
    after the billing an item shows in the history. `requires_verification` is what the next voices made are answered,
    in order; then false.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: str = API_KEY
    tier: Literal["free", "starter", "creator", "pro", "scale", "business"] = "creator"
    limits: Mapping[str, int] = {}
    quota: int = Field(default=100_000, ge=0)
    quota_resets_at: float | None = None
    voice_limit: int = Field(default=30, ge=0)
    can_clone: bool = True
    requires_verification: tuple[bool, ...] = ()
    error_shape: Literal["status", "code"] = "status"
    base_seconds: float = Field(default=0.0, ge=0)
    seconds_per_character: float = Field(default=0.0, ge=0)
    queue_seconds: float = Field(default=0.0, ge=0)
    retry_after: int | None = None
    hang_seconds: float = Field(default=30.0, ge=0)
    drift_seconds: float = 0.8
    history_lag_seconds: float = Field(default=0.0, ge=0)
    history_alignments: bool = True
    speech: Literal["espeak", "beeps"] = "espeak"
    beep_seconds_per_character: float = Field(default=0.06, gt=0)
    faults: Faults = Faults()

    @field_validator("faults", mode="before")
    @classmethod
    def _plain_list_is_for_speech(cls, faults: Any) -> Any:
        if isinstance(faults, Sequence) and not isinstance(faults, str):
            return {"script": {SPEECH: tuple(faults)}}
        return faults

    def changed(self, changes: Mapping[str, Any]) -> Rules:
        """Return these rules with `changes`.

        Raises:
            ValidationError: an unknown name or a value that does not fit.
        """
        return Rules.model_validate(self.model_dump() | dict(changes))

    def limit(self, group: str) -> int:
        """Return how many calls of a concurrency group may be in flight at once."""
        standard, turbo = IN_FLIGHT[self.tier]
        return self.limits.get(group, turbo if group == TURBO else standard)
