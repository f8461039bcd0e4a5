"""How much to put aside for work: an upper estimate, learnt from what such work took before.

    seconds = p95(seconds for one unit of work) × units × (1 + expected retries) + cold start
    amount  = seconds × on-demand price

The price is that on demand though the work may run on spot: it may have to fall back. Until five pieces of work are
known, the purpose's cap is put aside. Nothing is ever estimated at nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

from avatar_pipeline.budget.config import Plan
from avatar_pipeline.budget.types import MICRO, Amounts, Sample

ENOUGH_SAMPLES = 5


def estimate(
    samples: Sequence[Sample],
    units: Decimal,
    *,
    price_per_hour: Decimal,
    plan: Plan,
    purpose: str,
    provider: Amounts | None = None,
) -> Amounts:
    """Return what to reserve for `units` of work of a purpose, rounded up to a millionth.

    `samples` are of finished work of that purpose. `price_per_hour` is in US dollars, on demand; without one (0) the
    cap is taken. `provider` is what the voice provider will bill, where that is known beforehand; else the cap's.
    """
    cap = plan.cap(purpose)
    learnt = upper_seconds(samples)
    compute = Decimal(0)
    if learnt is not None:
        seconds = learnt * units * (1 + plan.expected_retries) + plan.cold_start_seconds
        compute = _up(seconds * price_per_hour / 3600)
    billed = provider if provider is not None else Amounts(provider=cap.provider, characters=cap.characters)
    return Amounts(compute if compute > 0 else _up(cap.compute), _up(billed.provider), _up(billed.characters))


def upper_seconds(samples: Sequence[Sample]) -> Decimal | None:
    """Return the 95th percentile (nearest rank) of the seconds that a unit of work took; None: too few to tell."""
    rates = sorted(sample.seconds / sample.units for sample in samples if sample.units > 0)
    if len(rates) < ENOUGH_SAMPLES:
        return None
    return rates[-(-95 * len(rates) // 100) - 1]


def _up(amount: Decimal) -> Decimal:
    return amount.quantize(MICRO, ROUND_CEILING)
