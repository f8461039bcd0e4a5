"""How soon an interrupted GPU step is launched again, and whether it outlives an API server that is away.

    python -m benchmarks.spot_relaunch [--times 10] [--outage 60] [--json]

Runs in the simulated cluster, over HTTP, with real processes. One run bears `--times` interruptions of each sort, at
seeded random moments of the executor's cycle, once with the executor's default times (the event log is read every
0.5 s, Kubernetes asked every 5 s) and once with those of the tests (0.1 s, 1 s). What is measured ends with the
creation of the next Job in the cluster, and begins

- with notice (an eviction): with the worker's own request for a retry, which it writes once its chunk is saved; beside
  it, with the end of its container. A second row is after another process has taken over the run.
- without notice: with the kill. Of a pod that is killed, the cluster knows at once (its Job fails); of a machine that
  is lost, it learns by silence: `detection` is when its node is taken out of the cluster (0.8 s here; about 40 s until
  it is NotReady in a real one), and is part of the figure.

Then the API server is away for `--outage` seconds in the middle of a step: its run is to succeed in the same attempt.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from avatar_pipeline.lab.cluster import Node, Zygote
from tests.spot.executor.harness import PRELOAD, Bench, bench

DEFAULTS = {"poll_seconds": 0.5, "check_interval_seconds": 5}
FAST = {"poll_seconds": 0.1, "check_interval_seconds": 1}
NOTICED_LIMIT = 1.0
CHUNK_SECONDS = 0.1


@dataclass(frozen=True)
class Row:
    """Seconds of one sort of interruption with one setting; `limit` is what they may be at worst.

    `since` says what they count from. `detection` is the cluster's own part of it, None where it knows at once.
    """

    what: str
    since: str
    poll: float
    check: int
    times: int
    median: float
    worst: float
    limit: float | None
    detection: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it took longer than it may."""
        return self.limit is not None and self.worst > self.limit


@dataclass(frozen=True)
class Away:
    """A run whose API server was away."""

    seconds: float
    status: str
    attempts: int
    chunks_begun_again: int

    @property
    def missed(self) -> bool:
        """Whether it did any harm."""
        return (self.status, self.attempts, self.chunks_begun_again) != ("SUCCESS", 1, 0)


def main() -> int:
    """Measure and print; 1 where something took too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="interruptions of each sort and setting")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds without API server; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    rows: list[Row] = []
    away = None
    console = Console(stderr=True)
    sorts: list[Callable[..., list[Row]]] = [with_notice, after_a_resume, pod_killed, node_killed]
    with Zygote(preload=PRELOAD) as zygote, Progress(console=console, transient=True) as progress:
        task = progress.add_task("Measuring", total=2 * len(sorts) + 1)
        for spot in (DEFAULTS, FAST):
            for sort in sorts:
                with opened(zygote, arguments.times) as it:
                    rows += sort(it, spot, arguments.times, chance)
                progress.advance(task)
        if arguments.outage:
            with opened(zygote, 1) as it:
                away = api_away(it, arguments.outage)
    show(rows, away, console)
    if arguments.json:
        found = {"relaunch": [asdict(row) for row in rows], "outage": asdict(away) if away else None}
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 1 if any(row.missed for row in rows) or (away is not None and away.missed) else 0


class opened:  # noqa: N801 (used as a function)
    """A bench in a folder of its own, with a spot machine for every attempt."""

    def __init__(self, zygote: Zygote, times: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="spot-relaunch-", ignore_cleanup_errors=True)
        nodes = [Node("cpu-1", cpu=8, memory="32Gi")]
        nodes += [
            Node.of("g5.xlarge", name=f"spot-{number}", zone="us-east-1a", capacity_type="spot")
            for number in range(times + 2)
        ]
        self._bench = bench(Path(self._folder.name) / "bench", zygote=zygote, nodes=nodes)

    def __enter__(self) -> Bench:
        return self._bench.__enter__()

    def __exit__(self, *what: Any) -> None:
        self._bench.__exit__(*what)
        self._folder.cleanup()


def with_notice(it: Bench, spot: dict[str, Any], times: int, chance: random.Random) -> list[Row]:
    """Evict the step's pod again and again."""
    run, step = begin(it, spot)
    asked, ended = evictions(it, run, step, times, chance)
    return [
        row("eviction, noticed", "worker's request", spot, asked, NOTICED_LIMIT),
        row("eviction, noticed", "container's end", spot, ended, NOTICED_LIMIT),
    ]


