"""What the ledger hands out: immutable records, detached from the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from avatar_pipeline.budget.types import Admission
from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.voice.types import voice_language

AvatarState = Literal["new", "ready", "failed"]
RequestKind = Literal["clip", "avatar"]
RequestState = Literal["queued", "claimed", "running", "held", "done", "failed"]


@dataclass(frozen=True, slots=True)
class AvatarRecord:
    """One avatar. `voice` is 'enrol:<language>', or a stock voice without enrolment speech (see `VOICE_PATTERN`)."""

    id: str
    state: AvatarState
    voice: str
    greeting: str
    upload_key: str
    source_name: str
    consent: ConsentRecord
    error: dict[str, str] | None
    created_at: datetime
    updated_at: datetime

    @property
    def enrols(self) -> bool:
        """Whether the voice is made from the video's speech."""
        return self.voice.startswith("enrol:")

    @property
    def language(self) -> str:
        """Language of the voice."""
        return voice_language(self.voice)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request and where it is. `sent_at` is when its sender sent it, `created_at` when the ledger learnt of it.

    `held_until` is when it goes on by itself, if it is held and does; `held_by` the limit of a budget that holds it.
    `reservation` is what was put aside for it last, `admissions` how often a budget admitted it.
    """

    request: ClipRequest | AvatarRequest
    state: RequestState
    batch_id: str | None
    attempts: int
    clip_key: str | None
    error: dict[str, str] | None
    sent_at: datetime
    created_at: datetime
    claimed_at: datetime | None
    started_at: datetime | None
    held_at: datetime | None
    finished_at: datetime | None
    held_until: datetime | None = None
    held_by: str | None = None
    reservation: str | None = None
    admissions: int = 0


@dataclass(frozen=True, slots=True)
class Secured:
    """Whether a request may be worked on now; `refused` is what its budgets said, where it may not for their sake."""

    may_begin: bool
    refused: Admission | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip that waits for a batch, or is held by a limit of a budget, and its place in the order of arrival."""

    request: ClipRequest
    position: int
    held_by: str | None


@dataclass(frozen=True, slots=True)
class RequestEvent:
    """One step of a request through its states."""

    state: RequestState
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came out of a queue, and when its sender put it there."""

    request: ClipRequest | AvatarRequest
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """The clip requests that a batch could claim now: how many, and how long ago the oldest was sent."""

    waiting: int
    oldest_age: timedelta | None


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch with something to do: how many requests, and when it claimed (or was given) the first of them."""

    batch_id: str
    requests: int
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class Timing:
    """One attempt at one artifact."""

    collection: str
    owner: str
    asset: str
    key: str
    run_id: str | None
    reused: bool
    seconds: float
    price_per_hour: Decimal
    cost: Decimal
    started_at: datetime
