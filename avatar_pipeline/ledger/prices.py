"""The prices that were looked up, kept in the ledger: what a machine cost at any time since the first look."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, and_, delete, exists, func, select
from sqlalchemy.orm import aliased

from avatar_pipeline.budget.prices import Price, PriceList
from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.ledger.database import changed, insert_new, reading, writing
from avatar_pipeline.ledger.spend_schema import PriceRow
from avatar_pipeline.spot.catalog import PRICE_CAP
from avatar_pipeline.spot.types import CapacityType

_MACHINE = ("region", "instance_type", "capacity_type", "zone")
_KEY = (*_MACHINE, "as_of")
_KEPT = timedelta(minutes=1)


class PriceStore:
    """Prices by region, instance type, capacity type, zone and time; one that is there stays as it is.

    `region`, `cap` and `stale_after` are those of the lists that it gives out. Every method is one transaction at most.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        region: str = "us-east-1",
        cap: Decimal = PRICE_CAP,
        stale_after: timedelta = timedelta(days=30),
        clock: Clock = utc_now,
    ) -> None:
        self._engine = engine
        self._region = region
        self._cap = cap
        self._stale_after = stale_after
        self._clock = clock
        self._latest: PriceList | None = None

    def add(self, prices: Iterable[Price]) -> int:
        """Keep prices; return how many are new. The same again, whole or in part, adds nothing."""
        # In one order, so that two that add the same do not wait for each other; of two of one key the dearer first.
        rows = sorted(
            (_row(price) for price in prices), key=lambda row: (*(row[name] for name in _KEY), -row["per_hour"])
        )
        if not rows:
            return 0
        self._latest = None
        with writing(self._engine) as session:
            return len(session.scalars(insert_new(session, PriceRow).returning(PriceRow.as_of), rows).all())

    def load(self, since: datetime | None = None) -> PriceList:
        """Return the prices that hold now, with all that held at any time from `since` on. Keep it for a while.

        Beside what was looked up since, that is for each machine the last price before.
        """
        now = self._clock()
        since = now if since is None else since
        last = _last_of_each(since).subquery()
        then = select(PriceRow).join(last, and_(*(getattr(PriceRow, name) == last.c[name] for name in _KEY)))
        with reading(self._engine) as session:
            rows = [*session.scalars(then), *session.scalars(select(PriceRow).where(PriceRow.as_of > since))]
        return PriceList(
            at=now,
            looked_up=tuple(_price(row) for row in rows),
            cap=self._cap,
            region=self._region,
            stale_after=self._stale_after,
        )

    def prices(self) -> PriceList:
        """Return the prices that hold now, as they were less than a minute ago."""
        now, latest = self._clock(), self._latest
        if latest is None or not timedelta(0) <= now - latest.at < _KEPT:
            self._latest = latest = self.load()
        return latest

    def prune(self, before: datetime) -> int:
        """Delete prices that did not hold any more at `before`; return how many. The last of each machine stays."""
        later = aliased(PriceRow)
        replaced = exists().where(
            *(getattr(later, name) == getattr(PriceRow, name) for name in _MACHINE),
            later.as_of > PriceRow.as_of,
            later.as_of <= before,
        )
        gone = delete(PriceRow).where(PriceRow.as_of < before, replaced)
        with writing(self._engine) as session:
            return changed(session.execute(gone, execution_options={"synchronize_session": False}))


def _last_of_each(until: datetime) -> Any:
    machine = [getattr(PriceRow, name) for name in _MACHINE]
    return select(*machine, func.max(PriceRow.as_of).label("as_of")).where(PriceRow.as_of <= until).group_by(*machine)


def _row(price: Price) -> dict[str, Any]:
    return {
        "region": price.region,
        "instance_type": price.instance_type,
        "capacity_type": str(price.capacity_type),
        "zone": price.zone,
        "as_of": price.as_of,
        "per_hour": price.per_hour,
        "source": price.source,
    }


def _price(row: PriceRow) -> Price:
    return Price(
        region=row.region,
        instance_type=row.instance_type,
        capacity_type=CapacityType(row.capacity_type),
        zone=row.zone,
        per_hour=row.per_hour,
        as_of=row.as_of,
        source=row.source,
    )
