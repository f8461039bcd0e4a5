"""Everything of money that a line needs: the budgets, what was spent under them, and what work is reckoned by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from sqlalchemy import Engine

from avatar_pipeline.budget.config import NO_BUDGETS, Plan, load_plan
from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.ledger.budgets import BudgetBook
from avatar_pipeline.ledger.prices import PriceStore
from avatar_pipeline.ledger.purse import Purse
from avatar_pipeline.ledger.spend import SpendBook
from avatar_pipeline.settings import Settings
from avatar_pipeline.stages.estimates import ELEVENLABS, Estimator


@dataclass(frozen=True, slots=True)
class Money:
    """`plan`: the budgets. `spend`: reservations, attempts, what was spent. `purse`: what requests are admitted by.

    `budgets`: changes of limits, and alerts. `price_store`: what machines cost. `broken`: why the file of budgets
    cannot be used.
    """

    plan: Plan
    spend: SpendBook
    purse: Purse
    estimates: Estimator
    budgets: BudgetBook
    price_store: PriceStore
    broken: InvalidInput | None = None

    @classmethod
    def open(cls, engine: Engine, settings: Settings, *, clock: Clock = utc_now) -> Self:
        """Open what the settings name.

        Where the file of budgets cannot be used, nothing is admitted: what cannot be read is no leave to spend.
        Whoever asks for money is told; to delete a person's data, or look at a queue, no money is needed.
        """
        plan, broken = NO_BUDGETS, None
        try:
            plan = load_plan(settings.budgets)
        except InvalidInput as error:
            broken = error
        spend = SpendBook(engine, plan=plan, clock=clock, shut=broken)
        price_store = PriceStore(
            engine,
            region=settings.region,
            cap=settings.price_cap,
            stale_after=timedelta(days=settings.price_stale_days),
            clock=clock,
        )
        estimates = Estimator(spend, plan, settings, price_store.prices)
        return cls(
            plan=plan,
            spend=spend,
            purse=Purse(spend, estimates, {ELEVENLABS: settings.elevenlabs_price_per_1000_credits}),
            estimates=estimates,
            budgets=BudgetBook(engine, plan, clock=clock),
            price_store=price_store,
            broken=broken,
        )

    def require_plan(self) -> Plan:
        """Return the budgets.

        Raises:
            InvalidInput: their file cannot be used; it says why.
        """
        if self.broken is not None:
            raise self.broken
        return self.plan
