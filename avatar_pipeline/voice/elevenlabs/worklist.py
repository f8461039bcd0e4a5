"""Work shared by threads: what is not ready yet goes back and comes again when it is due."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Again:
    """Not now: do it again after so many seconds."""

    seconds: float


class Worklist(Generic[T, R]):
    """Tasks in order, done by `threads` threads as `step` says; one that answers `Again` comes again when it is due."""

    def __init__(self, tasks: Sequence[T], step: Callable[[T], R | Again], *, threads: int) -> None:
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, T]] = [(0.0, next(self._numbers), task) for task in tasks]
        self._step = step
        self._left = len(tasks)
        self._threads = min(threads, len(tasks))
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._results: queue.SimpleQueue[R | BaseException] = queue.SimpleQueue()

    @property
    def closed(self) -> bool:
        """Whether nobody waits for results any more."""
        return self._closed

    def run(self) -> Iterator[R]:
        """Yield the result of every task as soon as it is there, in any order.

        Closing the iterator starts no more, and waits for what is being done: it may have been paid for.
        """
        total = self._left
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._threads)]
        for worker in workers:
            worker.start()
        try:
            for _ in range(total):
                result = self._results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            for worker in workers:
                worker.join()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                result = self._step(task)
            except BaseException as error:
                self._results.put(error)
                return
            with self._changed:
                if isinstance(result, Again):
                    heapq.heappush(self._due, (time.monotonic() + result.seconds, next(self._numbers), task))
                else:
                    self._left -= 1
                    self._results.put(result)
                self._changed.notify_all()

    def _next(self) -> T | None:
        with self._changed:
            while not self._closed and self._left > 0:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
            return None
