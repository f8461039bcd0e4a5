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
_US = timedelta(microseconds=1)
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
            times[key] = times.get(key, Fraction(0)) + part * ((end - start) // _US)
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


@dataclass
class Books:
    """Everything that happened, and what follows from it."""

    rules: tuple[Rule, ...]
    now: datetime
    reservations: dict[str, Reserved] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    bills: dict[str, Bill] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    # Limits

    def limits(self, who: Who | None = None) -> Iterator[tuple[Rule, str]]:
        """Every limit, with whose it is: those that somebody counts in, or of all who were ever seen."""
        seen = [who] if who else [each.who for each in (*self.reservations.values(), *self.bills.values())]
        done = set()
        own = {(rule.kind, rule.name, rule.unit, rule.period) for rule in self.rules if rule.name}
        for rule in self.rules:
            if rule.kind == "all" or rule.name:
                names = {rule.name} if who is None or who.counts(rule.kind, rule.name) else set()
            else:
                names = {each.name(rule.kind) for each in seen} - {""}
                names = {name for name in names if (rule.kind, name, rule.unit, rule.period) not in own}
            for name in sorted(names):
                if (rule.id, name) not in done:
                    done.add((rule.id, name))
                    yield rule, name

    def hard(self, rule: Rule, name: str, at: datetime) -> Fraction:
        """The limit at a moment, with what the period before left."""
        base = self._in_force(rule, name, at, self.changes)
        if not rule.carry:
            return base
        start, _ = window(rule.period, at)
        last = start - _US
        before = self._in_force(rule, name, last, [change for change in self.changes if change.at < start])
        unspent = before - self.settled(rule, name, *window(rule.period, last))
        return base + max(Fraction(0), min(unspent, rule.carry * before))

    def _in_force(self, rule: Rule, name: str, at: datetime, changes: list[Change]) -> Fraction:
        amount = Fraction(rule.hard)
        for limit in (rule.instance(name), rule.id):
            lasting = [change for change in changes if change.limit == limit and change.action in ("set", "clear")]
            if lasting and lasting[-1].action == "set":
                amount = Fraction(lasting[-1].amount)
                break
        revoked = {change.override for change in changes if change.action == "revoke"}
        for change in changes:
            if change.action == "override" and change.limit in (rule.instance(name), rule.id):
                amount += change.amount if change.expires > at and change.override not in revoked else 0
        return amount

    # What was spent, and what is put aside

    def settled(self, rule: Rule, name: str, start: datetime, end: datetime | None) -> Fraction:
        """What was spent in a window, as far as anybody knows."""
        return self._compute(rule, name, start, end) + self._billed(rule, name, start, end)

    def _compute(self, rule: Rule, name: str, start: datetime, end: datetime | None) -> Fraction:
        if rule.unit == "characters" or rule.kind == "provider":
            return Fraction(0)
        total = Fraction(0)
        for machine in self.machines.values():
            spent = Fraction(0)
            for key, begins, ends, part in machine.paid():
                if self._who(key).counts(rule.kind, name):
                    inside = (min(ends, end) if end else ends) - max(begins, start)
                    spent += part * max(inside // _US, 0)
            total += spent * machine.price / HOUR_US
        return total

    def _billed(self, rule: Rule, name: str, start: datetime, end: datetime | None) -> Fraction:
        return sum(
            (
                bill.amount.counted(rule.kind, rule.unit)
                for bill in self.bills.values()
                if start <= bill.at and (end is None or bill.at < end) and bill.who.counts(rule.kind, name)
            ),
            Fraction(0),
        )

    def _who(self, key: str) -> Who:
        return self.reservations[key].who if key else Who("", "", "", "")

    def used(self, key: str) -> Part:
        """What a reservation has paid."""
        found = Part()
        for machine in self.machines.values():
            for payer, start, end, part in machine.paid():
                if payer == key:
                    found.compute += part * cost(end - start, machine.price)
        for bill in self.bills.values():
            if bill.key == key:
                found.add(bill.amount)
        return found

    def left(self, key: str) -> Part:
        """What may yet be spent from it."""
        reservation = self.reservations[key]
        return Part() if reservation.closed else reservation.amount.over(self.used(key))

    def reserved(self, rule: Rule, name: str) -> Fraction:
        """What is put aside in a scope."""
        return sum(
            (
                self.left(key).counted(rule.kind, rule.unit)
                for key, reservation in self.reservations.items()
                if not reservation.closed and reservation.who.counts(rule.kind, name)
            ),
            Fraction(0),
        )

    def unforeseen(self, rule: Rule, name: str, start: datetime, end: datetime | None, *, over: bool) -> Fraction:
        """What was spent in a window that no gate could know of: by machines that nobody paid for, beyond what was
        reserved for a provider, and, in a window that is over, before the worker's first sign.
        """
        total = Fraction(0)
        for bill in self.bills.values():
            if start <= bill.at and (end is None or bill.at < end) and bill.who.counts(rule.kind, name):
                total += bill.over.counted(rule.kind, rule.unit)
        if rule.unit == "characters" or rule.kind == "provider":
            return total
        for machine in self.machines.values():
            for key, begins, ends, part in machine.paid():
                if not self._who(key).counts(rule.kind, name):
                    continue
                if key == "" or (over and ends <= machine.start):
                    inside = (min(ends, end) if end else ends) - max(begins, start)
                    total += part * machine.price * max(inside // _US, 0) / HOUR_US
        return total

    def room(self, who: Who, asked: Part) -> Fraction | None:
        """How much room the tightest limit would have left after an amount; None if nothing limits it."""
        rooms = []
        for rule, name in self.limits(who):
            wanted = asked.counted(rule.kind, rule.unit)
            if wanted:
                taken = self.settled(rule, name, *window(rule.period, self.now)) + self.reserved(rule, name)
                rooms.append(self.hard(rule, name, self.now) - taken - wanted)
        return min(rooms, default=None)

    # Reservations and machines

    def paying(self, key: str) -> int:
        """How many machines that are not settled yet have paid from a reservation, or will."""
        return sum(key in machine.joined for machine in self.machines.values() if not machine.ended)

    def allowance(self, shares: Mapping[str, int], price: int, margin: int) -> timedelta:
        """How much longer a machine may run on these, whatever the others on the same do. All the time, on nobody."""
        longest = timedelta(days=1000)
        for key, part in parts(shares).items():
            if key:
                free = self.left(key).compute - margin
                free -= sum(each.unpaid_cost().get(key, Fraction(0)) for each in self.machines.values())
                longest = min(longest, timedelta(microseconds=int(free * HOUR_US / (price * part))))
        return longest

    def settle(self, machine: Machine, at: datetime, since: datetime | None, price: int) -> None:
        """A machine ended, and what it really cost is known. What comes back of a period that is over is no room for
        anybody now: what is left of a reservation stays as it was.
        """
        before = machine.by_quarter()
        machine.tell(at, since=since)
        machine.price, machine.ended = price, True
        begun = max(window(rule.period, self.now)[0] for rule in self.rules)
        after = machine.by_quarter()
        for (key, quarter), amount in before.items():
            if key and quarter < begun:
                reserved = self.reservations[key].amount
                reserved.compute -= min(reserved.compute, max(Fraction(0), amount - after[key, quarter]))
        for key in machine.joined:
            if self.reservations[key].closing:
                self.close(key)

    def close(self, key: str) -> None:
        """Close a reservation that nobody needs any more, unless a machine that has paid from it is not settled."""
        self.reservations[key].closing = True
        self.reservations[key].closed = self.paying(key) == 0


def parts(shares: Mapping[str, int]) -> dict[str, Fraction]:
    """Whose part of a span is how large; all of it is nobody's where there are no shares."""
    whole = sum(shares.values())
    return {key: Fraction(weight, whole) for key, weight in shares.items()} if whole else {"": Fraction(1)}


def cost(span: timedelta, price: int) -> Fraction:
    """What a span of a machine costs."""
    return Fraction(span // _US) * price / HOUR_US


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
