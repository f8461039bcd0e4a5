"""What to do about work that nobody does any more: lost runs, unfinished batches, old partitions. Pure decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

RunStatus = Literal["queued", "starting", "started", "succeeded", "failed", "canceled", "withdrawn"]
"""`canceled`: a person called it off. `withdrawn`: it was taken out of the queue, before it began, because no budget
had money for it."""

WITHDRAWN_TAG = "avatar/withdrawn"
"""The tag of a run that was taken out of the queue, or that could not go on, for somebody's sake: `budget`."""
RETRY_GRACE = timedelta(seconds=60)
"""How long Dagster is given to make the retry that it announced. Its daemon looks for failed runs every few seconds."""

LONGEST_PAUSE = timedelta(minutes=5)
Turn = int | Literal["wait", "park", "give_up"]
"""Run it as this attempt, counted from 0; or not now, not before a person says so, or not any more."""

_IN_FLIGHT = frozenset[RunStatus]({"queued", "starting", "started"})
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run as the orchestrator reports it. `will_retry`: it failed, and a new run of the same work was announced."""

    run_id: str
    partition: str
    status: RunStatus
    started_at: datetime | None
    ended_at: datetime | None
    will_retry: bool = False

    @property
    def in_flight(self) -> bool:
        """Whether it waits for a worker or has one."""
        return self.status in _IN_FLIGHT


class OpenBatch(Protocol):
    """A batch with requests that are not finished, as the ledger has it."""

    @property
    def batch_id(self) -> str:
        """Its id."""

    @property
    def requests(self) -> int:
        """How many requests it has left."""

    @property
    def claimed_at(self) -> datetime:
        """When it claimed its requests."""


@dataclass(frozen=True, slots=True)
class BatchRecovery:
    """What is to be done for batches that nobody works on.

    `rerun`: run these again, each with its attempt (how many runs it has had). `give_up`: fail what these have left.
    `parked`: a person called these off; they wait for a person.
    """

    rerun: list[tuple[str, int]]
    give_up: list[str]
    parked: list[str]


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch partition: when anything last changed in it, None where that is not known.

    `unfinished`: it has requests that are neither done nor failed; held ones are that too. `in_flight`: it has a run
    that is queued or at work.
    """

    batch_id: str
    changed_at: datetime | None
    unfinished: bool
    in_flight: bool


def lost_runs(runs: Sequence[RunSeen], beats: Mapping[str, datetime], now: datetime, patience: timedelta) -> list[str]:
    """Return the ids of started runs that gave no sign of life for longer than `patience`, in the order given.

    Its start is a sign of life, and so is each beat. A run of which neither is known is not lost: nothing says since
    when it is silent. Runs that are only starting are not judged: the orchestrator has a limit of its own for these.
    """
    return [run.run_id for run in runs if run.status == "started" and _is_silent(run, beats, now - patience)]


def batches_to_run(
    open_batches: Sequence[OpenBatch],
    runs: Mapping[str, Sequence[RunSeen]],
    now: datetime,
    *,
    grace: timedelta,
    max_attempts: int,
    backoff: timedelta = timedelta(0),
) -> BatchRecovery:
    """Decide what becomes of batches with requests that are claimed or running.

    Look at the ledger first and at the runs after it, so that a batch that began in between is seen with its run. The
    order of a batch's runs does not matter.

    For each, `next_turn` says what is next; without a run, it is run again if there is still none after `grace`.
    """
    plan = BatchRecovery([], [], [])
    for batch in open_batches:
        seen = runs.get(batch.batch_id, ())
        if not seen and now < batch.claimed_at + grace:
            continue
        # A request that kills its workers is given up by itself after as many attempts; that must come first, be it
        # that all of them do, or its batch would take the innocent with it.
        runs_allowed = max_attempts * (1 + batch.requests)
        turn = next_turn(seen, now, grace=grace, max_attempts=runs_allowed, backoff=backoff)
        if turn == "park":
            plan.parked.append(batch.batch_id)
        elif turn == "give_up":
            plan.give_up.append(batch.batch_id)
        elif isinstance(turn, int):
            plan.rerun.append((batch.batch_id, turn))
    return plan


