"""One scenario, from its cluster's start to the verdict."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from avatar_pipeline.lab.cluster import Zygote
from tests.spot.chaos.rig import Rig, rig
from tests.spot.chaos.saboteur import Saboteur
from tests.spot.chaos.scenario import Scenario
from tests.spot.chaos.verdict import AttemptSeen, Found, HitSeen, StepSeen, WorkerSeen, judge

LIMIT_SECONDS = 90.0
"""A run that has not ended by then hangs."""
_TIDY_SECONDS = 8.0
"""How long after the run's end its pods may still be ending: a grace period, and the executor's own lingering."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario with what is wrong about it; `story` is told only where something is."""

    plan: Scenario
    found: Found
    wrong: list[str]
    story: str = field(default="", repr=False)


def run_scenario(plan: Scenario, zygote: Zygote) -> Outcome:
    """Run a scenario in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="spot-chaos-"))
    try:
        with rig(folder / "bench", plan, zygote) as opened:
            found = _run(opened)
            wrong = judge(plan, found)
            return Outcome(plan, found, wrong, _story(opened, found) if wrong else "")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(opened: Rig) -> Found:
    began = time.monotonic()
    saboteur = Saboteur(opened)
    saboteur.prepare()
    opened.launch()
    playing = threading.Thread(target=saboteur.play, daemon=True)
    playing.start()
    while not opened.over() and time.monotonic() - began < LIMIT_SECONDS:
        time.sleep(0.1)
    hung = not opened.over()
    seconds = time.monotonic() - began
    playing.join(5.0)
    orphans, processes = _left(opened)
    steps = {step: _step(opened, step, saboteur) for step in opened.plan.shape.steps}
    after = opened.folder / "after"
    return Found(
        status=opened.status().value,
        seconds=seconds,
        steps=steps,
        hung=hung,
        orphans=orphans,
        processes=processes,
        missed=[*saboteur.missed, *(["the saboteur is not done"] if playing.is_alive() else [])],
        cpu=after.read_text().split() if after.exists() else (),
        notes=[
            f"{hit.at:.2f} {hit.step}#{hit.attempt} {hit.act.kind}@{hit.act.phase} {hit.act}" for hit in saboteur.hits
        ],
    )


def _left(opened: Rig) -> tuple[list[str], list[int]]:
    """Return the Jobs and processes that are still there when they should be gone."""
    cluster = opened.cluster
    with suppress(TimeoutError):
        cluster.wait_for(lambda: not opened.unfinished_jobs(), _TIDY_SECONDS)
    deadline = time.monotonic() + _TIDY_SECONDS
    while (left := cluster.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return opened.unfinished_jobs(), left


def _step(opened: Rig, step: str, saboteur: Saboteur) -> StepSeen:
    result = opened.folder / step / "result"
    return StepSeen(
        attempts=tuple(
            AttemptSeen(each.number, each.ending, each.placement.capacity_type, each.placement.profile)
            for each in opened.attempts(step)
        ),
        workers=_workers(opened, step),
        begun=tuple(line["chunk"] for line in opened.log(step) if line["what"] == "begin"),
        result=result.read_bytes() if result.exists() else None,
        jobs=sum(event.name in opened.job_names(step) for event in opened.cluster.happenings("job_created")),
        hits=tuple(HitSeen(hit.act.of, hit.attempt) for hit in saboteur.hits if hit.step == step),
    )


def _workers(opened: Rig, step: str) -> tuple[WorkerSeen, ...]:
    """Return who worked when: until it said that it left, else until its container ended."""
    events = opened.cluster.events
    pods = {event.detail["pid"]: event.name for event in events if event.what == "container_started"}
    ends = {event.name: event.time.timestamp() for event in events if event.what == "container_ended"}
    left = {line["pid"]: line["at"] for line in opened.log(step) if line["what"] == "left"}
    return tuple(
        WorkerSeen(
            line["attempt"], line["at"], left.get(line["pid"], ends.get(pods.get(line["pid"], ""))), line["retry"]
        )
        for line in opened.log(step)
        if line["what"] == "start"
    )


def _story(opened: Rig, found: Found) -> str:
    lines = [opened.plan.told(), f"ended as {found.status} after {found.seconds:.1f} s", *found.notes]
    for step in opened.plan.shape.steps:
        lines += [f"{step}: {line}" for line in opened.log(step)]
        lines += [f"{step}: {attempt}" for attempt in opened.attempts(step)]
    return "\n".join([*lines, opened.story()])
