"""The true age of a queue that cannot tell it: what is known of its oldest message is kept in the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select, update

from avatar_pipeline.ledger.schema import QueueMarkRow
from avatar_pipeline.queues.sql import transaction
from avatar_pipeline.queues.types import Message


class AgeMark:
    """Since when a queue holds messages, as far as it was seen, in table `queue_marks`.

    SQS has no call that returns the age of the oldest message, and its CloudWatch metric leaves out messages that were
    received three times or more, which are those that matter
    (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html).
    So the mark is moved by what is seen:

    - The queue was empty, and is not: the mark is the time of that observation. It lacks, at most, the time since the
      observation before.
    - A message is received: the mark goes back to the time when it was sent, if that is earlier. Receiving it again
      changes nothing, so no number of receives makes a queue look younger.
    - Messages are deleted: what was sent before the latest of them is taken to be gone too (queues are emptied roughly
      in order), and the mark goes forward to it, but not past a message that was received here and not deleted.
      What is left is younger, so the age is too high by the gap to the next message, until that is received.
    - The queue is empty: there is no mark.

    Messages that were received and not deleted are remembered in this process while they are hidden, and from their
    second delivery on in the table as well ("pins"): the age is that of the mark or of the oldest pin, whichever is
    older, in all processes and over restarts.
    A pin goes when its message is deleted or dead-lettered, on the last delivery that the queue's redrive policy
    allows (after it SQS moves the message and tells nobody), and when the queue is empty.

    What is left open: after a crash of the receiver, a message that was delivered once may be overlooked for one
    visibility timeout; SQS's counts are approximate, and one that wrongly says "empty" drops the mark until the next
    message is received.
    """

    def __init__(self, engine: Engine, queue: str, *, max_receives: int | None) -> None:
        self._engine = engine
        self._queue = queue
        self._max_receives = max_receives
        self._held: dict[str, tuple[datetime, datetime]] = {}
        digest = hashlib.sha256(queue.encode()).hexdigest()[:16]
        # A queue's name holds no colon, so that a pin is never taken for a queue.
        self._prefix = f"{digest}:"
        self._pins = QueueMarkRow.queue.startswith(self._prefix)

    def received(self, messages: Sequence[Message], *, now: datetime, visibility: timedelta) -> None:
        """Note messages that were just received."""
        if not messages:
            return
        self._held |= {message.message_id: (message.sent_at, now + visibility) for message in messages}
        again = [message for message in messages if message.receive_count > 1]
        last = [message for message in again if self._max_receives and message.receive_count >= self._max_receives]
        with transaction(self._engine, self._queue) as connection:
            _lower(connection, self._queue, min(message.sent_at for message in messages))
            for message in again:
                if message not in last:
                    _lower(connection, self._pin(message), message.sent_at)
            self._unpin(connection, last)

    def gone(self, messages: Sequence[Message], *, now: datetime) -> None:
        """Note messages that were deleted or dead-lettered."""
        if not messages:
            return
        for message in messages:
            self._held.pop(message.message_id, None)
        self._held = {key: times for key, times in self._held.items() if times[1] > now}
        with transaction(self._engine, self._queue) as connection:
            self._unpin(connection, [message for message in messages if message.receive_count > 1])
            held = [sent_at for sent_at, _ in self._held.values()]
            since = min([max(message.sent_at for message in messages), *held])
            connection.execute(
                update(QueueMarkRow)
                .where(QueueMarkRow.queue == self._queue, QueueMarkRow.since < since)
                .values(since=since)
            )

    def known(self, sent_at: Sequence[datetime]) -> None:
        """Note messages that are known to be in the queue."""
        if sent_at:
            with transaction(self._engine, self._queue) as connection:
                _lower(connection, self._queue, min(sent_at))

    def observed(self, *, empty: bool, now: datetime) -> timedelta | None:
        """Note whether the queue is empty at `now`; return its age, None if it is."""
        own = QueueMarkRow.queue == self._queue
        with transaction(self._engine, self._queue) as connection:
            if empty:
                connection.execute(delete(QueueMarkRow).where(own | self._pins))
                return None
            since = connection.execute(select(func.min(QueueMarkRow.since)).where(own | self._pins)).scalar_one()
            if since is None:
                _lower(connection, self._queue, now)
                return timedelta(0)
        return max(now - since, timedelta(0))

    def _pin(self, message: Message) -> str:
        # Hashed, for what SQS may call a message is longer than the column.
        return self._prefix + hashlib.sha256(message.message_id.encode()).hexdigest()[:32]

    def _unpin(self, connection: Connection, messages: Sequence[Message]) -> None:
        for message in messages:
            connection.execute(delete(QueueMarkRow).where(QueueMarkRow.queue == self._pin(message)))


def _lower(connection: Connection, key: str, since: datetime) -> None:
    """Write the mark, or set it back if it is later than `since`."""
    statement: Any
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        statement = postgres_insert(QueueMarkRow)
    else:
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        statement = sqlite_insert(QueueMarkRow)
    connection.execute(
        statement.values(queue=key, since=since).on_conflict_do_update(
            index_elements=[QueueMarkRow.queue],
            set_={"since": statement.excluded.since},
            where=QueueMarkRow.since > statement.excluded.since,
        )
    )
