"""Scenarios side by side, each worker with a process of its own from which containers are forked."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait

from avatar_pipeline.lab.cluster import Zygote
from tests.spot.chaos.run import Outcome, run_scenario
from tests.spot.chaos.scenario import scenario
from tests.spot.executor.harness import PRELOAD

_zygotes: list[Zygote] = []


def run_scenarios(seed: int, numbers: Sequence[int], workers: int) -> Iterator[Outcome]:
    """Run scenarios and yield what came of each, in the order in which they end."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(numbers)), mp_context=context, initializer=_begin) as pool:
        futures = [pool.submit(_one, seed, number) for number in numbers]
        for future in as_completed(futures):
            yield future.result()


def _begin() -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    zygote = Zygote(preload=PRELOAD)
    zygote.wait_ready()
    _zygotes.append(zygote)


def _end_with_the_parent() -> None:
    """End with the process that started this one, however that ended: a pool's workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _one(seed: int, number: int) -> Outcome:
    return run_scenario(scenario(seed, number), _zygotes[0])
