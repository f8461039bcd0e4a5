"""What the ledger of spend should say, reckoned anew from scratch at every question: slow, and too simple to be wrong.

It keeps what machines really did (spans of time and who was to pay for them) and adds it up. It shares nothing with
the ledger but the words of `budget.types`. Money is in millionths of a dollar, as exact fractions; the ledger may
differ by a millionth for each of its entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Berlin")
QUARTER = timedelta(minutes=15)
LEASE = timedelta(minutes=30)
HOUR_US = 3_600_000_000
US = timedelta(microseconds=1)
_NO_TIME = timedelta(0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rule:
    """A limit for everybody or for one of a kind; without a name, for each of the kind. `hard` in millionths."""

    id: str
    kind: str
    name: str
    unit: str
    period: str
    hard: int
    carry: Fraction = Fraction(0)
    degrade_at: Fraction | None = None

    def instance(self, name: str) -> str:
        """The id of the limit for one of them."""
        return self.id if self.name or self.kind == "all" else f"{self.id}@{self.kind}:{name}"


@dataclass(frozen=True)
class Who:
    """On whose account."""

    tenant: str
    avatar: str
    request: str
    provider: str

    def name(self, kind: str) -> str:
        """Their name as one of a kind; empty if they are none."""
        return {"all": "", "tenant": self.tenant, "avatar": self.avatar, "provider": self.provider}[kind]

    def counts(self, kind: str, name: str) -> bool:
        """Whether what they spend counts there."""
        return self.name(kind) == name and (kind == "all" or name != "")


@dataclass
class Part:
    """An amount of three things: machines and a provider in millionths of a dollar, characters in millionths."""

    compute: Fraction = Fraction(0)
    provider: Fraction = Fraction(0)
    characters: Fraction = Fraction(0)

    def add(self, other: Part, sign: int = 1) -> None:
        self.compute += sign * other.compute
        self.provider += sign * other.provider
        self.characters += sign * other.characters

    def counted(self, kind: str, unit: str) -> Fraction:
        """How much of it counts in a scope of this kind, in this unit."""
        if unit == "characters":
            return self.characters if kind == "provider" else Fraction(0)
        return self.provider if kind == "provider" else self.compute + self.provider

    def over(self, other: Part) -> Part:
        """What of this is more than the other, thing by thing."""
        return Part(
            max(self.compute - other.compute, Fraction(0)),
            max(self.provider - other.provider, Fraction(0)),
            max(self.characters - other.characters, Fraction(0)),
        )


@dataclass
class Reserved:
    """A reservation."""

    who: Who
    amount: Part
    at: datetime
    expires: datetime
    topped_up: datetime | None = None
    closing: bool = False
    closed: bool = False


@dataclass
class Machine:
    """An attempt: what the machine did, and what the ledger was told of it.

    It ran from `true_start` to `true_end`, and stopped by itself where it is `parked`. `spans` are those that the
    ledger was told, with who pays. `joined` are all who ever were to pay.
    """

    price: int
    start: datetime
    true_start: datetime
    true_end: datetime
    told: datetime
    shares: dict[str, int]
    alive: bool = True
    parked: bool = False
    ended: bool = False
    spans: list[tuple[datetime, datetime, dict[str, int]]] = field(default_factory=list)
    joined: dict[str, None] = field(default_factory=dict)
    slack: Fraction = Fraction(0)

    def paid(self) -> Iterator[tuple[str, datetime, datetime, Fraction]]:
        """Every span with one who pays, and the part of it that is theirs. Nobody is ''."""
        for start, end, shares in self.spans:
            for key, part in parts(shares).items():
                yield key, start, end, part

    def by_quarter(self) -> dict[tuple[str, datetime], Fraction]:
        """What each who pays has paid in each quarter of an hour."""
        found: dict[tuple[str, datetime], Fraction] = {}
        for key, start, end, part in self.paid():
            quarter = start - (start - _EPOCH) % QUARTER
            while quarter < end:
                span = min(end, quarter + QUARTER) - max(start, quarter)
                found[key, quarter] = found.get((key, quarter), Fraction(0)) + part * cost(span, self.price)
                quarter += QUARTER
        return found

    def payers(self) -> dict[str, int]:
        """Who pays for what nobody was told yet: those who are to; else those who did, by their time; else nobody."""
        if self.shares:
            return self.shares
        times: dict[str, Fraction] = {}
        for key, start, end, part in self.paid():
            times[key] = times.get(key, Fraction(0)) + part * ((end - start) // US)
        return {key: int(time) for key, time in times.items() if time >= 1}

    @property
    def untold(self) -> timedelta:
        """How long it ran that nobody was told of yet."""
        return timedelta(0) if self.ended else self.start - self.true_start + max(self.true_end - self.told, _NO_TIME)

    def unpaid_cost(self) -> dict[str, Fraction]:
        """What each will have to pay, at the most, for what nobody was told yet."""
        return {key: part * cost(self.untold, self.price) for key, part in parts(self.payers()).items()}

    def tell(
        self, until: datetime, *, since: datetime | None = None, next_ones: Mapping[str, int] | None = None
    ) -> None:
        """The ledger is told that it ran until then, and (at its end) since when."""
        payers = self.payers() or dict(next_ones or {})
        for start, end in ((since or self.start, self.start), (self.told, until)):
            if start < end:
                self.spans.append((start, end, payers))
                if payers != self.shares:
                    # By their time is by some hundred thousandths, in turns of a tenth of a second (spend_split).
                    self.slack += cost(end - start, self.price) / 20_000 + cost(timedelta(seconds=0.2), self.price)
        self.told = max(self.told, until)


@dataclass(frozen=True)
class Bill:
    """One charge of a provider. `over`: what of it nobody had reserved."""

    key: str
    who: Who
    amount: Part
    at: datetime
    over: Part


@dataclass(frozen=True)
class Change:
    """One change of a limit."""

    limit: str
    action: str
    amount: int = 0
    override: str = ""
    expires: datetime | None = None
    at: datetime | None = None


def parts(shares: Mapping[str, int]) -> dict[str, Fraction]:
    """Whose part of a span is how large; all of it is nobody's where there are no shares."""
    whole = sum(shares.values())
    return {key: Fraction(weight, whole) for key, weight in shares.items()} if whole else {"": Fraction(1)}


def cost(span: timedelta, price: int) -> Fraction:
    """What a span of a machine costs."""
    return Fraction(span // US) * price / HOUR_US


def window(period: str, now: datetime) -> tuple[datetime, datetime | None]:
    """The window of a period: quarters of an hour, as far back and forward as the calendar says the same."""
    slot = now - (now - _EPOCH) % QUARTER
    if period == "rolling_24h":
        now -= timedelta(days=1)
        return now - (now - _EPOCH) % QUARTER, None
    return _calendar(period, _label(period, slot), slot.date())


def _label(period: str, moment: datetime) -> tuple[int, ...]:
    local = moment.astimezone(ZONE)
    if period == "week":
        return local.isocalendar()[:2]
    return (local.year, local.month) if period == "month" else (local.year, local.month, local.day)


@cache
def _calendar(period: str, label: tuple[int, ...], near: object) -> tuple[datetime, datetime]:
    start = datetime.combine(near, datetime.min.time(), UTC) - timedelta(days=1)
    while _label(period, start) != label:
        start += QUARTER
    while _label(period, start - QUARTER) == label:
        start -= QUARTER
    end = start
    while _label(period, end) == label:
        end += QUARTER
    return start, end
