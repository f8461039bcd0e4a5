"""From the queues into the ledger: every message ends as a request that is safe, or as a dead letter with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from avatar_pipeline.ledger.records import RequestKind
from avatar_pipeline.ledger.requests import Arrival
from avatar_pipeline.queues.parse import MalformedMessage, parse
from avatar_pipeline.queues.types import Message, WorkQueue
from avatar_pipeline.scaling.capacity import CapacityPolicy, CapacitySignals
from avatar_pipeline.stages.line import Line

PAGE = 100
"""Messages taken into the ledger in one transaction: a kill costs the work of one page, and nothing of its content."""
MOST = 10_000
"""Messages taken in at one call; what is beyond waits in the queue for the next."""


LONG_POLL = timedelta(seconds=2)
"""How long SQS may look for the first message. Asked without a wait it looks at some of its servers only, and answers
that there is nothing although a few messages are there."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What came out of a queue: messages received, of them new to the ledger and refused, and the oldest one's age."""

    received: int
    new: int
    refused: int
    oldest_age: timedelta


def drain(line: Line, kind: RequestKind, *, limit: int = MOST, patient: bool = True) -> Drained:
    """Take the messages of a queue into the ledger.

    A message is deleted only when the ledger has its request; killed before that, it is delivered again and known by
    its request id. A malformed message, and one whose request id is known with another content, goes to the
    dead-letter queue with the reason, and does not hold up the others; so does one that the database cannot store.

    `patient`: SQS may look around a while for the first message; not worth it where there is work enough already.
    """
    queue = line.queues.clips if kind == "clip" else line.queues.avatars
    visibility = timedelta(seconds=line.settings.visibility_seconds)
    # Queues in the ledger see all there is at once.
    wait = LONG_POLL if patient and line.settings.queue == "sqs" else timedelta(0)
    received = new = refused = 0
    oldest = line.clock()
    while received < limit:
        messages = queue.receive(min(PAGE, limit - received), visibility=visibility, wait=wait)
        wait = timedelta(0)
        if not messages:
            break
        received += len(messages)
        oldest = min(oldest, *(message.sent_at for message in messages))
        taken, bad = _take_in(line, queue, kind, messages)
        new, refused = new + taken, refused + bad
    return Drained(received, new, refused, line.clock() - oldest)


def signals(line: Line, *, open_batches: int, unclaimed_batches: int) -> CapacitySignals:
    """Measure what the capacity decision is made from.

    Args:
        line: the queues and the ledger to look into.
        open_batches: runs of batches that are queued or at work.
        unclaimed_batches: how many of these have claimed nothing yet.
    """
    backlog = line.requests.backlog()
    queue_age = line.queues.clips.oldest_age()
    ages = [age for age in (backlog.oldest_age, queue_age) if age is not None]
    return CapacitySignals(
        messages=line.queues.clips.depth().visible,
        waiting=backlog.waiting,
        oldest_age=max(ages, default=None),
        open_batches=open_batches,
        unclaimed_batches=unclaimed_batches,
    )


def capacity_policy(line: Line) -> CapacityPolicy:
    """Return the capacity policy that is configured."""
    settings = line.settings
    return CapacityPolicy(
        batch_size=settings.batch_size,
        max_batch_age=timedelta(seconds=settings.max_batch_age_seconds),
        backlog_per_worker=settings.backlog_per_worker,
        max_open=settings.max_open_batches,
    )


def _take_in(line: Line, queue: WorkQueue, kind: RequestKind, messages: list[Message]) -> tuple[int, int]:
    """Return how many of the messages were taken in, and how many refused."""
    arrivals: list[tuple[Message, Arrival]] = []
    refused = 0
    for message in messages:
        try:
            arrivals.append((message, Arrival(parse(message.body, kind), message.sent_at)))
        except MalformedMessage as error:
            queue.dead_letter(message, error.message)
            refused += 1
    accepted = []
    reasons = _write_down(line, [arrival for _, arrival in arrivals])
    for (message, _), reason in zip(arrivals, reasons, strict=True):
        if reason is None:
            accepted.append(message)
        else:
            queue.dead_letter(message, reason)
            refused += 1
    queue.delete(accepted)
    return len(accepted), refused


def _write_down(line: Line, arrivals: Sequence[Arrival]) -> list[str | None]:
    """Take arrivals into the ledger; return, for each that it did not take, the reason.

    Where the database cannot store one of them, the transaction of all is undone. They are then taken in one by one, so
    that only those are refused that are to blame.
    """
    try:
        return [None if conflict is None else conflict.message for conflict in line.requests.take_in(arrivals)]
    except (StatementError, OverflowError, UnicodeError) as error:
        if not _due_to_the_content(error):
            raise
        if len(arrivals) == 1:
            # Of the error only its kind: the database may quote what it was given.
            return [f"The ledger's database cannot store this request ({type(error).__name__})."]
    return [reason for arrival in arrivals for reason in _write_down(line, [arrival])]


def _due_to_the_content(error: Exception) -> bool:
    """Return whether an error is due to what was to be stored, and not to the database being away, full or locked."""
    if isinstance(error, DBAPIError):
        return isinstance(error, (DataError, IntegrityError)) and not error.connection_invalidated
    return True
