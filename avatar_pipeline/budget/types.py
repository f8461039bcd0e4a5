"""The words of money: who pays, what for, how much of what, and what a budget says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

MICRO = Decimal("0.000001")
NONE = Decimal(0)
CURRENCY = "USD"


class Unit(StrEnum):
    """What a budget counts: US dollars, or the characters (credits) of a voice provider."""

    USD = "usd"
    CHARACTERS = "characters"


class ScopeKind(StrEnum):
    """Whose spending a budget limits."""

    ALL = "all"
    TENANT = "tenant"
    AVATAR = "avatar"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Whose spending: everybody's, or one tenant's, avatar's or provider's. `str()` is its key, `tenant:acme`."""

    kind: ScopeKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


ALL = Scope(ScopeKind.ALL)


@dataclass(frozen=True, slots=True)
class Amounts:
    """What something costs: machines and a provider in US dollars, and the provider's characters. Exact to 10⁻⁶."""

    compute: Decimal = NONE
    provider: Decimal = NONE
    characters: Decimal = NONE

    @property
    def usd(self) -> Decimal:
        """US dollars in all."""
        return self.compute + self.provider

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.compute + other.compute, self.provider + other.provider, self.characters + other.characters)


@dataclass(frozen=True, slots=True)
class Payer:
    """On whose account something is spent. An empty name: nobody's in particular. `provider` speaks for it."""

    tenant: str = ""
    avatar_id: str = ""
    request_id: str | None = None
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """What wants to be admitted. `key` is the attempt's own name: the same key is the same reservation, for ever.

    `purpose` is what is learnt by: `clip` for a whole clip, else the name of the step's asset. `units` is how much work
    it is (characters of a clip's text, seconds of an upload). `amounts` is the upper estimate. `deadline` and
    `priority` (0 to 9) are the request's: what is urgent does not wait for an off-peak window.
    """

    key: str
    purpose: str
    payer: Payer
    amounts: Amounts
    units: Decimal = Decimal(1)
    deadline: datetime | None = None
    priority: int = 0


class Decision(StrEnum):
    """What the gate says."""

    ADMIT = "admit"
    DEGRADE = "degrade"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one limit stands at a moment. `hard` is the limit in force (set, overrides and carry-over included).

    `share` is settled over hard. `ends_at`: when the period turns; for the rolling window, when its oldest spending
    leaves it (None: it is empty).
    """

    limit_id: str
    scope: Scope
    unit: Unit
    period: str
    starts_at: datetime
    ends_at: datetime | None
    hard: Decimal
    settled: Decimal
    reserved: Decimal

    @property
    def left(self) -> Decimal:
        """What may yet be reserved; below 0 where the limit was lowered."""
        return self.hard - self.settled - self.reserved

    @property
    def share(self) -> Decimal:
        """Settled over hard; 1 where the limit is 0."""
        return self.settled / self.hard if self.hard > 0 else Decimal(1)


@dataclass(frozen=True, slots=True)
class Degraded:
    """How degraded work runs: only on spot, so much later in line, and (for what can wait) not before a time."""

    spot_only: bool = False
    priority: int = 0
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """The gate's answer. Held: `binding` is the limit that says no, `asked` what was asked of it, `retry_at` when to
    ask again (None: when the limit is raised; an estimate above the limit itself never fits). `reason` is one sentence
    with the figures. `replayed`: the key was known, and nothing was reserved anew.
    """

    decision: Decision
    key: str
    reason: str
    degraded: Degraded | None = None
    binding: Standing | None = None
    asked: Decimal = NONE
    retry_at: datetime | None = None
    replayed: bool = False

    @property
    def admitted(self) -> bool:
        """Whether there is a reservation."""
        return self.decision is not Decision.HOLD


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """An attempt of a step as it begins. `key` is `run/step/number`. Prices are US dollars an hour.

    `price_per_hour` is what is metered until the machine is known, so the most that it can be; `on_demand_price` is
    what the same machine costs on demand, for the savings. None, or empty: not known (yet).
    """

    key: str
    run_id: str
    step_key: str
    number: int
    asset: str
    partition: str
    started_at: datetime
    price_per_hour: Decimal
    price_source: str
    on_demand_price: Decimal | None = None
    capacity_type: str = "on-demand"
    profile: str = ""
    instance_type: str | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, by whoever observed it. What is None was not seen, and stays as it was.

    `started_at` is when the machine's time began to be paid, where that is known better than by the worker.
    """

    at: datetime
    ending: str
    started_at: datetime | None = None
    price_per_hour: Decimal | None = None
    on_demand_price: Decimal | None = None
    price_source: str | None = None
    capacity_type: str | None = None
    profile: str | None = None
    instance_type: str | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderCharge:
    """One billed call of a provider. `key` names it once and for all. `reservation`: whose it is taken from."""

    key: str
    provider: str
    reservation: str | None
    payer: Payer
    asset: str
    usd: Decimal
    characters: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """What finished work took: units and seconds of machines, over all its attempts, and how many attempts."""

    units: Decimal
    seconds: Decimal
    attempts: int


Shares = Mapping[str, int]
"""Reservation keys and their weights: who pays for what an attempt does at a moment."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a reservation."""

    key: str
    amounts: Amounts
    closed: bool = field(default=False)


def lines(payer: Payer, amounts: Amounts) -> dict[tuple[Scope, Unit], Decimal]:
    """Return what an amount is in every scope that it counts in, in the order in which scopes are locked.

    The provider's own scope counts its dollars and its characters, not those of machines.
    """
    found: dict[tuple[Scope, Unit], Decimal] = {(ALL, Unit.USD): amounts.usd}
    for kind, name in ((ScopeKind.TENANT, payer.tenant), (ScopeKind.AVATAR, payer.avatar_id)):
        if name:
            found[Scope(kind, name), Unit.USD] = amounts.usd
    if payer.provider:
        scope = Scope(ScopeKind.PROVIDER, payer.provider)
        found[scope, Unit.USD] = amounts.provider
        found[scope, Unit.CHARACTERS] = amounts.characters
    return dict(sorted(found.items()))


def cost(seconds: Decimal, price_per_hour: Decimal) -> Decimal:
    """Return what seconds of a machine cost, to a millionth of a dollar."""
    return (seconds * price_per_hour / 3600).quantize(MICRO, ROUND_HALF_EVEN)
