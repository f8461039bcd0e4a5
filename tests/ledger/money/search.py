"""A long search for an order of calls that goes wrong, by several processes."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from rich.console import Console

from avatar_pipeline.ledger.database import open_engine
from tests.ledger.money.databases import ledgers
from tests.ledger.money.machine import AnyOrder

PART = 200
"""Examples of one search: it remembers them all, and gets slower."""
STEPS = 40
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Looked:
    """What was tried; `wrong` is what was found, empty if all is well."""

    examples: int
    steps: int
    admitted: int
    held: int
    wrong: str


def look(url: str, examples: int, number: int) -> Looked:
    """Try so many orders of calls, other ones for each number."""
    engine = open_engine(url)
    machine = type("Machine", (AnyOrder,), {"engine": engine})
    wrong = ""
    try:
        run_state_machine_as_test(
            seed(number)(machine),
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
                phases=(Phase.generate, Phase.shrink),
            ),
        )
    except Exception:
        wrong = traceback.format_exc()
    finally:
        engine.dispose()
    return Looked(machine.examples, machine.steps, machine.admitted, machine.held, wrong)


def search(databases: Sequence[str], examples: int, workers: int, first: int) -> bool:
    """Try so many orders of calls, and print how many there were and what is wrong; true if nothing is."""
    console = Console(stderr=True)
    began = time.monotonic()
    parts = [min(PART, examples - start) for start in range(0, examples, PART)]
    done: list[Looked] = []
    # Each process has databases for itself: two in one would see each other's rows.
    with ledgers([*databases] * workers) as urls, ProcessPoolExecutor(workers, _SPAWN) as pool:
        each = len(databases)
        waiting = [
            pool.submit(_one_by_one, urls[number * each : (number + 1) * each], parts[number::workers], first + number)
            for number in range(workers)
        ]
        for finished in as_completed(waiting):
            done += finished.result()
    wrong = [part.wrong for part in done if part.wrong]
    for told in wrong:
        console.print(told, highlight=False, markup=False)
    console.print(
        f"{sum(part.examples for part in done):,} orders of calls on {' and '.join(databases)}, "
        f"{sum(part.steps for part in done):,} steps, {sum(part.admitted for part in done):,} admissions, "
        f"{sum(part.held for part in done):,} held, {time.monotonic() - began:.0f} s: "
        f"{'WRONG' if wrong else 'all is well'}.",
        highlight=False,
    )
    return not wrong


def _one_by_one(urls: Sequence[str], parts: Sequence[int], first: int) -> list[Looked]:
    """Search part after part, on one database after the other; stop at what is wrong."""
    done: list[Looked] = []
    for number, examples in enumerate(parts):
        done.append(look(urls[number % len(urls)], examples, 1000 * first + number))
        Console(stderr=True).print(f"worker {first}: {sum(part.examples for part in done):,} orders", highlight=False)
        if done[-1].wrong:
            break
    return done