def next_turn(
    runs: Sequence[RunSeen], now: datetime, *, grace: timedelta, max_attempts: int, backoff: timedelta = timedelta(0)
) -> Turn:
    """Decide what is next for work that is not finished, from the runs it had, in any order.

    - None yet: attempt 0, now.
    - One is in flight: wait.
    - The last failed: run again after the pause, which doubles from `backoff` with every failure after the first, so
      that a node that is broken for half an hour does not use up all attempts in its first minute; and not before
      `grace` is over if its retry was announced.
    - The last was called off by a person: park. Whoever stops work at night must not have to race a sensor that
      starts it again; and it must not be forgotten, so it is named every time. It goes on as soon as a person runs it
      again: should that run fail, it is recovered like any other. (Dagster reports as canceled only what was asked
      for; a run worker stopped by a signal reports failure.)
    - The last succeeded: ledger and runs were read at different times; run again if it is still so after `grace`.
    - As many as `max_attempts` failed since one last succeeded: give up. Runs called off do not count.
    - Runs that were withdrawn never began, or ended for lack of money: it is as if there had been none. What they were
      to do is held as long as there is no money for it, so whoever asks for it again may begin at once.
    """
    if any(run.in_flight for run in runs):
        return "wait"
    runs = _begun(runs)
    last = _last(runs)
    if last is None:
        return 0
    if is_parked(runs):
        return "park"
    good = max((_end_of(run) for run in runs if run.status == "succeeded"), default=_LONG_AGO)
    failures = sum(run.status == "failed" and _end_of(run) >= good for run in runs)
    pause = min(backoff * 2 ** min(failures - 2, 20), LONGEST_PAUSE) if failures > 1 else timedelta(0)
    if last.status != "failed" or last.will_retry:
        pause = max(pause, grace)
    end = _end_of(last)
    if end != _LONG_AGO and now < end + pause:
        return "wait"
    return "give_up" if failures >= max_attempts else len(runs)


def is_parked(runs: Sequence[RunSeen]) -> bool:
    """Return whether a person called off the last of these runs that began, and none has begun since."""
    last = _last(_begun(runs))
    return last is not None and last.status == "canceled" and not any(run.in_flight for run in runs)


def run_key(name: str, runs: Sequence[RunSeen]) -> str:
    """Return the key under which the next run of something is asked for: the same until that run is there.

    It names the run before it, not a number: numbers repeat when somebody deletes a run, and an orchestrator that knows
    the key already would never run it. A run that was withdrawn had a key too, so it is named like any other.
    """
    last = _last(runs)
    return f"{name}:{last.run_id if last else 'first'}"


def prunable(batches: Sequence[BatchSeen], now: datetime, keep: timedelta) -> list[str]:
    """Return the ids of batches whose partitions may go: finished, not at work, unchanged for longer than `keep`.

    A batch of unknown age stays. Deleting the partition under a run makes the run fail, so look right before deleting.
    """
    return [
        batch.batch_id
        for batch in batches
        if not batch.in_flight
        and not batch.unfinished
        and batch.changed_at is not None
        and now - batch.changed_at > keep
    ]


def _is_silent(run: RunSeen, beats: Mapping[str, datetime], since: datetime) -> bool:
    signs = [sign for sign in (run.started_at, beats.get(run.run_id)) if sign is not None]
    return bool(signs) and max(signs) < since


def _begun(runs: Sequence[RunSeen]) -> Sequence[RunSeen]:
    return [run for run in runs if run.status != "withdrawn"]


def _last(runs: Sequence[RunSeen]) -> RunSeen | None:
    return max(runs, key=lambda run: (_end_of(run), run.run_id), default=None)


def _end_of(run: RunSeen) -> datetime:
    return run.ended_at or run.started_at or _LONG_AGO
