"""Queues in Amazon SQS. boto3 is imported here and nowhere else among the queues."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any

from sqlalchemy import Engine

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import package_missing
from avatar_pipeline.queues.batches import BATCH, STALE, batches, complete
from avatar_pipeline.queues.limits import (
    LARGEST_BODY,
    LONGEST_DELAY,
    LONGEST_VISIBILITY,
    LONGEST_WAIT,
    clean_reason,
    require_between,
    require_bodies,
    require_count,
)
from avatar_pipeline.queues.marks import AgeMark
from avatar_pipeline.queues.sql import require_dead
from avatar_pipeline.queues.types import Depth, Message, QueueUnavailable
from avatar_pipeline.settings import Settings

_WHILE_MOVED = timedelta(seconds=30)
"""How long a message is hidden while it is looked at or moved."""
_LONGEST_WAY = timedelta(days=365)
"""A message that was first sent longer before is not believed: SQS keeps one for 14 days between two moves."""
_DEPTH = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9-]{1,100}")

Client = Any
"""A boto3 client; boto3 has no types."""


class SqsQueue:
    """A standard queue of Amazon SQS, and the dead-letter queue `<name>-dead` beside it.

    `connect` returns the boto3 client when it is first needed; `engine` is the ledger's, where the age is kept
    (`AgeMark` says why and how). A message that was received `max_receives` times is moved by SQS itself, by the
    redrive policy that `create_queues` sets; such a letter carries no reason, so it is given one here. A letter that is
    moved here carries its reason, its id and when it was first sent as message attributes, and a redriven one the last
    two: an id stays the same, and an age the true one, on every way.

    Moving is sending and then deleting, so a crash between the two leaves both: at least once, as all of SQS.
    Spans of time are whole seconds in SQS and are rounded up.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        name: str,
        *,
        engine: Engine,
        max_receives: int,
        clock: Clock = utc_now,
        sleep: Callable[[float], None] = time.sleep,
        is_dead: bool = False,
    ) -> None:
        self.name = name
        self._connect = connect
        self._max_receives = max_receives
        self._clock = clock
        self._sleep = sleep
        self._is_dead = is_dead
        self._mark = AgeMark(engine, name, max_receives=None if is_dead else max_receives)
        self._dead = (
            None
            if is_dead
            else SqsQueue(
                connect,
                f"{name}-dead",
                engine=engine,
                max_receives=max_receives,
                clock=clock,
                sleep=sleep,
                is_dead=True,
            )
        )

    @property
    def dead(self) -> SqsQueue | None:
        """The dead-letter queue; None for one that is itself the end."""
        return self._dead

    def send(self, bodies: Sequence[str], *, delay: timedelta = timedelta(0)) -> list[str]:
        """Put messages into the queue, to be received after `delay`; return their ids, in order.

        Raises:
            InvalidInput: a message is too large or holds what SQS refuses, or the delay is over 15 minutes.
            QueueUnavailable: SQS cannot be reached, or still refused some after several tries. Others may be in the
                queue then; sending all again is safe, for requests carry an idempotency key.
        """
        require_bodies(self.name, bodies)
        require_between("delay", delay, LONGEST_DELAY)
        seconds = _seconds(delay)
        return self._send([{"MessageBody": body, "DelaySeconds": seconds} for body in bodies])

    def _send(self, entries: Sequence[dict[str, Any]]) -> list[str]:
        ids: list[str] = []
        for batch in batches(entries):
            done = complete(self.name, partial(self._entries, "send_message_batch"), batch, sleep=self._sleep)
            ids += [str(done[place]["MessageId"]) for place in range(len(batch))]
        return ids

    def receive(self, limit: int, *, visibility: timedelta, wait: timedelta = timedelta(0)) -> list[Message]:
        """Return up to `limit` messages, hidden from other receivers for `visibility`; wait up to `wait` for the first.

        SQS hands out ten at a time; it is asked until it has no more or `limit` is reached. Without a wait it looks at
        some of its servers only and may return nothing although there is something; without a visibility timeout it is
        asked once.

        Raises:
            InvalidInput: `limit` is below 1, `visibility` above 12 hours, or `wait` above 20 seconds.
            QueueUnavailable: SQS or the ledger cannot be reached. What was received comes again.
        """
        require_count(limit)
        require_between("visibility timeout", visibility, LONGEST_VISIBILITY)
        require_between("wait", wait, LONGEST_WAIT)
        found: dict[str, Message] = {}
        while len(found) < limit:
            reply = self._call(
                "receive_message",
                MaxNumberOfMessages=min(BATCH, limit - len(found)),
                VisibilityTimeout=_seconds(visibility),
                WaitTimeSeconds=0 if found else _seconds(wait),
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
                MessageAttributeNames=["All"],
            )
            # With a short visibility timeout the same message may come twice; its last receipt is the good one.
            messages = {str(raw["MessageId"]): self._message(raw) for raw in reply.get("Messages", [])}
            nothing_new = messages.keys() <= found.keys()
            found |= messages
            if nothing_new or not visibility:
                break
        self._mark.received(list(found.values()), now=self._clock(), visibility=visibility)
        return list(found.values())

    def extend(self, messages: Sequence[Message], visibility: timedelta) -> None:
        """Hide received messages for `visibility` from now on; zero gives them back at once.

        Raises:
            InvalidInput: `visibility` is above 12 hours.
            QueueUnavailable: SQS cannot be reached.
        """
        require_between("visibility timeout", visibility, LONGEST_VISIBILITY)
        self._extend(messages, visibility)

    def _extend(self, messages: Sequence[Message], visibility: timedelta) -> list[Message]:
        """Return those whose receipts were still good."""
        return self._receipts("change_message_visibility_batch", messages, VisibilityTimeout=_seconds(visibility))

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete received messages: their work is safe elsewhere. A receipt that is no longer good is passed over.

        Raises:
            QueueUnavailable: SQS or the ledger cannot be reached, or SQS still refused some after several tries.
        """
        done = self._receipts("delete_message_batch", messages)
        self._mark.gone(done, now=self._clock())

    def _receipts(self, operation: str, messages: Sequence[Message], **values: Any) -> list[Message]:
        """Do `operation` for received messages; return those whose receipts were still good."""
        distinct = list({message.receipt: message for message in messages}.values())
        good: list[Message] = []
        for start in range(0, len(distinct), BATCH):
            some = distinct[start : start + BATCH]
            entries = [{"ReceiptHandle": message.receipt, **values} for message in some]
            call = partial(self._entries, operation)
            done = complete(self.name, call, entries, sleep=self._sleep, passed_over=STALE)
            good += [some[place] for place in sorted(done)]
        return good

    def peek(self, limit: int) -> list[Message]:
        """Return up to `limit` visible messages for a person to look at.

        SQS has no way to look at a message but to receive it. They are given back at once, but it counts as a receive:
        whoever looks `max_receives` times sends a message to the dead-letter queue.

        Raises:
            InvalidInput: `limit` is below 1.
            QueueUnavailable: SQS or the ledger cannot be reached.
        """
        messages = self.receive(limit, visibility=_WHILE_MOVED, wait=timedelta(seconds=1))
        self.extend(messages, timedelta(0))
        return messages

    def depth(self) -> Depth:
        """Count the messages; SQS's counts are approximate and may lag by a minute.

        Raises:
            QueueUnavailable: SQS cannot be reached.
        """
        reply = self._call("get_queue_attributes", AttributeNames=list(_DEPTH))
        visible, in_flight, delayed = (int(reply["Attributes"][name]) for name in _DEPTH)
        return Depth(visible=visible, in_flight=in_flight, delayed=delayed)

    def oldest_age(self) -> timedelta | None:
        """Return how long ago the oldest message was sent, as far as it was seen, however often it was received.

        None if the queue is empty. See `AgeMark` for what it is made from and how far off it can be; call it at every
        tick, for every call is an observation.

        Raises:
            QueueUnavailable: SQS or the ledger cannot be reached.
        """
        now = self._clock()
        return self._mark.observed(empty=self.depth().total == 0, now=now)

    def dead_letter(self, message: Message, reason: str) -> None:
        """Move a received message to the dead-letter queue, with the reason.

        One whose receipt is no longer good stays, to be received again. A message too large to carry its reason is
        moved without.

        Raises:
            InvalidInput: this queue has no dead-letter queue.
            QueueUnavailable: SQS or the ledger cannot be reached.
        """
        dead = require_dead(self)
        if not self._extend([message], _WHILE_MOVED):
            return
        dead.take([message], reason=clean_reason(reason))
        self.delete([message])

    def redrive(self, limit: int | None = None) -> int:
        """Move dead letters back to be received again, all or up to `limit`; return how many.

        Raises:
            InvalidInput: this queue has no dead-letter queue, or `limit` is below 1.
            QueueUnavailable: SQS or the ledger cannot be reached.
        """
        dead = require_dead(self)
        if limit is not None:
            require_count(limit)
        moved: set[str] = set()
        left: list[Message] = []
        while limit is None or len(moved) < limit:
            size = BATCH if limit is None else min(BATCH, limit - len(moved))
            letters = dead.receive(size, visibility=_WHILE_MOVED, wait=timedelta(seconds=1))
            # One that is back already died again meanwhile: it is left there, or this would never end.
            fresh = [letter for letter in letters if letter.message_id not in moved]
            left += [letter for letter in letters if letter.message_id in moved]
            if not fresh:
                break
            self.take(fresh)
            dead.delete(fresh)
            moved |= {letter.message_id for letter in fresh}
        dead.extend(left, timedelta(0))
        return len(moved)

    def take(self, messages: Sequence[Message], **notes: str) -> None:
        """Send messages that come from the queue's other half; their ids, times and `notes` go with them."""
        self._send([_carrying(message, notes) for message in messages])
        self._mark.known([message.sent_at for message in messages])

    @cached_property
    def _url(self) -> str:
        client = self._connect()
        with reached(f"Queue {self.name}", client):
            return str(client.get_queue_url(QueueName=self.name)["QueueUrl"])

    def _call(self, operation: str, **arguments: Any) -> Any:
        client = self._connect()
        url = self._url
        with reached(f"Queue {self.name}", client):
            return getattr(client, operation)(QueueUrl=url, **arguments)

    def _entries(self, operation: str, entries: list[dict[str, Any]]) -> Any:
        return self._call(operation, Entries=entries)

    def _message(self, raw: dict[str, Any]) -> Message:
        system = raw["Attributes"]
        notes = {key: value.get("StringValue", "") for key, value in raw.get("MessageAttributes", {}).items()}
        noted_id = notes.get("message_id", "")
        sent_at = datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC)
        derived = f"received more than {self._max_receives} times without being finished"
        return Message(
            message_id=noted_id if _MESSAGE_ID.fullmatch(noted_id) else raw["MessageId"],
            body=raw["Body"],
            receipt=raw["ReceiptHandle"],
            receive_count=int(system["ApproximateReceiveCount"]),
            sent_at=_earlier(notes.get("sent_at"), sent_at),
            reason=(notes.get("reason") or derived) if self._is_dead else None,
        )


