"""The processes of the line: started and kept alive as systemd or Kubernetes would, found, and killed.

| process | what runs in it |
|---|---|
| code server (`dagster api grpc`) | sensors and schedules; parent of the run workers, which outlive it |
| daemon (`dagster-daemon run`) | asks for ticks, takes runs from the run queue, retries, monitors |
| run worker (`multiprocessing.spawn`) | one run; the executor is in-process, so the steps too |
| step (`espeak_worker`) | one utterance of step `synthesized_speech` |

Every process that descends from the supervisor carries a mark in its environment; only marked processes are touched.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

MARK = "CHAOS_TEST"
Role = Literal["code_server", "daemon", "run_worker", "step"]
Target = Literal["code_server", "daemon", "run_worker", "step", "node"]
TARGETS: tuple[Target, ...] = ("run_worker", "code_server", "step", "daemon", "node")
"""What is killed; `node` is everything at once, as when a machine is taken away."""
SHARES: dict[Target, float] = {"run_worker": 0.35, "code_server": 0.2, "step": 0.2, "daemon": 0.15, "node": 0.1}
RESTART_AFTER_SECONDS = 0.5
NO_VICTIM_SECONDS = 10.0
PROGRESS_SECONDS = 12.0
SPREAD = 0.8
"""The last kill comes when this share of the work is done."""


def role_of(command: list[str]) -> Role | None:
    """Tell by its command line what a process is."""
    line = " ".join(command)
    if "espeak_worker" in line:
        return "step"
    if "--multiprocessing-fork" in line and "resource_tracker" not in line:
        return "run_worker"
    if "api grpc" in line:
        return "code_server"
    return "daemon" if "dagster-daemon" in line else None


class Supervisor:
    """Starts processes, and starts them again when they die, until it is stopped."""

    def __init__(
        self, commands: Mapping[str, list[str]], environment: Mapping[str, str], logs: Path, mark: str
    ) -> None:
        self._commands = commands
        self._environment = {**environment, MARK: mark}
        self._logs = logs
        self._mark = mark
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._died_at: dict[str, float] = {}
        self.starts: Counter[str] = Counter()

    def tend(self) -> None:
        """Start what is not running, after a short pause."""
        for name in self._commands:
            child = self._children.get(name)
            if child is not None and child.poll() is None:
                continue
            died_at = self._died_at.setdefault(name, time.monotonic())
            if child is None or time.monotonic() - died_at >= RESTART_AFTER_SECONDS:
                self._children[name] = self.start(self._commands[name], name)
                self._died_at.pop(name)
                self.starts[name] += 1

    def start(self, command: list[str], name: str, *, talks: bool = False) -> subprocess.Popen[bytes]:
        """Start one process of its own group. What it prints goes to a file; one that `talks` has pipes instead."""
        with (self._logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._environment,
                start_new_session=True,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
            )

    def census(self) -> dict[Role, list[psutil.Process]]:
        """Return the living processes by what they are, wherever they hang in the process tree."""
        found: dict[Role, list[psutil.Process]] = {"code_server": [], "daemon": [], "run_worker": [], "step": []}
        for process in psutil.process_iter():
            try:
                role = role_of(process.cmdline())
                marked = role is not None and process.environ().get(MARK) == self._mark
                if role is not None and marked and process.status() != psutil.STATUS_ZOMBIE:
                    found[role].append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def stop(self) -> None:
        """End every process of the line: politely first, which closes the runs, and then for certain."""
        for name in ("daemon", "code_server"):
            child = self._children.get(name)
            if child is None or child.poll() is not None:
                continue
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark:
                    process.kill()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        for child in self._children.values():
            child.wait(15)


@dataclass
class Killer:
    """Kills victims with SIGKILL at random moments until every target has had its share of `kills`.

    `at_work` tells whether a run worker works on a run that has started; `progress` is the share of the work that is
    done. Kills are spread over the work: each waits for its share of it, but not for long, since kills hold it up. A
    target for which there is no victim for a while is put back, so that the test cannot hang on a process that there is
    no more.
    """

    kills: int
    chance: random.Random
    at_work: Callable[[int], bool]
    progress: Callable[[], float]
    mean_seconds: float
    done: Counter[str] = field(default_factory=Counter)
    log: list[tuple[float, Target, int]] = field(default_factory=list)
    _left: list[Target] = field(init=False)
    _next_at: float = field(init=False)
    _looking_since: float | None = None

    def __post_init__(self) -> None:
        self._left = shares(self.kills)
        self.chance.shuffle(self._left)
        if "code_server" in self._left:
            # The last victim is one that is always there, whether or not there is still work.
            self._left.remove("code_server")
            self._left.append("code_server")
        self._next_at = time.monotonic() + self._pause()

    @property
    def finished(self) -> bool:
        """Whether all kills are done."""
        return not self._left

    @property
    def hunting(self) -> bool:
        """Whether it waits for a victim that lives only for a moment."""
        late = time.monotonic() - self._next_at
        if not self._left or late < 0:
            return False
        return late > PROGRESS_SECONDS or self.progress() >= SPREAD * self.done.total() / self.kills

    def tend(self, supervisor: Supervisor) -> None:
        """Kill the next victim if its time has come and it is there."""
        if not self.hunting:
            return
        alive = supervisor.census()
        # A step lives for a moment: it is taken whenever it shows itself, whoever's turn it is.
        target: Target = "step" if "step" in self._left and alive["step"] else self._left[0]
        victims = self._victims(target, alive)
        now = time.monotonic()
        if victims:
            for victim in victims:
                _kill(victim)
            self._left.remove(target)
            self.done[target] += 1
            self.log.append((time.time(), target, victims[0].pid))
            self._looking_since = None
            self._next_at = now + self._pause()
        elif self._looking_since is None:
            self._looking_since = now
        elif now - self._looking_since > NO_VICTIM_SECONDS:
            self._left.append(self._left.pop(0))
            self._looking_since = None

    def _victims(self, target: Target, alive: Mapping[Role, list[psutil.Process]]) -> list[psutil.Process]:
        working = [worker for worker in alive["run_worker"] if self.at_work(worker.pid)]
        if target == "node":
            return [one for group in alive.values() for one in group] if working else []
        candidates = working if target == "run_worker" else alive[target]
        return [self.chance.choice(candidates)] if candidates else []

    def _pause(self) -> float:
        return min(self.chance.expovariate(1 / self.mean_seconds), 3 * self.mean_seconds)


def shares(kills: int) -> list[Target]:
    """Divide the kills among the targets: at least one each while there are enough, then by their shares."""
    given = Counter(TARGETS[:kills])
    while given.total() < kills:
        given[max(TARGETS, key=lambda target: SHARES[target] * kills - given[target])] += 1
    return list(given.elements())


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def line_commands(port: int, module: str, workspace: Path) -> dict[str, list[str]]:
    """Return the commands of the code server and of the daemon."""
    serve = ["api", "grpc", "--module-name", module, "--host", "127.0.0.1", "--port", str(port)]
    daemon = Path(sys.executable).with_name("dagster-daemon")
    return {
        "code_server": [sys.executable, "-m", "dagster", *serve, "--location-name", module],
        "daemon": [sys.executable, str(daemon), "run", "--workspace", str(workspace)],
    }
