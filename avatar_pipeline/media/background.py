"""Run an iterator in a thread of its own, so that decoding, drawing and encoding overlap."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")

_END = object()
_POLL_SECONDS = 0.2


def in_background(items: Generator[T, None, None], *, depth: int, name: str) -> Generator[T, None, None]:
    """Yield what `items` yields, at most `depth` items behind it, with `items` running in its own thread, `name`.

    All of `items`, its clean-up included, runs in that one thread, as an OpenGL context wants it. An error in `items`
    is raised here, at its place in the order; closing this generator early stops the thread and waits for it.
    """
    queue: Queue[object] = Queue(maxsize=depth)
    stop = threading.Event()
    failure: list[BaseException] = []

    def offer(item: object) -> None:
        while not stop.is_set():
            try:
                queue.put(item, timeout=_POLL_SECONDS)
            except Full:
                continue
            return

    def run() -> None:
        try:
            with closing(items):
                for item in items:
                    offer(item)
                    if stop.is_set():
                        return
        except BaseException as error:
            failure.append(error)
        offer(_END)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]
    finally:
        stop.set()
        _drain(queue)
        thread.join()


def _drain(queue: Queue[object]) -> None:
    while True:
        try:
            queue.get_nowait()
        except Empty:
            return