def sqs_client(endpoint: str | None) -> Client:
    """Return a client for SQS; region and credentials are found by boto3 in its usual places.

    Raises:
        EnvironmentProblem: boto3 is not installed.
        QueueUnavailable: there is no region, or the endpoint is no URL.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise package_missing(error) from error
    # Reading takes longer than the longest poll. A session of its own: boto3's default one is not for several threads.
    config = Config(connect_timeout=5, read_timeout=35, retries={"mode": "standard", "max_attempts": 4})
    with reached("The queues"):
        return boto3.session.Session().client("sqs", endpoint_url=endpoint, config=config)


@contextmanager
def reached(what: str, client: Client = None) -> Iterator[None]:
    """Turn what boto3 raises into an error that names the queue and the region; of SQS's own words only the code.

    Raises:
        QueueUnavailable: SQS cannot be reached, refuses the credentials, or has no such queue.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    place = f"Amazon SQS, region {client.meta.region_name}" if client else "Amazon SQS"
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        raise QueueUnavailable(
            f"{what} in {place}: {error.operation_name} was refused ({code}).",
            remedy="If it is not there: avatar queue create. docs/queues.md says which permissions are needed.",
        ) from error
    except (BotoCoreError, ValueError) as error:
        raise QueueUnavailable(
            f"{what} in {place} cannot be reached ({type(error).__name__}).",
            remedy="Check AWS_DEFAULT_REGION, the credentials, the network, and AVATAR_SQS_ENDPOINT.",
        ) from error


