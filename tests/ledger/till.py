"""A ledger of spend for a test: budgets, a clock that is set by hand, and short ways to ask for money."""

from datetime import timedelta
from decimal import Decimal

from avatar_pipeline.budget.config import DegradeRule, Limit, Plan
from avatar_pipeline.budget.periods import Period
from avatar_pipeline.budget.types import (
    ALL,
    Admission,
    Amounts,
    AttemptEnd,
    AttemptStart,
    Demand,
    Payer,
    ProviderCharge,
    Scope,
    ScopeKind,
    Unit,
)
from avatar_pipeline.ledger.budgets import BudgetBook
from avatar_pipeline.ledger.database import open_engine, reading
from avatar_pipeline.ledger.spend import SpendBook
from avatar_pipeline.ledger.spend_entries import ENTRIES
from avatar_pipeline.ledger.totals import ACCOUNTS, TOTALS
from tests.ledger.desk import NOW

ACME = Payer(tenant="acme", avatar_id="ada", request_id="clip-1")
VOICE = Payer(tenant="acme", avatar_id="ada", request_id="clip-1", provider="elevenlabs")
TENANTS = Scope(ScopeKind.TENANT)
ELEVENLABS = Scope(ScopeKind.PROVIDER, "elevenlabs")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def usd(amount: str | int, provider: str | int = 0, characters: int = 0) -> Amounts:
    return Amounts(Decimal(amount), Decimal(provider), Decimal(characters))


def limit(
    name: str,
    hard: str | int,
    *,
    scope: Scope = ALL,
    unit: Unit = Unit.USD,
    period: Period = Period.DAY,
    degrade: DegradeRule | None = None,
    carry_over: str = "0",
) -> Limit:
    return Limit(
        f"{name}/{period}", scope, unit, period, Decimal(hard), degrade=degrade, carry_over=Decimal(carry_over)
    )


class Till:
    def __init__(self, url: str, *limits: Limit, timezone: str = "UTC") -> None:
        self.now = NOW
        self.engine = open_engine(url)
        self.plan = Plan(timezone, limits)
        self.book = SpendBook(self.engine, plan=self.plan, clock=self.clock)
        self.budgets = BudgetBook(self.engine, self.plan, clock=self.clock)

    def clock(self):
        return self.now

    def ask(self, key: str, amounts: Amounts | str | int, payer: Payer = ACME, **fields) -> Admission:
        amounts = amounts if isinstance(amounts, Amounts) else usd(amounts)
        return self.book.admit(Demand(key, fields.pop("purpose", "clip"), payer, amounts, **fields))

    def begin(self, key: str = "run/render/1", price: str = "3.6", shares=None, **fields) -> bool:
        """An attempt begins now; at 3.6 dollars an hour a second costs a tenth of a cent."""
        run, step, number = key.split("/")
        values = {"asset": "rendered_clips", "partition": "batch-1", "price_source": "cap", "started_at": self.now}
        start = AttemptStart(key, run, step, int(number), price_per_hour=Decimal(price), **(values | fields))
        return self.book.begin(start, {"a": 1} if shares is None else shares)

    def meter(self, seconds: float, key: str = "run/render/1", **fields):
        """Time goes on, and the attempt is metered."""
        self.now += timedelta(seconds=seconds)
        return self.book.meter(key, self.now, **fields)

    def settle(self, key: str = "run/render/1", **fields) -> bool:
        values = {"at": self.now, "ending": "succeeded"} | fields
        return self.book.settle(key, AttemptEnd(**values))

    def charge(self, key: str, dollars: str, characters: int, reservation: str | None = "a", **fields) -> bool:
        values = {"payer": Payer(tenant="acme"), "at": self.now} | fields
        amounts = (Decimal(dollars), Decimal(characters))
        return self.book.charge(
            ProviderCharge(
                key, "elevenlabs", reservation, values["payer"], "synthesized_speech", *amounts, values["at"]
            )
        )

    def left(self, key: str = "a") -> Amounts:
        remaining = self.book.remaining(key)
        assert remaining is not None
        return remaining.amounts

    def state(self, key: str = "a") -> str:
        known = self.book.get(key)
        assert known is not None
        return known.state

    def standing(self, limit_id: str, payer: Payer = VOICE):
        return {limit.id: standing for limit, standing in self.book.standings(payer)}[limit_id]

    def reserved(self) -> dict[tuple[str, str], Decimal]:
        """What is reserved, by scope and unit; scopes of nothing left out."""
        with reading(self.engine) as session:
            rows = session.connection().execute(ACCOUNTS.select()).all()
        return {(row.scope, row.unit): row.reserved for row in rows if row.reserved}

    def spent(self, grain: str = "q") -> dict[tuple[str, str], Decimal]:
        """What was spent, by scope and unit, as the totals of one grain say."""
        with reading(self.engine) as session:
            rows = session.connection().execute(TOTALS.select().where(TOTALS.c.grain == grain)).all()
        found: dict[tuple[str, str], Decimal] = {}
        for row in rows:
            found[row.scope, row.unit] = found.get((row.scope, row.unit), Decimal(0)) + row.settled
        return {key: amount for key, amount in found.items() if amount}

    def entries(self, source: str = "run/render/1"):
        with reading(self.engine) as session:
            query = ENTRIES.select().where(ENTRIES.c.source == source)
            return session.connection().execute(query.order_by(ENTRIES.c.slot, ENTRIES.c.reservation)).all()
