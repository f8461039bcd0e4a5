"""The model's books: everything that happened, added up anew at every question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

from tests.ledger.money.model import (
    HOUR_US,
    US,
    Bill,
    Change,
    Machine,
    Part,
    Reserved,
    Rule,
    Who,
    cost,
    parts,
    window,
)


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
        if not rule.carry or not base:
            return base
        start, _ = window(rule.period, at)
        last = start - US
        before = self._in_force(rule, name, last, [change for change in self.changes if change.at < start])
        unspent = before - self.settled(rule, name, *window(rule.period, last))
        return base + max(Fraction(0), min(unspent, rule.carry * before))

    def _in_force(self, rule: Rule, name: str, at: datetime, changes: list[Change]) -> Fraction:
        amount, since = Fraction(rule.hard), 0
        for limit in (rule.instance(name), rule.id):
            lasting = [
                number
                for number, change in enumerate(changes)
                if change.limit == limit and change.action in ("set", "clear")
            ]
            if lasting and changes[lasting[-1]].action == "set":
                amount = Fraction(changes[lasting[-1]].amount)
                # Who allows nothing at all means what was allowed on top before, too.
                since = 0 if amount else lasting[-1]
                break
        revoked = {change.override for change in changes if change.action == "revoke"}
        for change in changes[since:]:
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
                    spent += part * max(inside // US, 0)
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
                    total += part * machine.price * max(inside // US, 0) / HOUR_US
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