def create_queues(settings: Settings) -> list[str]:
    """Create both queues in SQS, each with its dead-letter queue, or bring their attributes up to date; return names.

    Dead letters are kept for 14 days and messages for 4: on a standard queue a letter's time runs from when the message
    was first sent, not from when it died, so a dead-letter queue that kept no longer than its source would drop
    letters before anybody has seen them. For queues in the ledger's database there is nothing to create.

    Raises:
        QueueUnavailable: SQS cannot be reached or refuses.
    """
    if settings.queue != "sqs":
        return []
    client = sqs_client(settings.sqs_endpoint)
    names: list[str] = []
    for name in (settings.avatar_queue, settings.clip_queue):
        common = {"ReceiveMessageWaitTimeSeconds": "20", "SqsManagedSseEnabled": "true"}
        # A letter may carry its reason beside a body that is as large as may be.
        dead = common | {"MessageRetentionPeriod": str(14 * 86400), "MaximumMessageSize": str(1024 * 1024)}
        arn = _create(client, f"{name}-dead", dead)
        source = common | {
            "MessageRetentionPeriod": str(4 * 86400),
            "MaximumMessageSize": str(LARGEST_BODY),
            "VisibilityTimeout": str(math.ceil(settings.visibility_seconds)),
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": settings.max_receives}),
        }
        _create(client, name, source)
        names += [name, f"{name}-dead"]
    return names


