"""Queues in a table of the ledger's database, with the semantics of Amazon SQS and nothing to run beside it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, String, case, cast, delete, func, insert, literal, select, update
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.ledger.database import chunks, reading, writing
from avatar_pipeline.ledger.schema import MessageRow
from avatar_pipeline.queues.limits import (
    LONGEST_DELAY,
    LONGEST_VISIBILITY,
    LONGEST_WAIT,
    clean_reason,
    require_between,
    require_bodies,
    require_count,
)
from avatar_pipeline.queues.types import Depth, Message, QueueUnavailable

_POLL = timedelta(milliseconds=200)


class SqlQueue:
    """A queue in table `queue_messages`, for any number of processes on SQLite or PostgreSQL.

    `engine` is the ledger's: on SQLite its transactions take the write lock when they begin, so that no two receivers
    read the same rows; on PostgreSQL the rows are locked, and rows that another receiver has locked are skipped.

    Messages come roughly in the order in which they became visible. A dead letter is the same row under the name
    `<name>-dead`: moving it is one update of one row, so there is never none of it and never two. It keeps its id and
    the time it was sent. Messages are kept until they are deleted, however long that takes.

    `max_receives` None makes a queue that has no dead-letter queue, which is what a dead-letter queue is.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        max_receives: int | None,
        clock: Clock = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._engine = engine
        self._max_receives = max_receives
        self._clock = clock
        self._sleep = sleep
        self._dead = (
            None
            if max_receives is None
            else SqlQueue(engine, f"{name}-dead", max_receives=None, clock=clock, sleep=sleep)
        )

    @property
    def dead(self) -> SqlQueue | None:
        """The dead-letter queue; None for one that is itself the end."""
        return self._dead

    def send(self, bodies: Sequence[str], *, delay: timedelta = timedelta(0)) -> list[str]:
        """Put messages into the queue, all or none, to be received after `delay`; return their ids, in order.

        Raises:
            InvalidInput: a message is too large or holds what SQS would refuse, or the delay is over 15 minutes.
            QueueUnavailable: the database cannot be reached.
        """
        require_bodies(self.name, bodies)
        require_between("delay", delay, LONGEST_DELAY)
        if not bodies:
            return []
        now = self._clock()
        ids = [str(uuid.uuid4()) for _ in bodies]
        common = {"queue": self.name, "receive_count": 0, "sent_at": now, "visible_at": now + delay}
        rows = [{"message_id": key, "body": body, **common} for key, body in zip(ids, bodies, strict=True)]
        # Durable, for the sender may forget what was taken from it.
        with transaction(self._engine, self.name, durable=True) as connection:
            connection.execute(insert(MessageRow), rows)
        return ids

    def receive(self, limit: int, *, visibility: timedelta, wait: timedelta = timedelta(0)) -> list[Message]:
        """Return up to `limit` messages, hidden from other receivers for `visibility`; wait up to `wait` for the first.

        Raises:
            InvalidInput: `limit` is below 1, `visibility` above 12 hours, or `wait` above 20 seconds.
            QueueUnavailable: the database cannot be reached.
        """
        require_count(limit)
        require_between("visibility timeout", visibility, LONGEST_VISIBILITY)
        require_between("wait", wait, LONGEST_WAIT)
        give_up = self._clock() + wait
        while True:
            if messages := self._receive(limit, visibility):
                return messages
            left = give_up - self._clock()
            if left <= timedelta(0):
                return []
            self._sleep(min(left, _POLL).total_seconds())

    def _receive(self, limit: int, visibility: timedelta) -> list[Message]:
        now = self._clock()
        with transaction(self._engine, self.name, reads=True) as connection:
            # Looked at before it is locked: whoever polls an empty queue keeps no writer waiting.
            if connection.execute(_visible(self.name, now, 1)).first() is None:
                return []
        # Receipts are made in the database, of this call's token and the row's id: one update gives all of them.
        token = uuid.uuid4().hex[:16]
        with transaction(self._engine, self.name) as connection:
            while True:
                rows = connection.execute(_visible(self.name, now, limit).with_for_update(skip_locked=True)).all()
                if not self._bury_exhausted(connection, rows, now):
                    break
            for ids in chunks([row.id for row in rows]):
                connection.execute(
                    update(MessageRow)
                    .where(MessageRow.id.in_(ids))
                    .values(
                        receipt=literal(f"{token}-") + cast(MessageRow.id, String),
                        receive_count=MessageRow.receive_count + 1,
                        visible_at=now + visibility,
                    )
                )
        return [_message(row, receipt=f"{token}-{row.id}", receive_count=row.receive_count + 1) for row in rows]

    def _bury_exhausted(self, connection: Connection, rows: Sequence[Any], now: datetime) -> bool:
        most = self._max_receives
        exhausted = [row.id for row in rows if most is not None and row.receive_count >= most]
        reason = f"received {most} times without being finished"
        for ids in chunks(exhausted):
            connection.execute(_move(f"{self.name}-dead", now, reason).where(MessageRow.id.in_(ids)))
        return bool(exhausted)

    def extend(self, messages: Sequence[Message], visibility: timedelta) -> None:
        """Hide received messages for `visibility` from now on; zero gives them back at once.

        One whose visibility timeout has passed is passed over, as SQS does.

        Raises:
            InvalidInput: `visibility` is above 12 hours.
            QueueUnavailable: the database cannot be reached.
        """
        require_between("visibility timeout", visibility, LONGEST_VISIBILITY)
        now = self._clock()
        with transaction(self._engine, self.name) as connection:
            for receipts in chunks([message.receipt for message in messages]):
                connection.execute(
                    update(MessageRow)
                    .where(MessageRow.queue == self.name, MessageRow.receipt.in_(receipts), MessageRow.visible_at > now)
                    .values(visible_at=now + visibility)
                )

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete received messages: their work is safe elsewhere.

        A receipt is good until the message is delivered again, as on SQS; one that is not good is passed over.

        Raises:
            QueueUnavailable: the database cannot be reached.
        """
        with transaction(self._engine, self.name) as connection:
            for receipts in chunks([message.receipt for message in messages]):
                connection.execute(
                    delete(MessageRow).where(MessageRow.queue == self.name, MessageRow.receipt.in_(receipts))
                )

    def peek(self, limit: int) -> list[Message]:
        """Return up to `limit` visible messages for a person to look at; nothing changes.

        Raises:
            InvalidInput: `limit` is below 1.
            QueueUnavailable: the database cannot be reached.
        """
        require_count(limit)
        with transaction(self._engine, self.name, reads=True) as connection:
            rows = connection.execute(_visible(self.name, self._clock(), limit)).all()
        return [_message(row, receipt="", receive_count=row.receive_count) for row in rows]

    def depth(self) -> Depth:
        """Count the messages.

        Raises:
            QueueUnavailable: the database cannot be reached.
        """
        now = self._clock()
        mine = select(func.count()).select_from(MessageRow).where(MessageRow.queue == self.name)
        received = func.coalesce(func.sum(case((MessageRow.receipt.is_not(None), 1), else_=0)), 0)
        hidden = select(func.count(), received).where(MessageRow.queue == self.name, MessageRow.visible_at > now)
        with transaction(self._engine, self.name, reads=True) as connection:
            # Two counts: the first, of what may be many, is answered by the index alone.
            visible = connection.execute(mine.where(MessageRow.visible_at <= now)).scalar_one()
            all_hidden, in_flight = connection.execute(hidden).one()
        return Depth(visible=visible, in_flight=int(in_flight), delayed=all_hidden - int(in_flight))

    def oldest_age(self) -> timedelta | None:
        """Return how long ago the oldest message was sent, however often it was received; None if there is none.

        Raises:
            QueueUnavailable: the database cannot be reached.
        """
        with transaction(self._engine, self.name, reads=True) as connection:
            sent_at = connection.execute(
                select(MessageRow.sent_at)
                .where(MessageRow.queue == self.name)
                .order_by(MessageRow.queue, MessageRow.sent_at)
                .limit(1)
            ).scalar_one_or_none()
        return None if sent_at is None else max(self._clock() - sent_at, timedelta(0))

    def dead_letter(self, message: Message, reason: str) -> None:
        """Move a received message to the dead-letter queue, with the reason.

        Raises:
            InvalidInput: this queue has no dead-letter queue.
            QueueUnavailable: the database cannot be reached.
        """
        dead = require_dead(self)
        with transaction(self._engine, self.name) as connection:
            connection.execute(
                _move(dead.name, self._clock(), clean_reason(reason)).where(
                    MessageRow.queue == self.name, MessageRow.receipt == message.receipt
                )
            )

    def redrive(self, limit: int | None = None) -> int:
        """Move visible dead letters back to be received again, all or up to `limit`; return how many.

        Each begins anew, with no receives, and keeps the time when it was first sent.

        Raises:
            InvalidInput: this queue has no dead-letter queue, or `limit` is below 1.
            QueueUnavailable: the database cannot be reached.
        """
        dead = require_dead(self)
        now = self._clock()
        back = _move(self.name, now, None)
        with transaction(self._engine, self.name) as connection:
            if limit is None:
                where = (MessageRow.queue == dead.name, MessageRow.visible_at <= now)
                return connection.execute(back.where(*where)).rowcount
            require_count(limit)
            rows = connection.execute(_visible(dead.name, now, limit).with_for_update(skip_locked=True)).all()
            return sum(
                connection.execute(back.where(MessageRow.id.in_(ids))).rowcount
                for ids in chunks([row.id for row in rows])
            )


def _move(to: str, now: datetime, reason: str | None) -> Any:
    return update(MessageRow).values(queue=to, reason=reason, receipt=None, receive_count=0, visible_at=now)


def require_dead(queue: Any) -> Any:
    """Return the dead-letter queue of `queue`.

    Raises:
        InvalidInput: it has none.
    """
    if queue.dead is None:
        raise InvalidInput(
            f"Queue {queue.name} has no dead-letter queue.", remedy="Call this on the queue whose letters are dead."
        )
    return queue.dead


@contextmanager
def transaction(engine: Engine, queue: str, *, reads: bool = False, durable: bool = False) -> Iterator[Connection]:
    """Run one transaction on the ledger's database for a queue.

    Raises:
        QueueUnavailable: the database cannot be reached, is locked, or lacks its tables.
    """
    try:
        with reading(engine) if reads else writing(engine, durable=durable) as session:
            yield session.connection()
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        place = engine.url.render_as_string(hide_password=True)
        raise QueueUnavailable(
            f"Queue {queue} in the ledger {place} cannot be used ({type(error.orig).__name__}).",
            remedy="Check AVATAR_LEDGER_URL, and that the database is there; then try again.",
        ) from error


def _visible(queue: str, now: datetime, limit: int) -> Any:
    return (
        select(
            MessageRow.id,
            MessageRow.message_id,
            MessageRow.body,
            MessageRow.receive_count,
            MessageRow.sent_at,
            MessageRow.reason,
        )
        .where(MessageRow.queue == queue, MessageRow.visible_at <= now)
        .order_by(MessageRow.visible_at, MessageRow.id)
        .limit(limit)
    )


def _message(row: Any, *, receipt: str, receive_count: int) -> Message:
    return Message(
        message_id=row.message_id,
        body=row.body,
        receipt=receipt,
        receive_count=receive_count,
        sent_at=row.sent_at,
        reason=row.reason,
    )
