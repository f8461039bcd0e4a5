"""Calls in flight at a provider, counted over all workers: who calls holds a lease, and a dead holder's runs out."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.ledger.database import (
    changed,
    delete_in_pages,
    exclusively,
    insert_new,
    insert_or_update,
    reading,
    writing,
)
from avatar_pipeline.ledger.provider_schema import LeaseRow, ProviderGroupRow

_UNTOUCHED = {"synchronize_session": False}


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to one call at a time to a group of a provider's models, until it expires."""

    provider: str
    group: str
    lease_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """Until when nothing is sent to a group, and why."""

    until: datetime
    reason: str


class Leases:
    """How many calls may be in flight, held to by all workers together. Every method but `prune` is one transaction.

    A group is what shares a limit, such as a provider's models of one kind. Workers' clocks are taken to agree to
    well within the seconds that leases are taken for.
    """

    def __init__(self, engine: Engine, *, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    def acquire(self, provider: str, group: str, *, limit: int, seconds: float, holder: str) -> Lease | None:
        """Take a lease for `seconds`; None if as many as the limit are taken, or the group is paused.

        The limit in force is the smaller of `limit` and what was learnt from the provider. Leases that ran out do not
        count. `holder` says who it is, for whoever looks into the table. It does not wait: ask again a little later.
        """
        with reading(self._engine) as session:
            # Whoever asks in vain, again and again, keeps nobody waiting.
            if not _has_room(session, provider, group, limit, self._clock()):
                return None
        with writing(self._engine) as session:
            exclusively(session, "leases", provider, group)
            # The time is read when it is our turn: while we waited, others may have come and gone.
            now = self._clock()
            if not _has_room(session, provider, group, limit, now):
                return None
            over = delete(LeaseRow).where(*_of(provider, group), LeaseRow.expires_at <= now)
            session.execute(over, execution_options=_UNTOUCHED)
            lease = Lease(provider, group, str(uuid.uuid4()), now + timedelta(seconds=seconds))
            session.execute(
                insert(LeaseRow).values(
                    id=lease.lease_id,
                    provider=provider,
                    group_name=group,
                    holder=holder,
                    taken_at=now,
                    expires_at=lease.expires_at,
                )
            )
            return lease

    def extend(self, lease: Lease, seconds: float) -> bool:
        """Let the lease run for `seconds` from now; false if it ran out before, or was given back: it stays so."""
        with writing(self._engine) as session:
            exclusively(session, "leases", lease.provider, lease.group)
            now = self._clock()
            longer = (
                update(LeaseRow)
                .where(LeaseRow.id == lease.lease_id, LeaseRow.expires_at > now)
                .values(expires_at=now + timedelta(seconds=seconds))
            )
            return changed(session.execute(longer, execution_options=_UNTOUCHED)) > 0

    def release(self, lease: Lease) -> None:
        """Give the lease back. Again, or after it ran out, it does nothing."""
        with writing(self._engine) as session:
            session.execute(delete(LeaseRow).where(LeaseRow.id == lease.lease_id), execution_options=_UNTOUCHED)

    def in_flight(self, provider: str, group: str) -> int:
        """Count the leases that have not run out."""
        with reading(self._engine) as session:
            return _taken(session, provider, group, self._clock())

    def learn_limit(self, provider: str, group: str, limit: int) -> None:
        """Keep to what the provider says that it allows, be it less or more than it said before.

        One call is always allowed: with none, nobody would ever be told that there may be more again.
        """
        limit = max(1, limit)
        if self.limit(provider, group) != limit:
            self._note(provider, group, learnt_limit=limit)

    def limit(self, provider: str, group: str) -> int | None:
        """Return what was learnt last, None if nothing was."""
        with reading(self._engine) as session:
            known = _group(session, provider, group)
        return known.learnt_limit if known else None

    def pause(self, provider: str, group: str, until: datetime, reason: str) -> None:
        """Give out no more leases until then. Of two pauses the longer holds; to shorten one, `resume` first."""
        with writing(self._engine) as session:
            new = insert_new(session, ProviderGroupRow)
            session.execute(new.values(provider=provider, group_name=group))
            longer = (
                update(ProviderGroupRow)
                .where(ProviderGroupRow.provider == provider, ProviderGroupRow.group_name == group)
                .where(or_(ProviderGroupRow.paused_until.is_(None), ProviderGroupRow.paused_until < until))
                .values(paused_until=until, pause_reason=reason)
            )
            session.execute(longer, execution_options=_UNTOUCHED)

    def paused(self, provider: str, group: str) -> Pause | None:
        """Return the pause that the group is in; None when there is none, or it is over."""
        with reading(self._engine) as session:
            known = _group(session, provider, group)
        if known is None or known.paused_until is None or known.paused_until <= self._clock():
            return None
        return Pause(known.paused_until, known.pause_reason or "")

    def resume(self, provider: str, group: str) -> None:
        """End a pause now."""
        self._note(provider, group, paused_until=None, pause_reason=None)

    def prune(self, before: datetime) -> int:
        """Delete leases that ran out before `before`, of groups that nobody asks of any more; return how many."""
        return delete_in_pages(self._engine, LeaseRow.id, LeaseRow.expires_at < before)

    def _note(self, provider: str, group: str, **known: Any) -> None:
        with writing(self._engine) as session:
            upsert = insert_or_update(session, ProviderGroupRow, keys=("provider", "group_name"), changes=tuple(known))
            session.execute(upsert, [{"provider": provider, "group_name": group} | known])


def _has_room(session: Session, provider: str, group: str, limit: int, now: datetime) -> bool:
    known = _group(session, provider, group)
    if known is not None and known.paused_until is not None and known.paused_until > now:
        return False
    learnt = known.learnt_limit if known else None
    return _taken(session, provider, group, now) < (limit if learnt is None else min(limit, learnt))


def _taken(session: Session, provider: str, group: str, now: datetime) -> int:
    taken = select(func.count()).select_from(LeaseRow).where(*_of(provider, group), LeaseRow.expires_at > now)
    return session.scalar(taken) or 0


def _group(session: Session, provider: str, group: str) -> ProviderGroupRow | None:
    return session.get(ProviderGroupRow, (provider, group))


def _of(provider: str, group: str) -> tuple[Any, Any]:
    return LeaseRow.provider == provider, LeaseRow.group_name == group
