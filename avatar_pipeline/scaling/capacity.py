"""How many clip batches to open: target tracking on the backlog per worker. One pure function over what was measured.

The rule is Amazon's for queues, backlog per instance
(https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-using-sqs-queue.html), with the work in flight counted in, so
that it is defined at zero workers. A batch ends by itself, so nothing here ever takes capacity away.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class CapacitySignals:
    """What was measured, at about one time.

    `messages` are visible in the queue and `waiting` are claimable in the ledger: together they are the backlog.
    `oldest_age` is how long the oldest of it has waited, None where nobody knows. `open_batches` are queued or at
    work; `unclaimed_batches` are those among them that have not claimed: each will take up to a whole batch.
    """

    messages: int
    waiting: int
    oldest_age: timedelta | None
    open_batches: int
    unclaimed_batches: int

    @property
    def backlog(self) -> int:
        """Clips that no batch has claimed."""
        return self.messages + self.waiting


@dataclass(frozen=True, slots=True)
class CapacityPolicy:
    """What is wanted: clips a batch, how long one may wait for company, clips a worker, most batches at once."""

    batch_size: int
    max_batch_age: timedelta
    backlog_per_worker: int
    max_open: int


@dataclass(frozen=True, slots=True)
class CapacityDecision:
    """How many batches to open now, how many should be open by the target, and one sentence why."""

    open: int
    desired: int
    reason: str


def decide(signals: CapacitySignals, policy: CapacityPolicy) -> CapacityDecision:
    """Decide how many batches to open.

    desired = ceil((backlog + clips in flight) / backlog per worker), at most `max_open`; a batch at work is taken to
    hold a whole batch, for what it has left is not known. Of what no open batch will take, full batches are opened,
    and one more for the rest if the oldest has waited `max_batch_age`: a lone clip waits so long for company, and no
    longer. An age that is not known counts as old.
    """
    at_work = max(0, signals.open_batches - signals.unclaimed_batches)
    load = signals.backlog + at_work * policy.batch_size
    desired = min(policy.max_open, -(-load // policy.backlog_per_worker))
    unassigned = max(0, signals.backlog - signals.unclaimed_batches * policy.batch_size)
    old = signals.oldest_age is None or signals.oldest_age >= policy.max_batch_age
    full, rest = divmod(unassigned, policy.batch_size)
    needed = full + (1 if rest and old else 0)
    opened = max(0, min(needed, desired - signals.open_batches))
    return CapacityDecision(opened, desired, _reason(signals, policy, unassigned, needed, desired, opened))


def _reason(
    signals: CapacitySignals, policy: CapacityPolicy, unassigned: int, needed: int, desired: int, opened: int
) -> str:
    backlog, batches = signals.backlog, signals.open_batches
    if backlog == 0:
        return "No clip waits."
    if opened:
        limit = f", of at most {policy.max_open}" if opened < needed and desired == policy.max_open else ""
        return f"Backlog {backlog}: batches opened {opened}, open before {batches}{limit}."
    if unassigned == 0:
        return f"Backlog {backlog}: open batches that have yet to claim ({signals.unclaimed_batches}) will take it."
    if needed == 0:
        waited = signals.oldest_age.total_seconds() if signals.oldest_age is not None else 0.0
        longest = policy.max_batch_age.total_seconds()
        return f"Backlog {backlog}: waits for company, the oldest for {waited:.1f} s of at most {longest:g} s."
    if desired >= policy.max_open:
        return f"Backlog {backlog}: waits for a place, {batches} batches are open of at most {policy.max_open}."
    return (
        f"Backlog {backlog}: left to the batches that are open ({batches}); "
        f"a worker is to have {policy.backlog_per_worker} before another is called."
    )
