"""The file of budgets: what may be written in it, and what is said about what may not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from avatar_pipeline.budget.config import DEFAULT_THRESHOLDS, DegradeRule, Limit, Plan
from avatar_pipeline.budget.file_values import Amount, Factor, Part, Share, Wrong, shown
from avatar_pipeline.budget.off_peak import OffPeak
from avatar_pipeline.budget.periods import Period
from avatar_pipeline.budget.types import Amounts, Scope, ScopeKind, Unit
from avatar_pipeline.budget.yaml_file import read_yaml
from avatar_pipeline.errors import InvalidInput

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SCOPED = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SCOPES = "all, tenant, avatar or provider (each one), or one of them, such as tenant:acme"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class _Degrade(_Model):
    at: Part
    spot_only: bool = False
    priority: int = Field(default=0, ge=-9, le=0)
    off_peak: str | None = None

    @field_validator("off_peak")
    @classmethod
    def _two_times(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                OffPeak.parse(value)
            except ValueError as error:
                raise Wrong(str(error), 'Write local hours from-to, in quotes: "20:00-07:00".') from None
        return value

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.spot_only and self.priority == 0 and self.off_peak is None:
            raise Wrong("it changes nothing", "Give spot_only: true, a priority below 0, or off_peak hours.")
        return self

    def rule(self) -> DegradeRule:
        return DegradeRule(
            self.at, self.spot_only, self.priority, OffPeak.parse(self.off_peak) if self.off_peak else None
        )


class _Budget(_Model):
    name: str
    scope: str
    unit: Unit = Unit.USD
    day: Amount | None = None
    week: Amount | None = None
    month: Amount | None = None
    rolling_24h: Amount | None = None
    thresholds: tuple[Share, ...] = DEFAULT_THRESHOLDS
    forecast: Share | None = Decimal(1)
    degrade: _Degrade | None = None
    carry_over: Part = Decimal(0)

    @field_validator("name")
    @classmethod
    def _slug(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise Wrong(
                f"{shown(value)} is not a slug",
                "Use up to 63 of a-z, 0-9 and '-', with a letter or digit at both ends.",
            )
        return value

    @field_validator("scope")
    @classmethod
    def _known_scope(cls, value: str) -> str:
        kind, colon, name = value.partition(":")
        if kind not in set(ScopeKind):
            raise Wrong(f"{shown(value)} is no scope", f"Write {_SCOPES}.")
        if colon and (kind == ScopeKind.ALL or not _SCOPED.fullmatch(name)):
            raise Wrong(f"{shown(value)} names nothing", f"Write {_SCOPES}; names are 1 to 63 of a-z, 0-9 and '-'.")
        return value

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        kind = ScopeKind(self.scope.partition(":")[0])
        if self.unit is Unit.CHARACTERS and kind is not ScopeKind.PROVIDER:
            raise Wrong(
                f"unit: characters with scope {self.scope}",
                "Only providers count characters: write scope: provider:elevenlabs, or unit: usd.",
            )
        periods = [period for period in Period if getattr(self, period) is not None]
        if not periods:
            raise Wrong("it has no limit", f"Give one of {', '.join(Period)}.")
        if self.carry_over and periods == [Period.ROLLING]:
            raise Wrong("carry_over with rolling_24h", "The last 24 hours leave nothing over: take carry_over out.")
        return self

    def limits(self) -> Iterator[Limit]:
        kind, _, name = self.scope.partition(":")
        for period in Period:
            hard: Decimal | None = getattr(self, period)
            if hard is not None:
                yield Limit(
                    id=f"{self.name}/{period}",
                    scope=Scope(ScopeKind(kind), name),
                    unit=self.unit,
                    period=period,
                    hard=hard,
                    thresholds=tuple(sorted(set(self.thresholds))),
                    forecast=self.forecast,
                    degrade=self.degrade.rule() if self.degrade else None,
                    carry_over=Decimal(0) if period is Period.ROLLING else self.carry_over,
                )


class _Cap(_Model):
    usd: Amount
    characters: Amount = Decimal(0)

    @model_validator(mode="before")
    @classmethod
    def _a_number_is_dollars(cls, value: object) -> object:
        return value if isinstance(value, Mapping) else {"usd": value}

    @field_validator("usd")
    @classmethod
    def _never_free(cls, value: Decimal) -> Decimal:
        if value == 0:
            raise Wrong("a cap of 0 would let work through for nothing", "Write what such work costs at most.")
        return value


class _Alerts(_Model):
    url: str = Field(max_length=2048)

    @field_validator("url")
    @classmethod
    def _a_place_to_post_to(cls, value: str) -> str:
        remedy = "Write a URL such as https://example.com/alerts."
        try:
            parts = urlsplit(value)
            host = parts.hostname
        except ValueError:
            raise Wrong("it is not a URL", remedy) from None
        # The URL may hold a secret, so no message shows it.
        if parts.scheme not in {"https", "http"} or not host:
            raise Wrong("it is not a URL of https", remedy)
        if parts.username is not None or parts.password is not None:
            raise Wrong("it carries credentials", remedy + " Posts are signed; the receiver checks that.")
        return value


class _File(_Model):
    version: Literal[1]
    timezone: str = "UTC"
    budgets: tuple[_Budget, ...] = ()
    caps: dict[str, _Cap] = Field(default_factory=dict)
    cold_start_seconds: int = Field(default=180, ge=0, le=86400)
    expected_retries: Factor = Decimal("0.5")
    alerts: _Alerts | None = None

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, such as America
            raise Wrong(
                f"there is no time zone {shown(value)}", "Write a name of the IANA list, such as Europe/Berlin or UTC."
            ) from None
        return value

    @field_validator("caps")
    @classmethod
    def _purposes(cls, value: dict[str, _Cap]) -> dict[str, _Cap]:
        for name in value:
            if not _PURPOSE.fullmatch(name):
                raise Wrong(f"{shown(name)} is no purpose", "Write clip, avatar, default, or the name of an asset.")
        return value

    @field_validator("budgets")
    @classmethod
    def _names_once(cls, value: tuple[_Budget, ...]) -> tuple[_Budget, ...]:
        seen: set[str] = set()
        for budget in value:
            if budget.name in seen:
                raise Wrong(f"two budgets have the name {budget.name}", "Give each a name of its own.")
            seen.add(budget.name)
        return value

    def plan(self) -> Plan:
        return Plan(
            timezone=self.timezone,
            rules=tuple(limit for budget in self.budgets for limit in budget.limits()),
            caps={name: Amounts(compute=cap.usd, characters=cap.characters) for name, cap in self.caps.items()},
            cold_start_seconds=self.cold_start_seconds,
            expected_retries=self.expected_retries,
            alerts_url=self.alerts.url if self.alerts else None,
        )


def read_plan(path: Path) -> Plan:
    """Read a YAML or JSON file of budgets.

    Raises:
        InvalidInput: as `load_plan` says.
    """
    return plan_from(read_yaml(path), str(path))


def plan_from(content: object, source: str) -> Plan:
    """Return the plan of a file's content; `source` is for messages.

    Raises:
        InvalidInput: a field is unknown or cannot be used.
    """
    if not isinstance(content, dict):
        raise InvalidInput(
            f"{source}: expected fields with values.", remedy="Begin with version: 1, then budgets: and a list."
        )
    try:
        return _File.model_validate(content).plan()
    except ValidationError as error:
        raise _said(error, content, source) from error


def _said(error: ValidationError, content: Mapping[Any, Any], source: str) -> InvalidInput:
    first, *more = error.errors(include_url=False)
    wrong = first.get("ctx", {}).get("error")
    where = _where(first["loc"], content)
    if isinstance(wrong, Wrong):
        message, remedy = str(wrong), wrong.remedy
    elif first["type"] == "extra_forbidden":
        message, remedy = "there is no such field", f"The fields here are {', '.join(_fields_of(first['loc']))}."
    elif first["type"] == "missing":
        message, remedy = "it is missing", "Write it." if first["loc"] != ("version",) else "Write version: 1."
    else:
        message = f"{first['msg'][:1].lower()}{first['msg'][1:]} (it is {shown(first['input'])})"
        remedy = "Give a value that the field allows."
    also = f" ({len(more)} more of its fields cannot be used.)" if more else ""
    return InvalidInput(f"{source}: {where}{message}.{also}", remedy=remedy)


def _where(loc: tuple[int | str, ...], content: Mapping[Any, Any]) -> str:
    """Name the budget and the field: `budgets[1] (tenants): day: `."""
    parts = [str(part) for part in loc]
    if len(loc) > 1 and loc[0] == "budgets" and isinstance(loc[1], int):
        budget = content["budgets"][loc[1]]
        name = budget.get("name") if isinstance(budget, Mapping) else None
        parts[:2] = [f"budgets[{loc[1]}]" + (f" ({name[:63]})" if isinstance(name, str) else "")]
    return "".join(f"{part}: " for part in parts)


def _fields_of(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    model: type[_Model] = _File
    if loc[0] == "budgets":
        model = _Degrade if "degrade" in loc[:-1] else _Budget
    elif loc[0] == "caps":
        model = _Cap
    elif loc[0] == "alerts":
        model = _Alerts
    return tuple(model.model_fields) if len(loc) > 1 else tuple(_File.model_fields)
