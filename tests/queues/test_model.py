"""The SQL queue against a model of a queue that fits on one page."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import create_engine, delete
from sqlalchemy.pool import StaticPool

from avatar_pipeline.ledger.schema import Base, MessageRow
from avatar_pipeline.queues.sql import SqlQueue
from avatar_pipeline.queues.types import Depth, Message
from tests.queues.conftest import HandClock

ENGINE = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
SPANS = st.integers(0, 90).map(lambda seconds: timedelta(seconds=seconds))
MAX_RECEIVES = 2


@dataclass
class Known:
    """What the model knows of one message."""

    key: str
    sent_at: datetime
    visible_at: datetime
    order: int
    receives: int = 0
    receipt: str | None = None
    dead: bool = False
    reason: str | None = None


class QueueMachine(RuleBasedStateMachine):
    """Does the same to a queue and to a list."""

    def __init__(self) -> None:
        super().__init__()
        Base.metadata.create_all(ENGINE)
        with ENGINE.begin() as connection:
            connection.execute(delete(MessageRow))
        self.clock = HandClock()
        self.queue = SqlQueue(ENGINE, "clips", max_receives=MAX_RECEIVES, clock=self.clock, sleep=self.clock.sleep)
        self.known: dict[str, Known] = {}
        self.deliveries: list[Message] = []
        self.count = 0

    def _alive(self, *, dead: bool = False) -> list[Known]:
        ours = [message for message in self.known.values() if message.dead == dead]
        return sorted(ours, key=lambda message: (message.visible_at, message.order))

    def _visible(self, *, dead: bool = False) -> list[Known]:
        return [message for message in self._alive(dead=dead) if message.visible_at <= self.clock.now]

    def _bury(self, message: Known, reason: str) -> None:
        message.dead, message.reason, message.receipt, message.receives = True, reason, None, 0
        message.visible_at = self.clock.now

    def _of(self, delivery: Message) -> Known | None:
        known = self.known.get(delivery.message_id)
        return known if known and known.receipt == delivery.receipt and not known.dead else None

    @rule(number=st.integers(1, 4), delay=SPANS)
    def send(self, number: int, delay: timedelta) -> None:
        for key in self.queue.send(["body"] * number, delay=delay):
            self.count += 1
            self.known[key] = Known(key, self.clock.now, self.clock.now + delay, self.count)

    @rule(limit=st.integers(1, 4), visibility=SPANS)
    def receive(self, limit: int, visibility: timedelta) -> None:
        expected: list[Known] = []
        while len(expected) < limit:
            waiting = [message for message in self._visible() if message not in expected]
            if not waiting:
                break
            if waiting[0].receives >= MAX_RECEIVES:
                self._bury(waiting[0], f"received {MAX_RECEIVES} times without being finished")
            else:
                expected.append(waiting[0])
        got = self.queue.receive(limit, visibility=visibility)
        assert [message.message_id for message in got] == [message.key for message in expected]
        for message, known in zip(got, expected, strict=True):
            known.receives += 1
            known.receipt, known.visible_at = message.receipt, self.clock.now + visibility
            assert (message.receive_count, message.sent_at) == (known.receives, known.sent_at)
        self.deliveries += got

    @rule(which=st.integers(0, 8), visibility=SPANS)
    def extend(self, which: int, visibility: timedelta) -> None:
        if not self.deliveries:
            return
        delivery = self.deliveries[-1 - which % len(self.deliveries)]
        self.queue.extend([delivery], visibility)
        known = self._of(delivery)
        if known and known.visible_at > self.clock.now:
            known.visible_at = self.clock.now + visibility

    @rule(start=st.integers(1, 8))
    def delete(self, start: int) -> None:
        some = self.deliveries[-start:][:2]
        self.queue.delete(some)
        for delivery in some:
            if known := self._of(delivery):
                del self.known[known.key]

    @rule(which=st.integers(0, 8))
    def dead_letter(self, which: int) -> None:
        if not self.deliveries:
            return
        delivery = self.deliveries[-1 - which % len(self.deliveries)]
        self.queue.dead_letter(delivery, "bad")
        if known := self._of(delivery):
            self._bury(known, "bad")

    @rule(limit=st.none() | st.integers(1, 3))
    def redrive(self, limit: int | None) -> None:
        letters = self._visible(dead=True)
        moved = self.queue.redrive(limit)
        assert moved == (len(letters) if limit is None else min(limit, len(letters)))
        back = {message.message_id for message in self.queue.peek(1000)} if moved else set()
        for letter in [letter for letter in letters if letter.key in back]:
            letter.dead, letter.reason, letter.visible_at = False, None, self.clock.now

    @rule(span=SPANS)
    def time_passes(self, span: timedelta) -> None:
        self.clock.now += span

    @invariant()
    def counts_agree(self) -> None:
        alive, now = self._alive(), self.clock.now
        hidden = [message for message in alive if message.visible_at > now]
        in_flight = sum(message.receipt is not None for message in hidden)
        assert self.queue.depth() == Depth(len(alive) - len(hidden), in_flight, len(hidden) - in_flight)
        oldest = min((message.sent_at for message in alive), default=None)
        assert self.queue.oldest_age() == (None if oldest is None else now - oldest)

    @invariant()
    def dead_letters_agree(self) -> None:
        letters = {letter.message_id: letter.reason for letter in self.queue.dead.peek(1000)}
        assert letters == {message.key: message.reason for message in self._alive(dead=True)}


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
