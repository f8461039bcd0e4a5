"""Many processes spend from the same tight budgets, and are killed at any moment; somebody looks on all the time.

    python -m tests.ledger.money storm --database both --seconds 60

Spenders ask for work (often for the same as a neighbour), run machines for it, are billed, settle, let go, and call
again what they called before. Every now and then one of them is killed, and another takes its place; two reconcilers
settle what the dead left. A monitor reads all tables in one transaction, again and again: every sum adds up, and what
was spent and is reserved is nowhere over its limit, while days turn. At the end all is settled, and no money is left
reserved.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from avatar_pipeline.ledger.database import open_engine
from tests.ledger.money.audit import at_one_moment, audit, conserved, reserved, spent
from tests.ledger.money.databases import ledgers
from tests.ledger.money.model import Rule, window
from tests.ledger.money.spender import (
    ADMITTED,
    CHARGED,
    COUNTS,
    HELD,
    METERED,
    REPLAYED,
    SETTLED,
    Stage,
    logged,
    reconcile,
    settle_dead,
    spend,
    telling,
)
from tests.ledger.money.world import DOLLAR, storm_rules

HOURS = 10
BEGINS = datetime(2026, 5, 17, 17, 50, tzinfo=UTC)
"""A Sunday evening in Berlin: after 4 of its 10 hours, a day and a week turn."""
RECONCILERS = 2
SPENDERS = {"sqlite": 8, "postgresql": 16}


@dataclass
class Outcome:
    """What a storm did. `wrong` is what was found, empty if all is well."""

    database: str
    spenders: int
    seconds: float
    admissions: int = 0
    held: int = 0
    replayed: int = 0
    metered: int = 0
    settled: int = 0
    charged: int = 0
    killed: int = 0
    reconciled: int = 0
    looks: int = 0
    spent: str = ""
    most_taken: str = ""
    wrong: list[str] = field(default_factory=list)


def storm(url: str, *, seconds: float, spenders: int, seed: int = 0, pause: float = 0.5) -> Outcome:
    """Let it rage, and return what was seen. A spender is killed every `pause` seconds or so."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ledger.money.spender"])
    outcome = Outcome(url.partition(":")[0].partition("+")[0], spenders, seconds)
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        stage = Stage(
            url,
            storm_rules(spenders),
            Path(folder),
            BEGINS,
            time.monotonic(),
            HOURS * 3600 / seconds,
            context.RawValue("i", 0),
            context.RawArray("q", spenders),
            context.RawArray("q", spenders * COUNTS),
        )
        _rage(context, stage, outcome, seed, pause)
        counts = [sum(stage.counts[what::COUNTS]) for what in range(COUNTS)]
        outcome.admissions, outcome.held, outcome.replayed = counts[ADMITTED], counts[HELD], counts[REPLAYED]
        outcome.metered, outcome.settled, outcome.charged = counts[METERED], counts[SETTLED], counts[CHARGED]
        outcome.wrong += _aftermath(stage, outcome)
    return outcome


def _rage(context: Any, stage: Stage, outcome: Outcome, seed: int, pause: float) -> None:
    chance = random.Random(seed)
    places = outcome.spenders
    watching = context.Process(target=watch, args=(stage,), daemon=True)
    others = [context.Process(target=reconcile, args=(stage, place), daemon=True) for place in range(RECONCILERS)]
    spenders = [_begin(context, stage, place, 1) for place in range(places)]
    for process in (watching, *others):
        process.start()
    began = time.monotonic()
    while (left := outcome.seconds - (time.monotonic() - began)) > 0:
        time.sleep(min(left, chance.uniform(0.2, 1.8) * pause))
        place = chance.randrange(places)
        number = stage.alive[place]
        if spenders[place].is_alive():
            os.kill(spenders[place].pid, signal.SIGKILL)
            outcome.killed += 1
        spenders[place].join()
        # Only now is it taken for dead: what it does until then is its own.
        stage.alive[place] = 0
        spenders[place] = _begin(context, stage, place, number + 1)
    stage.stop.value = 1
    for process in (*spenders, *others, watching):
        process.join(60)
        if process.exitcode is None:
            outcome.wrong.append(f"{process.name} hangs")
            process.kill()
            process.join()
    for place in range(places):
        stage.alive[place] = 0


def _begin(context: Any, stage: Stage, place: int, number: int) -> Any:
    stage.alive[place] = number
    process = context.Process(target=spend, args=(stage, place, number), daemon=True, name=f"spender {place}-{number}")
    process.start()
    return process


