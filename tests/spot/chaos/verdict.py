"""The verdict: what must hold at the end, whatever was done. A pure function over a plan and what was found."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from avatar_pipeline.spot.types import CapacityType, Ending
from tests.spot.chaos.acts import Kind
from tests.spot.chaos.model import Next, Past, mistakes, what_follows
from tests.spot.chaos.scenario import CANCELED, SUCCESS, Scenario

OVERLAP_SECONDS = 0.05
"""How long the journal may take to notice that a process has ended."""
_CANCELLED = frozenset({Ending.CANCELLED, Ending.INTERRUPTED, Ending.VANISHED})


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """An attempt as the event log has it."""

    number: int
    ending: Ending | None
    capacity: CapacityType
    profile: str


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """One process that did the work of an attempt: from when to when, by the wall clock, and the retry it was told."""

    attempt: int
    began: float
    ended: float | None
    retry: int


@dataclass(frozen=True, slots=True)
class HitSeen:
    """Something that was done to an attempt; `endings` are those that it may lead to, none where it must not matter."""

    kind: Kind
    attempt: int


@dataclass(frozen=True, slots=True)
class StepSeen:
    """A GPU step. `begun` are the chunks in the order in which they were begun; `jobs` how many Jobs it had."""

    attempts: tuple[AttemptSeen, ...]
    workers: tuple[WorkerSeen, ...] = ()
    begun: tuple[int, ...] = ()
    result: bytes | None = None
    jobs: int = 0
    hits: tuple[HitSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What was found at the end. `cpu` are the outputs of the step after; `missed` what could not be done as planned.

    `orphans` are Jobs, `processes` those of containers, that were left some seconds after the end.
    """

    status: str
    seconds: float
    steps: Mapping[str, StepSeen]
    hung: bool = False
    orphans: Sequence[str] = ()
    processes: Sequence[int] = ()
    missed: Sequence[str] = ()
    cpu: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def judge(plan: Scenario, found: Found) -> list[str]:
    """Return what is wrong, one sentence each."""
    return [
        *_run(plan, found),
        *_left_behind(found),
        *(f"{step}: {wrong}" for step, seen in found.steps.items() for wrong in _step(plan, seen, found)),
        *_cpu_step(plan, found),
    ]


def _run(plan: Scenario, found: Found) -> Iterator[str]:
    if found.hung:
        yield f"the run hung: {found.status} after {found.seconds:.0f} s"
    elif found.status not in plan.ends:
        yield f"the run ended as {found.status}, not {' or '.join(sorted(plan.ends))}"
    for missed in found.missed:
        yield f"not as planned: {missed}"


def _left_behind(found: Found) -> Iterator[str]:
    for orphan in found.orphans:
        yield f"the Job {orphan} was left"
    if found.processes:
        yield f"{len(found.processes)} processes were left"


def _step(plan: Scenario, seen: StepSeen, found: Found) -> Iterator[str]:
    cancelled = found.status == CANCELED
    yield from _endings(
        seen, cancelled, worker_killed=any(hit.kind.of_run for each in found.steps.values() for hit in each.hits)
    )
    yield from _consequences(plan, seen, cancelled)
    yield from _retries(seen)
    yield from _work(plan, seen, found)
    yield from _one_at_a_time(seen)
    if seen.jobs > len(seen.attempts) + sum(hit.kind.group == "Job deleted" for hit in seen.hits):
        yield f"{seen.jobs} Jobs for {len(seen.attempts)} attempts"


def _endings(seen: StepSeen, cancelled: bool, *, worker_killed: bool) -> Iterator[str]:
    """Every attempt ends as what befell it must end it; one that nothing befell succeeds."""
    without_job = len(seen.attempts) - seen.jobs
    for position, attempt in enumerate(seen.attempts):
        if attempt.number != position:
            yield f"attempt {attempt.number} stands where {position} should"
        ending = [hit for hit in seen.hits if hit.attempt == attempt.number and hit.kind.endings]
        allowed = frozenset[Ending]().union(*(hit.kind.endings for hit in ending)) or frozenset({Ending.SUCCEEDED})
        last = position == len(seen.attempts) - 1
        if attempt.ending is None and last and cancelled:
            continue
        if cancelled and last:
            allowed |= _CANCELLED
        if seen.jobs > len(seen.attempts) and any(hit.kind.group == "Job deleted" for hit in ending):
            # It was deleted before the executor had heard that it was created, and was asked for again.
            allowed |= {Ending.SUCCEEDED}
        if attempt.ending is Ending.VANISHED and worker_killed and without_job > 0:
            # Its run's process died between placing it and asking for its Job.
            without_job -= 1
            continue
        if attempt.ending not in allowed:
            told = " and ".join(hit.kind.name for hit in ending) or "nothing"
            name = attempt.ending.value if attempt.ending else "without an end"
            yield f"attempt {attempt.number} was {name} after {told}, not {_names(allowed)}"


