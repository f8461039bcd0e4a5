"""The border of the queues: messages, depth, and the protocol with the semantics of Amazon SQS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from avatar_pipeline.errors import AvatarError


class QueueUnavailable(AvatarError):
    """A queue cannot be reached, does not exist, or did not take what it was given; trying again may help."""

    code = "queue_unavailable"
    exit_code = 3


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of a message. `receipt` belongs to this delivery; `reason` is why a dead letter is dead.

    The body is not shown in its repr: what a clip says is in no log.
    """

    message_id: str
    body: str = field(repr=False)
    receipt: str
    receive_count: int
    sent_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages may be received now, are with a receiver, and are not to be received yet."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All that are not deleted."""
        return self.visible + self.in_flight + self.delayed


class WorkQueue(Protocol):
    """A queue that delivers every message at least once, until it is deleted."""

    name: str

    def send(self, bodies: Sequence[str], *, delay: timedelta = timedelta(0)) -> list[str]:
        """Put messages into the queue, to be received after `delay`; return their ids, in order.

        Raises:
            QueueUnavailable: the queue cannot be reached or took only some; sending all again is safe, for requests
                carry an idempotency key.
        """

    def receive(self, limit: int, *, visibility: timedelta, wait: timedelta = timedelta(0)) -> list[Message]:
        """Return up to `limit` messages, hidden from other receivers for `visibility`; wait up to `wait` for the first.

        A message that was received `max_receives` times already goes to the dead-letter queue instead.
        """

    def extend(self, messages: Sequence[Message], visibility: timedelta) -> None:
        """Hide received messages for `visibility` from now on; zero gives them back at once."""

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete received messages: their work is safe elsewhere. A receipt that is no longer good is passed over."""

    def peek(self, limit: int) -> list[Message]:
        """Return up to `limit` visible messages for a person to look at, and leave them visible.

        On SQS that counts as having received them, for there is no other way to look.
        """

    def depth(self) -> Depth:
        """Count the messages."""

    def oldest_age(self) -> timedelta | None:
        """Return how long ago the oldest message was sent, however often it was received; None if there is none."""

    def dead_letter(self, message: Message, reason: str) -> None:
        """Move a received message to the dead-letter queue, with the reason.

        Where the message was delivered to another receiver since, nothing happens: it is that receiver's now.
        """

    @property
    def dead(self) -> WorkQueue | None:
        """The dead-letter queue; None for one that is itself the end."""

    def redrive(self, limit: int | None = None) -> int:
        """Move dead letters back to be received again, all or up to `limit`; return how many."""