def after_a_resume(it: Bench, spot: dict[str, Any], times: int, chance: random.Random) -> list[Row]:
    """Do the same after the run's process was killed and another one took over, at every other interruption."""
    run, step = begin(it, spot)
    asked: list[float] = []
    for number in range(max(1, times // 2)):
        kill_worker(it, run, number)
        it.start(run, resume=number + 1)
        it.until(lambda: resumed(it, run) > number, what="the run's new process")  # noqa: B023
        # Two each: only the second is named by a process that has launched one itself.
        asked += evictions(it, run, step, 2, chance)[0]
    return [row("the same, run resumed", "worker's request", spot, asked, NOTICED_LIMIT)]


def pod_killed(it: Bench, spot: dict[str, Any], times: int, chance: random.Random) -> list[Row]:
    """Kill the step's pod again and again."""
    begin(it, spot)
    seconds, detection = kills(it, times, chance, it.cluster.kill_pod, spot)
    limit = spot["check_interval_seconds"] + 1.0
    return [row("pod killed", "kill", spot, seconds, limit, detection)]


def node_killed(it: Bench, spot: dict[str, Any], times: int, chance: random.Random) -> list[Row]:
    """Take the step's machine away again and again."""
    begin(it, spot)

    def kill(pod: str) -> None:
        it.cluster.kill(it.cluster.pod(pod)["spec"]["nodeName"])

    seconds, detection = kills(it, times, chance, kill, spot)
    limit = spot["check_interval_seconds"] + 1.0 + max(detection)
    return [row("machine lost", "kill", spot, seconds, limit, detection)]


def begin(it: Bench, spot: dict[str, Any]) -> tuple[dg.DagsterRun, str]:
    """Start a run whose step has no end of work, and bears any number of interruptions on spot."""
    it.plan(chunks=1_000_000, seconds=CHUNK_SECONDS)
    run = it.launch(interruption_budget=1000, interruptions_before_on_demand=1000, **spot)
    it.step_pod()
    return run, "count"


def evictions(
    it: Bench, run: dg.DagsterRun, step: str, times: int, chance: random.Random
) -> tuple[list[float], list[float]]:
    """Evict; return the seconds to the next Job from the worker's request, and from its container's end."""
    asked, ended = [], []
    for _ in range(times):
        pod = at_work(it, chance, 2.0)
        jobs, requests = created(it), len(retries(it, run))
        it.cluster.evict(pod)
        at = next_job(it, jobs)
        it.until(lambda: len(retries(it, run)) > requests, what="the request")  # noqa: B023
        asked.append(at - retries(it, run)[requests])
        over = it.cluster.wait_for(lambda: it.cluster.happenings("container_ended", pod), 20)  # noqa: B023
        ended.append(at - over[0].time.timestamp())
    return asked, ended


def kills(
    it: Bench, times: int, chance: random.Random, kill: Callable[[str], None], spot: dict[str, Any]
) -> tuple[list[float], list[float]]:
    """Kill; return the seconds to the next Job, and those after which the cluster knew."""
    seconds, detection = [], []
    for _ in range(times):
        pod = at_work(it, chance, float(spot["check_interval_seconds"]))
        jobs, seen = created(it), len(it.cluster.events)
        began = time.time()
        kill(pod)
        seconds.append(next_job(it, jobs) - began)
        # A silent machine may come back; that it is lost is known when its node is taken out of the cluster, or was
        # silent for as long as the executor bears.
        signs = {event.what: event for event in reversed(it.cluster.events[seen:])}
        first = next(signs[what] for what in ("node_deleted", "pod_failed", "node_not_ready") if what in signs)
        detection.append(first.time.timestamp() - began)
    return seconds, detection


def at_work(it: Bench, chance: random.Random, within: float) -> str:
    """Wait until a step's pod has saved a chunk, and then for a random part of a cycle; return the pod."""
    pod = str(it.step_pod()["metadata"]["name"])
    saved = it.saved()
    it.until(lambda: it.saved() > saved, what="a chunk")
    time.sleep(chance.uniform(0.0, within))
    return pod


def created(it: Bench) -> int:
    """Return how many Jobs were ever created."""
    return len(it.cluster.happenings("job_created"))


def next_job(it: Bench, after: int) -> float:
    """Wait for one more Job; return when it was created, by the wall clock."""
    it.cluster.wait_for(lambda: created(it) > after, 90)
    return it.cluster.happenings("job_created")[after].time.timestamp()


def retries(it: Bench, run: dg.DagsterRun) -> list[float]:
    """Return when retries were asked for, by the wall clock."""
    records = it.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    return [record.timestamp for record in records]


def resumed(it: Bench, run: dg.DagsterRun) -> int:
    """Return how many processes have taken over a run."""
    return sum("Checking on status of in-progress" in message for message in it.messages(run))


def kill_worker(it: Bench, run: dg.DagsterRun, number: int) -> None:
    """Kill the run's process, which has taken over `number` times."""
    if number == 0:
        it.kill_run_worker(run)
        return
    pods = [pod for pod in it.cluster.pods(phase="Running") if pod["metadata"]["name"].startswith("dagster-run-")]
    for pod in pods:
        name = pod["metadata"]["name"]
        it.cluster.kill_pod(name)
        it.cluster.wait_for(lambda: it.cluster.pod(name)["status"]["phase"] == "Failed", 10)  # noqa: B023


def api_away(it: Bench, seconds: float) -> Away:
    """Take the API server away in the middle of a step that ends some time after it is back."""
    it.plan(chunks=round((seconds + 10.0) / CHUNK_SECONDS), seconds=CHUNK_SECONDS)
    run = it.launch(**DEFAULTS)
    it.until_saved(20)
    it.cluster.outage(seconds)
    status = it.wait(run, seconds=seconds * 2 + 60)
    chunks = [said.more["chunk"] for said in it.said("chunk")]
    return Away(seconds, status.value, len(it.attempts(run)), len(chunks) - len(set(chunks)))


def row(
    what: str,
    since: str,
    spot: dict[str, Any],
    seconds: Sequence[float],
    limit: float | None,
    detection: Sequence[float] | None = None,
) -> Row:
    """Sum up."""
    return Row(
        what,
        since,
        spot["poll_seconds"],
        spot["check_interval_seconds"],
        len(seconds),
        round(statistics.median(seconds), 2),
        round(max(seconds), 2),
        None if limit is None else round(limit, 2),
        None if detection is None else round(statistics.median(detection), 2),
    )


def show(rows: Sequence[Row], away: Away | None, console: Console) -> None:
    """Print the tables."""
    table = Table("interruption", "seconds from", title="From an interruption to the next Job, in seconds")
    for title in ("poll/check", "times", "median", "worst", "limit", "detection"):
        table.add_column(title, justify="right")
    for each in rows:
        worst = f"[red]{each.worst:.2f}[/]" if each.missed else f"{each.worst:.2f}"
        table.add_row(
            each.what, each.since, f"{each.poll:g}/{each.check}", str(each.times), f"{each.median:.2f}", worst,
            "" if each.limit is None else f"{each.limit:.2f}",
            "" if each.detection is None else f"{each.detection:.2f}",
        )  # fmt: skip
    console.print(table)
    if away is not None:
        told = "[red]harm[/]" if away.missed else "no harm"
        console.print(
            f"API server away for {away.seconds:g} s: {told}; the run ended as {away.status} in {away.attempts} attempt"
            f"{'s' if away.attempts != 1 else ''}, {away.chunks_begun_again} chunks done again."
        )


if __name__ == "__main__":
    sys.exit(main())