def _create(client: Client, name: str, attributes: dict[str, str]) -> str:
    """Create a queue, or set the attributes of the one that is there; return its ARN."""
    with reached(f"Queue {name}", client):
        try:
            url = client.get_queue_url(QueueName=name)["QueueUrl"]
        except client.exceptions.QueueDoesNotExist:
            url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        else:
            client.set_queue_attributes(QueueUrl=url, Attributes=attributes)
        reply = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(reply["Attributes"]["QueueArn"])


def _seconds(span: timedelta) -> int:
    return math.ceil(span.total_seconds())


def _carrying(message: Message, notes: dict[str, str]) -> dict[str, Any]:
    notes = {"message_id": message.message_id, "sent_at": message.sent_at.isoformat(), **notes}
    entry: dict[str, Any] = {"MessageBody": message.body}
    # What SQS measures is the body with its attributes, and a queue may have been made for no more than that.
    size = len(message.body.encode()) + sum(len(f"{name}String{note}".encode()) for name, note in notes.items())
    if size <= LARGEST_BODY:
        entry["MessageAttributes"] = {name: {"DataType": "String", "StringValue": note} for name, note in notes.items()}
    return entry


def _earlier(noted: str | None, sent_at: datetime) -> datetime:
    """Return when a moved message was first sent; anybody may send a message with a note, so it may be nonsense."""
    try:
        first = datetime.fromisoformat(noted) if noted else sent_at
        if first.tzinfo is None:
            return sent_at
        # In UTC the beginning of the year 1 in a zone east of it is no time at all.
        first = first.astimezone(UTC)
    except (ValueError, OverflowError):
        return sent_at
    return first if sent_at - _LONGEST_WAY <= first <= sent_at else sent_at
