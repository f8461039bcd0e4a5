"""What one process of the storm does: it is admitted, works, pays, and may be killed at any moment of it.

Time runs many times faster than a clock's, and is the same in all processes. A machine here never runs longer than what
was put aside will pay for, however long its process waits for its turn; that is what workers promise.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from avatar_pipeline.budget.types import (
    Amounts,
    AttemptEnd,
    AttemptStart,
    Demand,
    Payer,
    ProviderCharge,
    Remaining,
)
from avatar_pipeline.errors import Conflict
from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.spend import SpendBook
from tests.ledger.money.model import Rule
from tests.ledger.money.world import plan_of

PRICE, REAL_PRICE = Decimal("0.526"), Decimal("0.2071")
MARGIN = Decimal("0.0001")
LEASE = timedelta(minutes=30)
ADMITTED, HELD, METERED, SETTLED, CHARGED, REPLAYED = range(6)
"""What each process counts, in numbers that nobody else writes."""
COUNTS = 6


@dataclass(frozen=True)
class Stage:
    """What all processes of a storm share. `alive` has the number of the process that spends in each place (0: none),
    `counts` what each place has done. Nobody locks these: who is killed while it holds a lock keeps it for ever.
    """

    url: str
    rules: tuple[Rule, ...]
    folder: Path
    begins: datetime
    zero: float
    speed: float
    stop: Any
    alive: Any
    counts: Any

    def now(self) -> datetime:
        """The time: one machine's monotonic clock is the same for all its processes."""
        return self.begins + timedelta(seconds=(time.monotonic() - self.zero) * self.speed)

    def book(self) -> SpendBook:
        """A book of spending, with connections of its own."""
        return SpendBook(open_engine(self.url), plan=plan_of(self.rules), clock=self.now, lease=LEASE)

    def lives(self, name: str) -> bool:
        """Whether the process of this name still spends: `place-number`."""
        place, _, number = name.partition("-")
        return self.alive[int(place)] == int(number)


def spend(stage: Stage, place: int, number: int) -> None:
    """Spend until the storm is over, as process `number` of a place."""
    with telling(stage, f"spender-{place}"):
        Spender(stage, place, number).go_on()


def reconcile(stage: Stage, place: int) -> None:
    """Settle what dead processes left, again and again, beside others who do the same."""
    with telling(stage, f"reconciler-{place}"):
        book = stage.book()
        while not stage.stop.value:
            settle_dead(stage, book, place)
            time.sleep(0.05)


class _Telling:
    """Writes down what went wrong in a process, for whoever started it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            import traceback

            with self._file.open("a") as file:
                file.write("".join(traceback.format_exception(error)))


def telling(stage: Stage, who: str) -> _Telling:
    """Write errors into a file of the storm's folder."""
    return _Telling(stage.folder / f"{who}.wrong")


