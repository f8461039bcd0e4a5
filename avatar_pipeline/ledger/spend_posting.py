"""What one transaction changes of the money: reservations, what is reserved and spent by scope, and entries, together.

Everybody's dollars are a scope that all spending counts in. Its account is locked first by whoever changes anything, so
no two transactions change money at once, and none ever waits for another that waits for it. (On SQLite a transaction
that writes is alone anyway.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql

from avatar_pipeline.budget.types import ALL, NONE, Amounts, Payer, Scope, Unit, lines
from avatar_pipeline.ledger import totals
from avatar_pipeline.ledger.database import chunks
from avatar_pipeline.ledger.spend_schema import ReservationRow
from avatar_pipeline.ledger.spend_views import ReservationView, reservation_view, written
from avatar_pipeline.ledger.totals import ACCOUNTS

RESERVATIONS: Table = ReservationRow.__table__  # type: ignore[assignment]
_EVERYBODY = {"scope": str(ALL), "unit": str(Unit.USD)}
_BY_KEY = select(RESERVATIONS).where(RESERVATIONS.c.key.in_(bindparam("keys", expanding=True)))
_ONE = select(RESERVATIONS).where(RESERVATIONS.c.key == bindparam("key"))


def lock(connection: Connection) -> None:
    """Wait until no other transaction changes money, and keep others waiting until this one ends."""
    if connection.dialect.name == "sqlite":
        return
    if connection.execute(_LOCKING, _EVERYBODY).first() is None:
        new = postgresql.insert(ACCOUNTS).on_conflict_do_nothing()
        connection.execute(new.values(**_EVERYBODY, reserved=NONE))
        connection.execute(_LOCKING, _EVERYBODY)


_LOCKING = (
    select(ACCOUNTS.c.scope)
    .where(ACCOUNTS.c.scope == bindparam("scope"), ACCOUNTS.c.unit == bindparam("unit"))
    .with_for_update()
)


def find(connection: Connection, key: str) -> ReservationView | None:
    """Return a reservation, None if there is none of this key."""
    row = connection.execute(_ONE, {"key": key}).mappings().first()
    return reservation_view(row) if row else None


@dataclass(frozen=True, slots=True)
class Spending:
    """A change of what was spent in a quarter of an hour, and who pays for it; corrections may be negative."""

    payer: Payer
    slot: datetime
    amounts: Amounts


class Posting:
    """The changes of one transaction, collected and then written; the lock is taken with it.

    Reservations are replaced by changed ones as the work goes on. What that means for the accounts follows from
    comparing each with what it was: no one has to keep count, and none can forget to.

    `since`: what comes back of spending from before then is not put aside again. It makes room in a period that is
    over, and today others may have been admitted to what it would take.
    """

    def __init__(self, connection: Connection, now: datetime, *, since: datetime | None = None) -> None:
        lock(connection)
        self.connection = connection
        self.now = now
        self._since = since
        self._before: dict[str, ReservationView] = {}
        self._after: dict[str, ReservationView] = {}
        self._spent: defaultdict[tuple[Scope, Unit, datetime], Decimal] = defaultdict(lambda: NONE)

    def fetch(self, keys: Iterable[str]) -> None:
        """Read reservations that are not known yet, together."""
        for some in chunks(sorted({key for key in keys if key not in self._before})):
            for row in self.connection.execute(_BY_KEY, {"keys": list(some)}).mappings():
                known = reservation_view(row)
                self._before[known.key] = self._after[known.key] = known

    def get(self, key: str) -> ReservationView | None:
        """Return a reservation as it is by now, None if there is none."""
        if key not in self._after:
            self.fetch([key])
        return self._after.get(key)

    def change(self, reservation: ReservationView, **changes: Any) -> ReservationView:
        """Put a reservation with these changes in the place of what it was."""
        self._after[reservation.key] = changed = replace(reservation, **changes)
        return changed

    def close(self, reservation: ReservationView) -> None:
        """Close a reservation: what is left of it is free again."""
        spent = reservation.used != Amounts() or reservation.seconds > 0
        state = "settled" if spent else "released"
        self.change(reservation, state=state, closing=False, closed_at=self.now)

    def draw(self, key: str, slot: datetime, amounts: Amounts, seconds: Decimal = NONE) -> None:
        """Take from a reservation what was spent in a quarter of an hour, or give back what was not; more than is left
        of it too. Nobody's is taken from none."""
        known = self.get(key) if key else None
        if known is None:
            return
        state = "committed" if known.state == "reserved" else known.state
        reserved = known.reserved
        if amounts.compute < 0 and self._since is not None and slot < self._since:
            reserved = replace(reserved, compute=max(NONE, reserved.compute + amounts.compute))
        used, time = known.used + amounts, known.seconds + seconds
        self.change(known, state=state, reserved=reserved, used=used, seconds=time)

    def spend(self, spending: Spending) -> None:
        """Add to what was spent, in all the scopes of its payer."""
        for (scope, unit), amount in lines(spending.payer, spending.amounts).items():
            if amount:
                self._spent[scope, unit, spending.slot] += amount

    def write(self) -> None:
        """Write all of it down."""
        changed = [key for key, after in self._after.items() if after != self._before[key]]
        accounts: defaultdict[tuple[Scope, Unit], Decimal] = defaultdict(lambda: NONE)
        for key in changed:
            before, after = self._before[key], self._after[key]
            if (before.payer, before.left) == (after.payer, after.left):
                continue
            for line, amount in lines(before.payer, before.left).items():
                accounts[line] -= amount
            for line, amount in lines(after.payer, after.left).items():
                accounts[line] += amount
        if changed:
            self.connection.execute(_updating(), [_values(self._after[key]) for key in sorted(changed)])
        totals.put_aside(self.connection, accounts)
        totals.add(self.connection, self._spent)
        self._before = dict(self._after)
        self._spent.clear()


def payer_of(reservation: ReservationView | None) -> Payer:
    """Return on whose account machines are that a reservation pays for. They are no provider's."""
    return replace(reservation.payer, provider="") if reservation else Payer()


def insert_values(view: ReservationView) -> dict[str, Any]:
    """Return a reservation as columns."""
    return {
        "key": view.key,
        "purpose": view.purpose,
        "units": view.units,
        "created_at": view.created_at,
        "degraded": written(view.degraded),
        **{name: value for name, value in _values(view).items() if name != "b_key"},
    }


def _values(view: ReservationView) -> dict[str, Any]:
    return {
        "b_key": view.key,
        "state": view.state,
        "purpose": view.purpose,
        "tenant": view.payer.tenant,
        "avatar_id": view.payer.avatar_id,
        "request_id": view.payer.request_id,
        "provider": view.payer.provider,
        "compute_reserved": view.reserved.compute,
        "compute_used": view.used.compute,
        "provider_reserved": view.reserved.provider,
        "provider_used": view.used.provider,
        "characters_reserved": view.reserved.characters,
        "characters_used": view.used.characters,
        "seconds": view.seconds,
        "attempts": view.attempts,
        "open_attempts": view.open_attempts,
        "closing": view.closing,
        "finished": view.finished,
        "expires_at": view.expires_at,
        "closed_at": view.closed_at,
    }


@lru_cache(maxsize=1)
def _updating() -> Any:
    names = [column.name for column in RESERVATIONS.c if column.name not in _FIXED]
    values = {name: bindparam(name, type_=RESERVATIONS.c[name].type) for name in names}
    return update(RESERVATIONS).where(RESERVATIONS.c.key == bindparam("b_key")).values(values)


_FIXED = ("key", "units", "degraded", "created_at")
