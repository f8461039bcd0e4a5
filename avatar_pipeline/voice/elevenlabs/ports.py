"""What is asked of the ledger. The ledger's room stands above this one, so its books are named here by their shape."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from types import EllipsisType
from typing import Any, Literal, Protocol

NAME = "elevenlabs"

VoiceState = Literal["making", "ready", "unverified", "parked", "deleted"]


class Pause(Protocol):
    """Until when nothing is sent, and why."""

    @property
    def until(self) -> datetime: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


class LeaseBook(Protocol):
    """Calls in flight over all workers: `avatar_pipeline.ledger.leases.Leases`. A lease is its own, whatever it is."""

    def acquire(self, provider: str, group: str, *, limit: int, seconds: float, holder: str) -> Any: ...  # noqa: D102
    def extend(self, lease: Any, seconds: float) -> bool: ...  # noqa: D102
    def release(self, lease: Any) -> None: ...  # noqa: D102
    def in_flight(self, provider: str, group: str) -> int: ...  # noqa: D102
    def learn_limit(self, provider: str, group: str, limit: int) -> None: ...  # noqa: D102
    def limit(self, provider: str, group: str) -> int | None: ...  # noqa: D102
    def pause(self, provider: str, group: str, until: datetime, reason: str) -> None: ...  # noqa: D102
    def paused(self, provider: str, group: str) -> Pause | None: ...  # noqa: D102


class Charge(Protocol):
    """The credits of one piece of work."""

    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def reserved(self) -> Decimal: ...  # noqa: D102
    @property
    def settled(self) -> Decimal | None: ...  # noqa: D102
    @property
    def request_id(self) -> str | None: ...  # noqa: D102
    @property
    def sent_at(self) -> datetime | None: ...  # noqa: D102


class ChargeBook(Protocol):
    """Credits, reserved before a call and settled after it: `avatar_pipeline.ledger.charges.Charges`."""

    def reserve(  # noqa: D102
        self,
        provider: str,
        item_key: str,
        credits: Decimal,
        *,
        tenant: str,
        available: Decimal | None,
        available_at: datetime | None = None,
        reservation: str | None = None,
    ) -> Charge: ...
    def sent(self, provider: str, item_key: str) -> bool: ...  # noqa: D102
    def settle(self, provider: str, item_key: str, credits: Decimal, *, request_id: str | None) -> bool: ...  # noqa: D102
    def release(  # noqa: D102
        self, provider: str, item_key: str, *, sent_at: datetime | EllipsisType | None = ...
    ) -> None: ...
    def get(self, provider: str, item_key: str) -> Charge | None: ...  # noqa: D102
    def of_request(self, provider: str, request_id: str) -> Charge | None: ...  # noqa: D102


class VoiceRecord(Protocol):
    """A voice that we hold at the provider, by what it was made from."""

    @property
    def voice_key(self) -> str: ...  # noqa: D102
    @property
    def voice_id(self) -> str | None: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def avatar_id(self) -> str | None: ...  # noqa: D102
    @property
    def consent_id(self) -> str | None: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102


class VoiceBook(Protocol):
    """Our voices at the provider: `avatar_pipeline.ledger.voices.VoiceBook`."""

    def remember(  # noqa: D102
        self,
        *,
        provider: str,
        voice_key: str,
        state: VoiceState,
        voice_id: str | None = None,
        avatar_id: str | None = None,
        consent_id: str | None = None,
        name: str = "",
    ) -> VoiceRecord: ...
    def get(self, provider: str, voice_key: str) -> VoiceRecord | None: ...  # noqa: D102
    def touch(self, provider: str, voice_key: str) -> None: ...  # noqa: D102
    def park_candidates(self, provider: str, *, limit: int = 1) -> Sequence[VoiceRecord]: ...  # noqa: D102
    def set_state(  # noqa: D102
        self, provider: str, voice_key: str, state: VoiceState, *, voice_id: str | EllipsisType | None = ...
    ) -> None: ...
