"""What the ledger hands out: immutable records, detached from the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.ids import require_slug
from avatar_pipeline.voice.text import check_text

AvatarState = Literal["new", "ready", "failed"]
RequestState = Literal["queued", "claimed", "running", "done", "failed"]


class ClipRequest(BaseModel):
    """A wish for one clip. `request_id` is the idempotency key: the same id is the same clip, for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str
    avatar_id: str
    text: str = Field(repr=False)

    @field_validator("request_id", "avatar_id")
    @classmethod
    def _slug(cls, value: str) -> str:
        return require_slug(value)

    @field_validator("text")
    @classmethod
    def _text(cls, value: str) -> str:
        return check_text(value)


@dataclass(frozen=True, slots=True)
class AvatarRecord:
    """One avatar. `voice` is 'enrol:<language>' or 'local:<language>' (a stock voice, no enrolment speech)."""

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
        return self.voice.partition(":")[2]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One clip request and where it is."""

    request: ClipRequest
    state: RequestState
    batch_id: str | None
    clip_key: str | None
    error: dict[str, str] | None
    created_at: datetime
    finished_at: datetime | None


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
