"""The ledger of spend: money is put aside before work begins, drawn while it runs, and settled at what it came to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.orm import Session

from avatar_pipeline.budget.config import NO_BUDGETS, Limit, Plan
from avatar_pipeline.budget.periods import slot_of
from avatar_pipeline.budget.types import (
    NONE,
    Admission,
    Amounts,
    AttemptEnd,
    AttemptStart,
    Demand,
    Payer,
    ProviderCharge,
    Remaining,
    Sample,
    Scope,
    Shares,
    Standing,
    Unit,
)
from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import AvatarError
from avatar_pipeline.ledger import spend_admission, spend_attempts, totals
from avatar_pipeline.ledger.database import chunks, reading, writing
from avatar_pipeline.ledger.spend_admission import exact, not_found
from avatar_pipeline.ledger.spend_attempts import ATTEMPTS
from avatar_pipeline.ledger.spend_entries import post_charge
from avatar_pipeline.ledger.spend_forgetting import forget_avatar_in, forget_settled, tidy
from avatar_pipeline.ledger.spend_posting import RESERVATIONS, Posting, find, lock
from avatar_pipeline.ledger.spend_schema import OPEN_ATTEMPT, OPEN_RESERVATION
from avatar_pipeline.ledger.spend_views import AttemptView, ReservationView, attempt_view, reservation_view
from avatar_pipeline.ledger.standings import earliest, latest, stand, stand_all

LEASE = timedelta(minutes=30)
"""How long nobody looks whether a reservation is still wanted."""


class SpendBook:
    """Reservations, attempts and what they cost. Each method but `tidy` is one transaction; those that end in `_in` are
    part of the caller's own, which must be one that writes. With `shut`, that is raised wherever money is asked for.

    Whoever changes money waits for whoever does so before (`spend_posting`). A caller that locks other rows in the same
    transaction locks them first, or calls `lock_in` before it locks any.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        plan: Plan = NO_BUDGETS,
        clock: Clock = utc_now,
        lease: timedelta = LEASE,
        shut: AvatarError | None = None,
    ) -> None:
        self._shut = shut
        self._engine = engine
        self._plan = plan
        self._clock = clock
        self._lease = lease

    @property
    def plan(self) -> Plan:
        """The limits that it holds to."""
        return self._plan

    def _require_open(self) -> None:
        if self._shut is not None:
            raise self._shut

    # Reservations

    def admit(self, demand: Demand) -> Admission:
        """Put aside what work may cost, if every limit that it counts against has room; else hold it, and put aside
        nothing. A key that was admitted before is answered as then, and nothing is put aside anew.

        Raises:
            ValueError: an amount is below 0 or has more than six places, or nothing is asked at all: nothing is free.
        """
        with writing(self._engine) as session:
            lock(session.connection())
            # The time is read when it is our turn: while we waited, others came and went, and so may have a period.
            return self.admit_in(session, demand, self._clock())

    def admit_in(self, session: Session, demand: Demand, now: datetime) -> Admission:
        """As `admit`, in the caller's transaction."""
        self._require_open()
        return spend_admission.admit(session.connection(), demand, now, plan=self._plan, lease=self._lease)

    def top_up(self, key: str, more: Amounts) -> Admission:
        """Put more aside for an open reservation, if all its limits have room for it.

        Raises:
            NotFound: there is no such reservation.
            Conflict: it is closed, or about to be.
            ValueError: as for `admit`.
        """
        with writing(self._engine) as session:
            lock(session.connection())
            return self.top_up_in(session, key, more, self._clock())

    def top_up_in(self, session: Session, key: str, more: Amounts, now: datetime) -> Admission:
        """As `top_up`, in the caller's transaction."""
        self._require_open()
        return spend_admission.top_up(session.connection(), key, more, now, plan=self._plan)

    def release(self, key: str, *, finished: bool = False) -> bool:
        """Let go of a reservation that nobody needs any more; true if that changed anything.

        It is closed at once, or once the last attempt is settled that it has paid for: until then, what is left of it
        stays put aside. `finished`: the work is done, and what it took is worth learning from.
        """
        with writing(self._engine) as session:
            return self.release_in(session, key, self._clock(), finished=finished)

    def release_in(self, session: Session, key: str, now: datetime, *, finished: bool = False) -> bool:
        """As `release`, in the caller's transaction."""
        posting = self._posting(session, now)
        known = posting.get(key)
        if known is None or not known.is_open:
            return False
        released = posting.change(known, finished=known.finished or finished, closing=known.open_attempts > 0)
        if not released.closing:
            posting.close(released)
        posting.write()
        return posting.get(key) != known

    def remaining(self, key: str) -> Remaining | None:
        """Return what is left of a reservation, None if there is none."""
        with reading(self._engine) as session:
            known = find(session.connection(), key)
        return Remaining(key, known.left, closed=not known.is_open) if known else None

    def remaining_in(self, session: Session, key: str) -> Remaining:
        """Return what is left of a reservation, in the caller's transaction; it stays so until that ends.

        Raises:
            NotFound: there is no such reservation.
        """
        lock(session.connection())
        known = find(session.connection(), key)
        if known is None:
            raise not_found(key)
        return Remaining(key, known.left, closed=not known.is_open)

    def is_open_in(self, session: Session, key: str) -> bool:
        """Return whether work may begin on a reservation: it is open, and nobody has let go of it."""
        lock(session.connection())
        known = find(session.connection(), key)
        return known is not None and known.is_open and not known.closing

    def lock_in(self, session: Session) -> None:
        """Keep everybody else from changing money until the caller's transaction ends."""
        lock(session.connection())

    def get(self, key: str) -> ReservationView | None:
        """Return a reservation, None if there is none."""
        with reading(self._engine) as session:
            return find(session.connection(), key)

    def extend(self, keys: Iterable[str], until: datetime) -> None:
        """Somebody still wants these reservations: nobody looks at them before `until`. None is made shorter."""
        _require_aware(until)
        with writing(self._engine) as session:
            lock(session.connection())
            for some in chunks(sorted(set(keys))):
                longer = update(RESERVATIONS).where(
                    RESERVATIONS.c.key.in_(some), OPEN_RESERVATION, RESERVATIONS.c.expires_at < until
                )
                session.connection().execute(longer.values(expires_at=until))

    def expired(self, limit: int = 1000) -> list[ReservationView]:
        """Return open reservations that nobody has extended in time, oldest first. They stay as they are: somebody has
        to find out what became of the work."""
        query = select(RESERVATIONS).where(OPEN_RESERVATION, RESERVATIONS.c.expires_at <= self._clock())
        query = query.order_by(RESERVATIONS.c.expires_at, RESERVATIONS.c.key).limit(limit)
        with reading(self._engine) as session:
            return [reservation_view(row) for row in session.connection().execute(query).mappings()]

    # Attempts

    def begin(self, attempt: AttemptStart, shares: Shares) -> bool:
        """Write down that an attempt begins, and which reservations pay for it by which weights; false if it is known,
        and stays as it is. Reservations that do not exist pay nothing: their part is nobody's.

        Raises:
            ValueError: a price is below 0 or has more than six places, a weight is below 1, or a time is naive.
        """
        with writing(self._engine) as session:
            posting = self._posting(session, self._clock())
            begun = spend_attempts.begin(posting, attempt, shares)
            posting.write()
            return begun

    def meter(self, attempt_key: str, until: datetime, *, shares: Shares | None = None) -> dict[str, Remaining]:
        """Charge what an attempt cost up to `until` to those who paid for it so far, and let `shares` pay from then on
        (None: the same go on); return what those who pay now have left.

        Where nobody paid so far, those do who paid before, by their seconds, else those of `shares`, else nobody. Late
        or again, it charges nothing; of an attempt that has ended, it changes nothing at all.

        Raises:
            NotFound: there is no such attempt.
            ValueError: a weight is below 1, or the time is naive.
        """
        with writing(self._engine) as session:
            posting = self._posting(session, self._clock())
            left = spend_attempts.meter(posting, attempt_key, until, shares, lease=self._lease)
            posting.write()
            return left

    def settle(self, attempt_key: str, end: AttemptEnd) -> bool:
        """End an attempt at the times and the price that were observed; true for the one call that did.

        All that it cost is reckoned anew from its seconds. What was metered is never taken back: an end before, or a
        beginning after, changes nothing. What a lower price gives back is put aside again by reservations that are
        open, as far as it comes out of the periods that limits are in now. Those that waited for this end only are
        closed.

        Raises:
            NotFound: there is no such attempt.
            ValueError: a price is below 0 or has more than six places, or a time is naive.
        """
        with writing(self._engine) as session:
            posting = self._posting(session, self._clock())
            drew = spend_attempts.settle(posting, attempt_key, end)
            posting.write()
            forget_settled(posting, attempt_key, drew or ())
            return drew is not None

    def attempt(self, key: str) -> AttemptView | None:
        """Return an attempt, None if there is none."""
        with reading(self._engine) as session:
            row = session.connection().execute(select(ATTEMPTS).where(ATTEMPTS.c.key == key)).mappings().first()
            return attempt_view(row) if row else None

    def open_attempts(self) -> list[AttemptView]:
        """Return attempts that have not ended, or whose end nobody has seen, the longest silent first."""
        query = select(ATTEMPTS).where(OPEN_ATTEMPT).order_by(ATTEMPTS.c.metered_until, ATTEMPTS.c.key)
        with reading(self._engine) as session:
            return [attempt_view(row) for row in session.connection().execute(query).mappings()]

    # Providers

    def charge(self, charge: ProviderCharge) -> bool:
        """Write down what a provider billed, once for each key; true for the one call that did.

        Whose it is says its reservation, and its own payer where there is none. It is spent whether or not as much was
        left.

        Raises:
            ValueError: an amount is below 0 or has more than six places, or the time is naive.
        """
        with writing(self._engine) as session:
            return self.charge_in(session, charge, self._clock())

    def charge_in(self, session: Session, charge: ProviderCharge, now: datetime) -> bool:
        """As `charge`, in the caller's transaction."""
        _require_aware(charge.at)
        if not exact(charge.usd) or not exact(charge.characters):
            raise ValueError(f"{charge.key}: {charge.usd} or {charge.characters} is no amount to charge")
        posting = self._posting(session, now)
        charged = post_charge(posting, charge, slot_of(charge.at))
        posting.write()
        return charged

    # Figures

    def samples(self, purpose: str, limit: int = 200) -> list[Sample]:
        """Return what finished work of a purpose took, the latest first. What took no machine at all teaches nothing:
        it had been made before."""
        query = (
            select(RESERVATIONS.c.units, RESERVATIONS.c.seconds, RESERVATIONS.c.attempts)
            .where(
                RESERVATIONS.c.purpose == purpose,
                RESERVATIONS.c.closed_at.is_not(None),
                RESERVATIONS.c.finished,
                RESERVATIONS.c.seconds > NONE,
                RESERVATIONS.c.units > NONE,
            )
            .order_by(RESERVATIONS.c.closed_at.desc(), RESERVATIONS.c.key.desc())
            .limit(limit)
        )
        with reading(self._engine) as session:
            return [Sample(row.units, row.seconds, row.attempts) for row in session.connection().execute(query)]

    def standings(self, payer: Payer) -> list[tuple[Limit, Standing]]:
        """Return how every limit stands that spending of `payer` counts against, as `admit` would find it now."""
        with reading(self._engine) as session:
            return stand(_at_once(session), self._plan, self._plan.limits_for(payer), self._clock())

    def all_standings(self) -> list[tuple[Limit, Standing]]:
        """Return how every named limit stands, and those for each of a kind for all that have spent or reserved any."""
        with reading(self._engine) as session:
            return stand_all(_at_once(session), self._plan, self._clock())

    def hourly(self, scope: Scope, unit: Unit, since: datetime) -> dict[datetime, Decimal]:
        """Return what was spent in each UTC hour from that of `since` on; hours without spending are left out."""
        with reading(self._engine) as session:
            return totals.hourly(session.connection(), scope, unit, since)

    def _posting(self, session: Session, now: datetime) -> Posting:
        return Posting(session.connection(), now, since=latest(self._plan, now))

    # Forgetting

    def forget_avatar_in(self, session: Session, avatar_id: str) -> None:
        """Forget whose an avatar's spending was, in the caller's transaction (`spend_forgetting`)."""
        forget_avatar_in(session, avatar_id, self._clock())

    def tidy(self, before: datetime) -> int:
        """Delete attempts that ended, and reservations that were closed, before `before`, and quarters of an hour of
        totals from before it that no limit looks at any more; return how many rows. Entries and UTC days stay.

        Forecasts and what is learnt of past work lose what is deleted: keep some months. Many transactions.
        """
        _require_aware(before)
        looked_at = earliest(self._plan, self._clock())
        quarters = totals.forget_quarters(self._engine, min(before, looked_at or before))
        return quarters + tidy(self._engine, before)


def _at_once(session: Session) -> Connection:
    """A connection that sees what is spent and what is reserved as they were at one moment."""
    if session.get_bind().dialect.name == "sqlite":
        return session.connection()
    return session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def _require_aware(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError("a naive datetime was given to the ledger")


__all__ = ["LEASE", "SpendBook", "forget_avatar_in"]
