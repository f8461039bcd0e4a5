"""Adding up entries of spending: what every question about costs is answered by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import case, func, literal_column, select, type_coerce

from avatar_pipeline.budget.types import NONE
from avatar_pipeline.ledger.spend_schema import EntryRow, Micros

COMPUTE, PROVIDER, SPOT = "compute", "provider", "spot"
# In literals: in PostgreSQL's eyes an expression with parameters is another one wherever it stands, and a query that
# groups by it is refused.
OF_CLIPS = func.substr(EntryRow.reservation, literal_column("1"), literal_column("5")) == literal_column("'clip/'")
"""Entries that a clip's reservation paid for."""
NOBODYS = EntryRow.reservation == literal_column("''")
"""Entries that no reservation paid for."""
_ADDED = ("amount", "saved", "seconds", "characters")


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent: US dollars, seconds of machines, characters of a provider.

    `saved`: how much more US dollars the machines that were spot would have cost on demand; below 0 where they were
    dearer.
    """

    amount: Decimal = NONE
    saved: Decimal = NONE
    seconds: Decimal = NONE
    characters: Decimal = NONE

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, name) + getattr(other, name) for name in _ADDED))


def summed(*columns: Any) -> Any:
    """Select columns, and what was spent under them."""
    saved = case(
        (EntryRow.capacity_type == SPOT, type_coerce(EntryRow.on_demand - EntryRow.amount, Micros)), else_=NONE
    )
    return select(
        *columns,
        func.sum(EntryRow.amount).label("amount"),
        func.sum(saved, type_=Micros).label("saved"),
        func.sum(EntryRow.seconds).label("seconds"),
        func.sum(EntryRow.characters).label("characters"),
    )


def spent_of(row: Any) -> Spent:
    """Return the sums of a row that `summed` selected."""
    return Spent(row.amount, row.saved, row.seconds, row.characters)


def added(parts: Iterable[Spent]) -> Spent:
    """Add up."""
    return sum(parts, Spent())


def by(rows: Iterable[Any], name: Callable[[Any], str]) -> dict[str, Spent]:
    """Add up rows that `summed` selected by a name of each, the dearest first."""
    sums: defaultdict[str, Spent] = defaultdict(Spent)
    for row in rows:
        sums[name(row)] += spent_of(row)
    return dict(sorted(sums.items(), key=lambda item: (-item[1].amount, item[0])))