def _aftermath(stage: Stage, outcome: Outcome) -> list[str]:
    """Settle and release everything, and see that all adds up, and nothing is left behind."""
    book = stage.book()
    settle_dead(stage, book, RECONCILERS)
    engine = open_engine(stage.url)
    with engine.begin() as connection:
        still_open = conserved(connection)
    for sentence in still_open:
        if sentence.endswith(" is open for ever"):
            book.release(sentence.removesuffix(" is open for ever"))
    with engine.begin() as connection:
        wrong = [*audit(connection), *conserved(connection), *over_limits(connection, stage.rules, stage.now())[0]]
        everybodys = [
            amount for (scope, unit, _), amount in spent(connection).items() if (scope, unit) == ("all", "usd")
        ]
        outcome.spent = f"US$ {sum(everybodys, Decimal(0))}"
    engine.dispose()
    for what in ("admitted", "settled"):
        again = [key for key, times in Counter(logged(stage, what)).items() if times > 1]
        wrong += [f"{key} was {what} more than once" for key in again]
    outcome.reconciled = sum(1 for _ in logged(stage, "settled"))
    for file in sorted(stage.folder.glob("*.wrong")):
        wrong.append(f"{file.stem}: {file.read_text()}")
    looks = stage.folder / "looks"
    outcome.looks, outcome.most_taken = json.loads(looks.read_text()) if looks.exists() else (0, "")
    if not outcome.looks:
        wrong.append("nobody looked on")
    return wrong


def watch(stage: Stage) -> None:
    """Look, again and again, whether all adds up and no limit is passed."""
    with telling(stage, "monitor"):
        engine = open_engine(stage.url)
        looks, most = 0, Decimal(0)
        while not stage.stop.value:
            with at_one_moment(engine) as connection:
                wrong = audit(connection)
                # Later than what is seen: what was admitted before a period turned may fill it, and no more.
                over, share = over_limits(connection, stage.rules, stage.now())
            assert not wrong, "\n".join(wrong)
            assert not over, "\n".join(over)
            looks, most = looks + 1, max(most, share)
            (stage.folder / "looks").write_text(json.dumps([looks, f"{100 * most:.1f} %"]))
            time.sleep(0.1)


def over_limits(connection: Connection, rules: Sequence[Rule], now: datetime) -> tuple[list[str], Decimal]:
    """Return which limits were passed, now or in a period that is over, and the largest share of one that is taken."""
    by_scope: dict[tuple[str, str], dict[datetime, Decimal]] = defaultdict(dict)
    for (scope, unit, slot), amount in spent(connection).items():
        by_scope[scope, unit][slot] = amount
    put_aside = reserved(connection)
    over, most = [], Decimal(0)
    for rule in rules:
        hard = Decimal(rule.hard) / DOLLAR
        start, _ = window(rule.period, now)
        for scope, unit in sorted(by_scope.keys() | put_aside.keys()):
            if scope.partition(":")[0] != rule.kind or unit != rule.unit or rule.name not in scope:
                continue
            taken: dict[datetime, Decimal] = defaultdict(Decimal, {start: put_aside.get((scope, unit), Decimal(0))})
            for slot, amount in by_scope[scope, unit].items():
                if slot >= start:
                    taken[start] += amount
                elif rule.period != "rolling_24h":
                    taken[window(rule.period, slot)[0]] += amount
            most = max(most, taken[start] / hard)
            over += [
                f"{rule.id} of {scope} from {begins} on: {amount} of {hard} are taken at {now}"
                for begins, amount in taken.items()
                if amount > hard
            ]
    return over, most


def main(arguments: list[str]) -> int:
    """Let it rage on one database after the other, and print what was seen."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.ledger.money storm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--spenders", type=int, help="processes that spend: 8 on SQLite, 16 on PostgreSQL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    databases = list(SPENDERS) if options.database == "both" else [options.database]
    outcomes = []
    for database in databases:
        with ledgers([database]) as (url,):
            spenders = options.spenders or SPENDERS[database]
            outcomes.append(storm(url, seconds=options.seconds, spenders=spenders, seed=options.seed))
        show(outcomes[-1])
    if options.json:
        sys.stdout.write(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def show(outcome: Outcome) -> None:
    """Print the table and the verdict."""
    console = Console(stderr=True)
    table = Table(title=f"{outcome.spenders} spenders on {outcome.database}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    figures = asdict(outcome) | {
        "admissions_per_second": round(outcome.admissions / outcome.seconds, 1),
        "answers_per_second": round((outcome.admissions + outcome.held + outcome.replayed) / outcome.seconds, 1),
    }
    for name, value in figures.items():
        if name not in {"database", "spenders", "wrong"}:
            table.add_row(name.replace("_", " "), str(value))
    console.print(table)
    for sentence in outcome.wrong:
        console.print(f"wrong: {sentence}", highlight=False, markup=False)
    if not outcome.wrong:
        console.print("No limit was passed at any moment, all sums add up, and no money is left reserved.")
