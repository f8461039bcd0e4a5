"""Days of work, as a spend book writes them down: attempts, charges of providers, clips and avatars."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from avatar_pipeline.budget.types import Amounts, AttemptEnd, AttemptStart, Demand, Payer, ProviderCharge
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.ledger.spend import SpendBook
from tests.stages.benches import artifact_row, avatar_row, request_row

ON_DEMAND = Decimal("1.006")
SPOT = Decimal("0.46")


@dataclass
class Studio:
    """A spend book without budgets, whose clock stands where it is put, and rows beside it."""

    engine: Engine
    now: datetime
    numbers: dict[str, int] = field(default_factory=dict)

    @property
    def book(self) -> SpendBook:
        return SpendBook(self.engine, clock=lambda: self.now)

    def add(self, *rows: Base) -> None:
        with Session(self.engine) as session, session.begin():
            session.add_all(rows)

    def work(
        self,
        asset: str,
        at: datetime,
        minutes: float,
        *,
        key: str = "",
        payer: Payer | None = None,
        spot: bool = False,
        ending: str | None = "succeeded",
    ) -> str:
        """An attempt at a step from `at` on, paid from a reservation of `key`; without a payer, by nobody.

        Return its key. An `ending` of None: it has none yet, and is metered so far.
        """
        number = self.numbers[asset] = self.numbers.get(asset, 0) + 1
        attempt = f"run-{number}/{asset}/1"
        self.now = at
        shares = {}
        if payer is not None:
            key = key or f"step/{attempt}"
            demand = Demand(key, "clip" if key.startswith("clip/") else asset, payer, Amounts(Decimal(5), Decimal(5)))
            assert self.book.admit(demand).admitted
            shares = {key: 1}
        price = SPOT if spot else ON_DEMAND
        start = AttemptStart(
            key=attempt,
            run_id=f"run-{number}",
            step_key=asset,
            number=1,
            asset=asset,
            partition="p",
            started_at=at,
            price_per_hour=price,
            price_source="table",
            on_demand_price=ON_DEMAND,
            capacity_type="spot" if spot else "on-demand",
            instance_type="g5.xlarge",
            zone="us-east-1a",
        )
        self.book.begin(start, shares)
        self.now = at + timedelta(minutes=minutes)
        self.book.meter(attempt, self.now)
        if ending is not None:
            self.book.settle(attempt, AttemptEnd(at=self.now, ending=ending))
            for name in shares:
                self.book.release(name, finished=ending == "succeeded")
        return attempt

    def speak(self, key: str, at: datetime, usd: str, characters: int, *, payer: Payer) -> None:
        """A provider bills a text."""
        charge = ProviderCharge(
            f"elevenlabs/{key}/{at.isoformat()}", "elevenlabs", key, payer, "synthesized_speech", Decimal(usd),
            Decimal(characters), at,
        )  # fmt: skip
        assert self.book.charge(charge)

    def clip(
        self,
        name: str,
        at: datetime,
        minutes: float,
        *,
        tenant: str = "acme",
        avatar_id: str = "ada",
        clip_key: str | None = None,
        spot: bool = True,
        characters: int = 0,
    ) -> None:
        """A clip that was spoken, rendered and done."""
        payer = Payer(tenant, avatar_id, name, "elevenlabs" if characters else "")
        key = f"clip/{name}/0"
        self.work("rendered_clips", at, minutes, key=key, payer=payer, spot=spot)
        if characters:
            self.speak(key, at, str(Decimal(characters) * Decimal("0.0001")), characters, payer=payer)
        done = at + timedelta(minutes=minutes)
        self.add(request_row(name, sent_at=at, finished_at=done, tenant=tenant, avatar_id=avatar_id, clip_key=clip_key))

    def avatar(self, avatar_id: str, at: datetime, *, tenant: str = "acme", minutes: float = 20) -> None:
        """An avatar that was built and became ready."""
        payer = Payer(tenant, avatar_id)
        self.work("landmarks", at, minutes, payer=payer)
        self.work("greeting_clip", at + timedelta(minutes=minutes), 4, payer=payer, spot=True)
        ready = at + timedelta(minutes=minutes + 4)
        self.add(avatar_row(avatar_id, ready), artifact_row(avatar_id, "greeting_clip", "greeting", ready))