class Spender:
    """One worker. Two places share the names of their work, and so often ask for the same at the same time."""

    def __init__(self, stage: Stage, place: int, number: int) -> None:
        self.stage = stage
        self.book = stage.book()
        self.place = place
        self.name = f"{place}-{number}"
        self.chance = random.Random(f"{self.name}")
        self.serial = 0

    def go_on(self) -> None:
        while not self.stage.stop.value:
            mine = [key for _ in range(self.chance.randint(1, 3)) if (key := self.ask())]
            if mine:
                self.work(mine)

    def count(self, what: int, times: int = 1) -> None:
        self.stage.counts[self.place * COUNTS + what] += times

    def ask(self) -> str | None:
        """Ask for work that the neighbour may have asked for; return its key if it is ours now."""
        minute = int(self.stage.now().timestamp()) // 60
        key = f"clip/{self.place // 2}-{minute}-{self.chance.randint(0, 4)}/0"
        voiced = self.chance.random() < 0.5
        payer = Payer(
            tenant=f"tenant-{self.chance.randint(0, 3)}",
            avatar_id=f"avatar-{self.chance.randint(0, 7)}",
            # Whoever puts it aside is whose it is; the reconciler asks whether they live.
            request_id=self.name,
            provider="elevenlabs" if voiced else "",
        )
        compute = Decimal(self.chance.choice(("0.05", "0.2", "0.7")))
        said = Decimal(self.chance.randint(50, 900)) if voiced else Decimal(0)
        demand = Demand(key, "clip", payer, Amounts(compute, said / 5000, said), units=Decimal(100))
        answer = self.book.admit(demand)
        if answer.replayed:
            self.count(REPLAYED)
            return None
        self.count(ADMITTED if answer.admitted else HELD)
        if not answer.admitted:
            return None
        log(self.stage, self.place, "admitted", key)
        if self.chance.random() < 0.1:
            assert self.book.admit(demand).replayed
        return key

    def work(self, mine: list[str]) -> None:
        """Run a machine for these, one after the other or together, until it is done or the money is."""
        self.serial += 1
        now = self.stage.now()
        name = f"{self.name}-{self.serial}/render/1"
        start = AttemptStart(
            name, self.name, "render", 1, "clips", "batch", now, PRICE, "cap", on_demand_price=PRICE, instance_type="g5"
        )
        shares = self.some(mine)
        assert self.book.begin(start, shares)
        told, left = now, self.book.meter(name, now)
        for _ in range(self.chance.randint(1, 12)):
            until = min(self.stage.now(), told + allowance(left, shares, PRICE))
            shares = self.some(mine) if self.chance.random() < 0.3 else shares
            left = self.book.meter(name, until, shares=shares)
            told = max(told, until)
            self.count(METERED)
            if self.chance.random() < 0.3:
                self.bill(self.chance.choice(mine))
            if self.chance.random() < 0.1:
                with suppress(Conflict):
                    self.book.top_up(self.chance.choice(mine), Amounts(Decimal("0.05")))
                left = self.book.meter(name, told)
        end = AttemptEnd(
            min(self.stage.now(), told + allowance(left, shares, PRICE)),
            "success",
            price_per_hour=REAL_PRICE,
            price_source="spot",
        )
        # The reconciler may take a worker for dead only when it is: what it settles here is nobody else's.
        assert self.book.settle(name, end)
        self.count(SETTLED)
        if self.chance.random() < 0.1:
            assert not self.book.settle(name, end)
        for key in mine:
            self.book.release(key, finished=self.chance.random() < 0.8)

    def some(self, mine: list[str]) -> dict[str, int]:
        """Who of ours pays from now on."""
        return {key: self.chance.randint(1, 3) for key in self.chance.sample(mine, self.chance.randint(1, len(mine)))}

    def bill(self, key: str) -> None:
        """A provider bills some of what is left for it."""
        remaining = self.book.remaining(key)
        if remaining is None or not remaining.amounts.characters:
            return
        said = min(Decimal(self.chance.randint(1, 300)), remaining.amounts.characters)
        usd = min(said / 5000, remaining.amounts.provider)
        self.serial += 1
        charge = ProviderCharge(
            f"elevenlabs/{self.name}-{self.serial}",
            "elevenlabs",
            key,
            Payer(provider="elevenlabs"),
            "speech",
            usd,
            said,
            self.stage.now(),
        )
        assert self.book.charge(charge)
        self.count(CHARGED)
        if self.chance.random() < 0.2:
            assert not self.book.charge(charge)


def allowance(left: Mapping[str, Remaining], shares: Mapping[str, int], price: Decimal) -> timedelta:
    """How long a machine may run until the first of those who pay has nothing left."""
    whole = sum(shares.values())
    seconds = [
        max(left[key].amounts.compute - MARGIN, Decimal(0)) * 3600 * whole / (price * weight)
        for key, weight in shares.items()
        if key in left
    ]
    return timedelta(microseconds=int(min(seconds, default=Decimal(0)) * 1_000_000))


def settle_dead(stage: Stage, book: SpendBook, place: int) -> int:
    """Settle the attempts of processes that are dead, somewhere between their last sign and the end of their money, and
    let go of what they had put aside. Return how many attempts."""
    chance = random.Random(time.monotonic_ns())
    settled = 0
    for attempt in book.open_attempts():
        if stage.lives(attempt.run_id):
            continue
        left = {key: remaining for key in attempt.shares if (remaining := book.remaining(key))}
        ran = allowance(left, attempt.shares, attempt.price_per_hour) * chance.random()
        at = min(stage.now(), attempt.metered_until + ran)
        price = chance.choice((None, REAL_PRICE))
        if book.settle(attempt.key, AttemptEnd(at, "lost", price_per_hour=price)):
            log(stage, place, "settled", attempt.key)
            settled += 1
    for view in book.expired():
        if stage.lives(view.payer.request_id or ""):
            book.extend([view.key], stage.now() + LEASE)
        else:
            book.release(view.key)
    return settled


def log(stage: Stage, place: int, what: str, key: str) -> None:
    """Note what may happen once only, in one write: all of it is there, or nothing."""
    file = os.open(stage.folder / f"{what}-{place}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{key}\n".encode())
    os.close(file)


def logged(stage: Stage, what: str) -> Iterator[str]:
    """Return everything that was noted."""
    for file in sorted(stage.folder.glob(f"{what}-*.log")):
        yield from file.read_text().splitlines()
