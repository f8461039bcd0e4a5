"""Keeps MediaPipe's start-up chatter off the terminal, and nothing else."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_CHATTER = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+\.(cc|cpp|mm|h):\d+\] "
    rb"|[IW]0000 00:00:[\d.]+ +\d+ \S+:\d+\] "
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate"
    rb"|WARNING: All log messages before absl::InitializeLog\(\)"
)

_lock = threading.Lock()
_inside = 0
_held: IO[bytes] | None = None
_terminal = -1


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back the process's standard error while a graph starts, then pass on all but the known chatter.

    MediaPipe's C++ logs straight to file descriptor 2 and has no switch for it: its information and warning lines of
    start-up say nothing a user could act on. Errors, and lines of other threads, come out when the block ends. Safe to
    enter from several threads at once.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _held, _terminal  # noqa: PLW0603  a file descriptor belongs to the whole process, and so does this
    with _lock:
        _inside += 1
        if _inside == 1:
            sys.stderr.flush()
            _terminal = os.dup(2)
            _held = tempfile.TemporaryFile()  # noqa: SIM115  closed in _leave
            os.dup2(_held.fileno(), 2)


def _leave() -> None:
    global _inside, _held  # noqa: PLW0603
    with _lock:
        _inside -= 1
        if _inside or _held is None:
            return
        sys.stderr.flush()
        os.dup2(_terminal, 2)
        os.close(_terminal)
        _held.seek(0)
        kept = b"".join(line for line in _held.readlines() if not _CHATTER.match(line))
        _held.close()
        _held = None
        if kept:
            os.write(2, kept)
