"""The world in which money is put to the test: who spends, what limits them, and the model's words in the ledger's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from avatar_pipeline.budget.config import DegradeRule, Limit, Plan
from avatar_pipeline.budget.periods import Period
from avatar_pipeline.budget.types import Payer, Scope, ScopeKind, Unit
from tests.ledger.money.model import Rule, Who

DOLLAR = 1_000_000
SECOND = timedelta(seconds=1)
MARGIN = 1000
"""Millionths that a worker keeps back: what it has paid is rounded."""
RULES = (
    Rule("everything/day", "all", "", "usd", "day", 3 * DOLLAR, carry=Fraction(1, 4)),
    Rule("everything/month", "all", "", "usd", "month", 12 * DOLLAR),
    Rule("everything/rolling_24h", "all", "", "usd", "rolling_24h", 4 * DOLLAR),
    Rule("tenants/day", "tenant", "", "usd", "day", 3 * DOLLAR // 2),
    Rule("acme/day", "tenant", "acme", "usd", "day", 2 * DOLLAR),
    Rule("avatars/week", "avatar", "", "usd", "week", 5 * DOLLAR // 2, degrade_at=Fraction(1, 2)),
    Rule("voices/month", "provider", "elevenlabs", "characters", "month", 4000 * DOLLAR),
    Rule("voice-bill/day", "provider", "elevenlabs", "usd", "day", DOLLAR),
)
PEOPLE = tuple(
    Who(tenant, avatar, "", provider)
    for tenant, avatar, provider in (
        ("acme", "ada", "elevenlabs"),
        ("acme", "bob", ""),
        ("beta", "bob", "elevenlabs"),
        ("beta", "", ""),
    )
)
PRICES = (526_000, 1_006_000, 1_860_999, 333_333, 5_672_000)
COMPUTE = (40_000, 150_000, 400_000, 700_000, 900_000, 1_300_000, 3_500_000)
PROVIDED = ((0, 0), (30_000, 300 * DOLLAR), (250_000, 1300 * DOLLAR), (0, 5500 * DOLLAR))
BEGINNINGS = (
    datetime(2026, 3, 28, 20, 50, tzinfo=UTC),  # the clocks of Berlin go forward that night
    datetime(2026, 10, 24, 21, 40, tzinfo=UTC),  # and back
    datetime(2026, 12, 31, 22, 30, tzinfo=UTC),
    datetime(2026, 6, 30, 12, 0, 7, 250_001, tzinfo=UTC),
)
LIMITS = (*RULES, "tenants/day@tenant:beta", "avatars/week@avatar:ada")


def storm_rules(spenders: int) -> tuple[Rule, ...]:
    """Return limits that so many processes meet all the time: not all of what they put aside fits."""
    return (
        Rule("everything/day", "all", "", "usd", "day", 8 * spenders * DOLLAR // 10),
        Rule("everything/month", "all", "", "usd", "month", 3 * spenders * DOLLAR),
        Rule("everything/rolling_24h", "all", "", "usd", "rolling_24h", 12 * spenders * DOLLAR // 10),
        Rule("tenants/day", "tenant", "", "usd", "day", 3 * spenders * DOLLAR // 10),
        Rule("avatars/week", "avatar", "", "usd", "week", 3 * spenders * DOLLAR // 10),
        Rule("voices/day", "provider", "elevenlabs", "characters", "day", 2000 * spenders * DOLLAR),
    )


def plan_of(rules: Sequence[Rule] = RULES) -> Plan:
    """Return the rules as the ledger is given them."""
    return Plan(timezone="Europe/Berlin", rules=tuple(_limit(rule) for rule in rules))


def _limit(rule: Rule) -> Limit:
    return Limit(
        rule.id,
        Scope(ScopeKind(rule.kind), rule.name),
        Unit(rule.unit),
        Period(rule.period),
        decimal(rule.hard),
        carry_over=Decimal(rule.carry.numerator) / rule.carry.denominator,
        degrade=None if rule.degrade_at is None else DegradeRule(Decimal(float(rule.degrade_at)), spot_only=True),
    )


def payer_of(who: Who) -> Payer:
    """Return who pays, as the ledger has it."""
    return Payer(who.tenant, who.avatar, who.request, who.provider)


def decimal(amount: int) -> Decimal:
    """Return millionths as the ledger has them."""
    return Decimal(amount) / DOLLAR


def micros(amount: Decimal) -> Fraction:
    """Return an amount in millionths."""
    return Fraction(amount) * DOLLAR