def _names(endings: frozenset[Ending]) -> str:
    return " or ".join(sorted(ending.value for ending in endings))


def _consequences(plan: Scenario, seen: StepSeen, cancelled: bool) -> Iterator[str]:
    """Each attempt is followed by what the rules say: another one, where they say, or the end."""
    forgot = any(hit.kind.of_run for hit in seen.hits)
    history: list[Past] = []
    following: Next = what_follows(history, plan.rules)
    for attempt in seen.attempts:
        if following.over:
            yield f"attempt {attempt.number} came after {following.over}"
            return
        if attempt.capacity not in following.capacity:
            wanted = "/".join(sorted(following.capacity))
            yield f"attempt {attempt.number} was on {attempt.capacity.value}, not {wanted}"
        if attempt.profile != following.profile:
            yield f"attempt {attempt.number} had the profile {attempt.profile}, not {following.profile}"
        if attempt.ending is None:
            break
        history.append(Past(attempt.ending, attempt.capacity))
        following = _following(plan, seen, history, forgot)
    if not following.over and not cancelled:
        yield f"no attempt follows {history[-1].ending.value if history else 'the start'}, and the step is not over"


def _following(plan: Scenario, seen: StepSeen, history: Sequence[Past], forgot: bool) -> Next:
    since = _since(seen, len(history))
    following = what_follows(history, plan.rules, forgot=forgot, since=since)
    if since == len(history) and not following.over:
        # Of a run that was replaced, the last attempt may say only later that it was told to go.
        unsaid = [*history[:-1], Past(Ending.VANISHED, history[-1].capacity)]
        also = what_follows(unsaid, plan.rules, forgot=forgot, since=since)
        return replace(following, capacity=following.capacity | also.capacity)
    return following


def _since(seen: StepSeen, attempt: int) -> int:
    """Return the first attempt of the run that an attempt belongs to."""
    replaced = [hit.attempt + 1 for hit in seen.hits if hit.kind.name == "reexecuted" and hit.attempt < attempt]
    return max(replaced, default=0)


def _retries(seen: StepSeen) -> Iterator[str]:
    """The op's RetryPolicy pays for mistakes of its own alone."""
    past = [Past(each.ending, each.capacity) for each in seen.attempts if each.ending is not None]
    for worker in seen.workers:
        paid = mistakes(past[_since(seen, worker.attempt) : worker.attempt])
        if worker.retry != paid:
            yield f"attempt {worker.attempt} was told that it is retry {worker.retry}, not {paid}"


def _work(plan: Scenario, seen: StepSeen, found: Found) -> Iterator[str]:
    """No more than one chunk is lost by what came without notice, none by the rest; nothing is left out."""
    again = sum(count - 1 for count in Counter(seen.begun).values())
    ending = [hit for hit in seen.hits if hit.kind.endings]
    may = sum(not (hit.kind.told and plan.shape.guarded) for hit in ending)
    if again > may:
        yield f"{again} chunks were begun again, {may} may be"
    succeeded = any(attempt.ending is Ending.SUCCEEDED for attempt in seen.attempts)
    if succeeded and seen.result != undisturbed(plan.chunks):
        yield "its result is not that of an undisturbed run"
    if found.status == SUCCESS and not succeeded:
        yield "it did not succeed, and the run did"


def _one_at_a_time(seen: StepSeen) -> Iterator[str]:
    workers = sorted(seen.workers, key=lambda worker: worker.began)
    for before, after in pairwise(workers):
        if before.ended is None:
            yield f"attempt {before.attempt} never ended, and attempt {after.attempt} began"
        elif (both := before.ended - after.began) > OVERLAP_SECONDS:
            yield f"attempts {before.attempt} and {after.attempt} were at work side by side for {both:.2f} s"


def _cpu_step(plan: Scenario, found: Found) -> Iterator[str]:
    if plan.shape.cpu_step and found.status == SUCCESS:
        wanted = hashlib.sha256(undisturbed(plan.chunks)).hexdigest()
        if set(found.cpu) != {wanted}:
            yield f"the step after got {list(found.cpu)}"
        if len(found.cpu) > 1:
            yield f"the step after ran {len(found.cpu)} times"
    elif found.cpu:
        yield f"the step after ran, and the run ended as {found.status}"


def undisturbed(chunks: int) -> bytes:
    """Return the result of a run that nothing befell."""
    return b"".join(hashlib.sha256(str(chunk).encode()).digest() for chunk in range(chunks))
