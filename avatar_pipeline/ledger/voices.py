"""The voices that we have at providers: what each was made from, where it is, and when it last spoke."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from types import EllipsisType
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Engine, Select, select, update

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.database import changed, delete_in_pages, insert_or_update, reading, writing
from avatar_pipeline.ledger.provider_schema import VoiceRow

VoiceState = Literal["making", "ready", "unverified", "parked", "deleted"]
_UNTOUCHED = {"synchronize_session": False}


@dataclass(frozen=True, slots=True)
class VoiceRecord:
    """A voice at a provider. `voice_key` is what it was made from, `voice_id` the provider's name for it.

    `making`: it was asked for. `unverified`: a person must prove to the provider that it is theirs. `parked`: it gave
    its slot to another and is made again when it is needed. `deleted`: the provider has nothing of it any more.
    """

    provider: str
    voice_key: str
    voice_id: str | None
    state: VoiceState
    avatar_id: str | None
    consent_id: str | None
    name: str
    last_used_at: datetime
    updated_at: datetime


class VoiceBook:
    """Voices in the ledger. Every method but `prune` is one transaction.

    They outlive their avatars: as long as a provider has a voice, this is where its id is known.
    """

    def __init__(self, engine: Engine, *, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    def remember(
        self,
        *,
        provider: str,
        voice_key: str,
        state: VoiceState,
        voice_id: str | None = None,
        avatar_id: str | None = None,
        consent_id: str | None = None,
        name: str = "",
        last_used_at: datetime | None = None,
    ) -> VoiceRecord:
        """Write a voice down, in the place of what was known of it. It is used now, if nothing else is said."""
        now = self._clock()
        fields: dict[str, Any] = {
            "voice_id": voice_id,
            "state": state,
            "avatar_id": avatar_id,
            "consent_id": consent_id,
            "name": name,
            "last_used_at": last_used_at or now,
            "updated_at": now,
        }
        record = VoiceRecord(provider=provider, voice_key=voice_key, **fields)
        with writing(self._engine) as session:
            upsert = insert_or_update(session, VoiceRow, keys=("provider", "voice_key"), changes=tuple(fields))
            session.execute(upsert, [{"provider": provider, "voice_key": voice_key} | fields])
        return record

    def get(self, provider: str, voice_key: str) -> VoiceRecord | None:
        """Return what is known of a voice, None if that is nothing."""
        with reading(self._engine) as session:
            row = session.get(VoiceRow, (provider, voice_key))
            return _record(row) if row else None

    def touch(self, provider: str, voice_key: str) -> None:
        """Record that the voice speaks now, so that others are parked before it."""
        now = self._clock()
        with writing(self._engine) as session:
            later = update(VoiceRow).where(*_is(provider, voice_key), VoiceRow.last_used_at < now)
            session.execute(later.values(last_used_at=now), execution_options=_UNTOUCHED)

    def park_candidates(self, provider: str, *, limit: int = 1) -> list[VoiceRecord]:
        """Return voices that are ready, those that have been silent for longest first."""
        ready = select(VoiceRow).where(VoiceRow.provider == provider, VoiceRow.state == "ready")
        return self._records(ready.order_by(VoiceRow.last_used_at, VoiceRow.voice_key).limit(limit))

    def set_state(
        self, provider: str, voice_key: str, state: VoiceState, *, voice_id: str | EllipsisType | None = ...
    ) -> None:
        """Record what became of a voice, and its new id at the provider, or that it has none, if that is given.

        Raises:
            NotFound: nothing is known of it.
        """
        values: dict[str, Any] = {"state": state, "updated_at": self._clock()}
        if voice_id is not ...:
            values["voice_id"] = voice_id
        with writing(self._engine) as session:
            became = update(VoiceRow).where(*_is(provider, voice_key)).values(**values)
            if not changed(session.execute(became, execution_options=_UNTOUCHED)):
                raise NotFound(
                    f"The ledger knows no voice {voice_key} at {provider}.",
                    remedy="Remember it before its state is changed.",
                )

    def of_consent(self, consent_id: str) -> list[VoiceRecord]:
        """Return the voices that were made on the strength of a consent, in whatever state they are."""
        return self._records(select(VoiceRow).where(VoiceRow.consent_id == consent_id).order_by(*_ORDER))

    def of_avatar(self, avatar_id: str) -> list[VoiceRecord]:
        """Return the voices of an avatar, in whatever state they are; the avatar itself may be gone."""
        return self._records(select(VoiceRow).where(VoiceRow.avatar_id == avatar_id).order_by(*_ORDER))

    def prune(self, before: datetime) -> int:
        """Forget the voices that were deleted before `before`; return how many."""
        gone = (VoiceRow.state == "deleted", VoiceRow.updated_at < before)
        total = 0
        with reading(self._engine) as session:
            providers = list(session.scalars(select(VoiceRow.provider).where(*gone).distinct()))
        for provider in providers:
            total += delete_in_pages(self._engine, VoiceRow.voice_key, VoiceRow.provider == provider, *gone)
        return total

    def _records(self, query: Select[Any]) -> list[VoiceRecord]:
        with reading(self._engine) as session:
            return [_record(row) for row in session.scalars(query)]


_ORDER = (VoiceRow.provider, VoiceRow.voice_key)


def _is(provider: str, voice_key: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return VoiceRow.provider == provider, VoiceRow.voice_key == voice_key


def _record(row: VoiceRow) -> VoiceRecord:
    return VoiceRecord(
        provider=row.provider,
        voice_key=row.voice_key,
        voice_id=row.voice_id,
        state=cast(VoiceState, row.state),
        avatar_id=row.avatar_id,
        consent_id=row.consent_id,
        name=row.name,
        last_used_at=row.last_used_at,
        updated_at=row.updated_at,
    )
