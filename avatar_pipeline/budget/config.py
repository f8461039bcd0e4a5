"""What may be spent: limits by whose spending, by unit and by period, as a file of budgets gives them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from avatar_pipeline.budget.off_peak import OffPeak
from avatar_pipeline.budget.periods import Period
from avatar_pipeline.budget.types import Amounts, Payer, Scope, ScopeKind, Unit, lines

__all__ = ["DEFAULT_CAPS", "NO_BUDGETS", "DegradeRule", "Limit", "OffPeak", "Period", "Plan", "load_plan"]

DEFAULT_THRESHOLDS = (Decimal("0.5"), Decimal("0.8"), Decimal(1))
DEFAULT_CAPS: Mapping[str, Amounts] = MappingProxyType(
    {
        "clip": Amounts(compute=Decimal("0.50")),
        "avatar": Amounts(compute=Decimal("2.00")),
        "default": Amounts(compute=Decimal("0.50")),
        "daily_report": Amounts(compute=Decimal("0.02")),
        "cost_report": Amounts(compute=Decimal("0.02")),
    }
)
"""What is reserved for a purpose before anything is learnt of it. Half a dollar is half an hour of a g5.xlarge."""


@dataclass(frozen=True, slots=True)
class DegradeRule:
    """What changes for work that begins once `at` (a share of the hard limit) is spent.

    `spot_only`: no machine on demand. `priority` (0 or below) is added to the run's. `off_peak`: what can wait begins
    within these hours only, in the file's time zone.
    """

    at: Decimal
    spot_only: bool = False
    priority: int = 0
    off_peak: OffPeak | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A hard limit of what a scope spends in a period, and at which shares of it somebody is told.

    A scope without a name (`tenant`) stands for each one: such a rule is in `Plan.rules` only; what `limits_for` and
    `limits_of` return has a name, and an id such as `tenants/day@tenant:acme`. `carry_over` is the share of the limit
    that may be carried into the next period, out of what was not spent.
    """

    id: str
    scope: Scope
    unit: Unit
    period: Period
    hard: Decimal
    thresholds: tuple[Decimal, ...] = DEFAULT_THRESHOLDS
    forecast: Decimal | None = Decimal(1)
    degrade: DegradeRule | None = None
    carry_over: Decimal = Decimal(0)

    @property
    def rule_id(self) -> str:
        """The id of the rule in the file that it comes from: its own, but for one of each."""
        return self.id.partition("@")[0]

    @property
    def names_avatar(self) -> bool:
        """Whether it names one avatar: what is kept for long, such as reports, leaves it out."""
        return self.scope.kind is ScopeKind.AVATAR and self.scope.name != ""

    @property
    def each(self) -> bool:
        """Whether it is a rule for each of its kind."""
        return self.scope.kind is not ScopeKind.ALL and not self.scope.name

    def of(self, scope: Scope) -> Limit:
        """Return what a rule for each is for `scope`."""
        return Limit(
            f"{self.id}@{scope}",
            scope,
            self.unit,
            self.period,
            self.hard,
            self.thresholds,
            self.forecast,
            self.degrade,
            self.carry_over,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """All limits, and what estimates are made by. It never changes; a new file is a new plan.

    `timezone` names the zone that days begin in. `rules` are the limits as the file has them. `caps` are reserved for a
    purpose that nothing is known of yet (`cap`). `alerts_url`: where crossings are posted to.
    """

    timezone: str = "UTC"
    rules: tuple[Limit, ...] = ()
    caps: Mapping[str, Amounts] = field(default_factory=lambda: DEFAULT_CAPS, hash=False)
    cold_start_seconds: int = 180
    expected_retries: Decimal = Decimal("0.5")
    alerts_url: str | None = None
    _fixed: Mapping[Scope, tuple[Limit, ...]] = field(init=False, repr=False, compare=False)
    _each: Mapping[ScopeKind, tuple[Limit, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fixed, each = defaultdict(list), defaultdict(list)
        for rule in self.rules:
            if rule.each:
                each[rule.scope.kind].append(rule)
            else:
                fixed[rule.scope].append(rule)
        # Frozen for everybody else: these follow from the fields above.
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "caps", MappingProxyType({**DEFAULT_CAPS, **self.caps}))
        object.__setattr__(self, "_fixed", {scope: tuple(rules) for scope, rules in fixed.items()})
        object.__setattr__(self, "_each", {kind: tuple(rules) for kind, rules in each.items()})

    def __reduce__(self) -> tuple[Any, ...]:
        # A view of a mapping cannot be pickled; worker processes get a copy.
        return Plan, (
            self.timezone,
            self.rules,
            dict(self.caps),
            self.cold_start_seconds,
            self.expected_retries,
            self.alerts_url,
        )

    @property
    def fixed(self) -> tuple[Limit, ...]:
        """The limits of named scopes, and of all, in the file's order."""
        return tuple(rule for rule in self.rules if not rule.each)

    @property
    def scope_kinds(self) -> frozenset[ScopeKind]:
        """The kinds of which each one has a limit."""
        return frozenset(self._each)

    def cap(self, purpose: str) -> Amounts:
        """Return what is reserved for a purpose that nothing is known of; never nothing."""
        return self.caps.get(purpose) or self.caps["default"]

    def limits_for(self, payer: Payer) -> tuple[Limit, ...]:
        """Return every limit that spending of `payer` counts against, in the order in which scopes are locked."""
        return _in_order(
            limit
            for scope in dict.fromkeys(scope for scope, _ in lines(payer, Amounts()))
            for limit in self.limits_of(scope)
        )

    def limits_of(self, scope: Scope) -> tuple[Limit, ...]:
        """Return the limits of one scope: its own, and those for each of its kind that it has no own one for.

        An own limit takes the place of the one for each of the same unit and period, be it lower or higher.
        """
        own = self._fixed.get(scope, ())
        taken = {(limit.unit, limit.period) for limit in own}
        each = self._each.get(scope.kind, ()) if scope.name else ()
        return _in_order((*own, *(rule.of(scope) for rule in each if (rule.unit, rule.period) not in taken)))


def _in_order(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    return tuple(sorted(limits, key=lambda limit: (limit.scope, limit.unit, limit.id)))


NO_BUDGETS = Plan()
"""Nothing is limited; all is recorded the same."""


def load_plan(path: Path | None) -> Plan:
    """Read a YAML or JSON file of budgets; without one, nothing is limited.

    Raises:
        InvalidInput: the file cannot be read or used; names the file, the budget, the field, and what would do.
    """
    if path is None:
        return NO_BUDGETS
    from avatar_pipeline.budget.budgets_file import read_plan

    return read_plan(path)
