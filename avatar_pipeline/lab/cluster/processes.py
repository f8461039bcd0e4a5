"""Signals to containers, whole: the process, its group, and whatever it started."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

CONTAINER_MARK = "AVATAR_LAB_CONTAINER"
CLUSTER_MARK = "AVATAR_LAB_CLUSTER"


def family(pid: int) -> list[int]:
    """Return a process and all its living descendants."""
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.Error:
        return []


def send(pid: int, number: int) -> None:
    """Send a signal to one process; it may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(pid: int) -> None:
    """Kill what is left of a container's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_all(pids: Iterable[int]) -> None:
    """Kill processes with all they started, at once."""
    members = {pid: family(pid) for pid in pids}
    for pid in members:
        kill_group(pid)
    for pid, others in members.items():
        for other in others:
            if other != pid:
                send(other, signal.SIGKILL)


def kill_orphans(zygote: int, mark: str, value: str, known: set[int]) -> None:
    """Kill what a container left behind when it ended: the zygote adopted it, and it carries the container's mark."""
    children = Path(f"/proc/{zygote}/task/{zygote}/children")
    if not children.exists():
        return
    wanted = f"{mark}={value}".encode()
    for pid in map(int, children.read_text().split()):
        if pid in known:
            continue
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                kill_all([pid])


def memory_of(pid: int) -> Decimal:
    """Return the bytes that a container holds: the resident memory of all its processes."""
    import psutil

    total = 0
    for each in family(pid):
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(each).memory_info().rss
    return Decimal(total)
