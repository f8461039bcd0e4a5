"""Whatever is called in whatever order, and again after a crash: one batch and one end for each request, in order."""

from datetime import timedelta
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from avatar_pipeline.errors import AvatarError
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.ledger.records import RequestRecord, RequestState
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.ledger.states import FINAL, TRANSITIONS, before
from tests.ledger.desk import BROKEN, NOW, SECOND, Desk, clip

AVATARS = ("ada", "bob", "nobody")
HOOK = "https://example.com/"
WISHES = [
    clip(
        number,
        AVATARS[number % 3],
        tenant=f"tenant-{number % 2}",
        priority=number % 4 // 3,
        deadline=NOW + 25 * SECOND if number % 5 == 4 else None,
        callback_url=HOOK if number % 2 else None,
    )
    for number in range(12)
]
NAMES = st.sampled_from([wish.request_id for wish in WISHES])
BATCHES = st.sampled_from(["batch-1", "batch-2", "batch-3", "batch-4"])


class AnyOrder(RuleBasedStateMachine):
    desk: Desk

    @initialize()
    def begin_empty(self) -> None:
        with self.desk.ledger.engine.begin() as connection:
            for table in Base.metadata.tables:
                connection.execute(text(f"DELETE FROM {table}"))
        self.desk.now = NOW
        self.desk.has("ada")
        self.desk.has("bob", "new")
        self.claims: dict[str, list[str]] = {}
        self.batch_of: dict[str, str] = {}
        self.ends: dict[str, int] = {}
        self.known: dict[str, RequestRecord] = {}
        self.put_off: dict[str, int] = {}

    @rule(seconds=st.integers(1, 5))
    def time_goes_on(self, seconds: int) -> None:
        self.desk.now += seconds * SECOND

    @rule(wishes=st.lists(st.sampled_from(WISHES), min_size=1, max_size=8))
    def arrive(self, wishes: list) -> None:
        self.desk.arrive(*wishes)

    @rule(state=st.sampled_from(["new", "ready", "failed"]))
    def an_avatar_changes(self, state) -> None:
        self.desk.has("bob", state)

    @rule(batch=BATCHES, limit=st.integers(1, 6))
    def claim(self, batch: str, limit: int) -> None:
        held = {record.request.request_id for record in self.desk.book.list(states=("held",))}
        claimed = [request.request_id for request in self.desk.book.claim(batch, limit)]
        if self.claims.get(batch):
            assert claimed == self.claims[batch], "a batch is the same for ever"
            return
        assert len(claimed) <= limit
        assert not held & set(claimed)
        assert all(self.desk.book.get(name).request.avatar_id != "nobody" for name in claimed)
        self.claims[batch] = claimed
        for name in claimed:
            assert name not in self.batch_of, "in two batches"
            self.batch_of[name] = batch

    @rule(name=NAMES)
    def begin(self, name: str) -> None:
        try:
            begun = self.desk.book.begin(name, max_attempts=3)
        except AvatarError as error:
            assert error.code in ("not_found", "worker_lost", "deadline_passed")
            self.ended(name, error.code != "not_found")
        else:
            state = self.desk.book.get(name).state
            assert state == "running" if begun else state in FINAL | {"held"}

    @rule(name=NAMES)
    def finish(self, name: str) -> None:
        self.ended(name, self.desk.book.finish(name, clip_key="abc"))

    @rule(name=NAMES)
    def fail(self, name: str) -> None:
        self.ended(name, self.desk.book.fail(name, BROKEN))

    @rule(name=NAMES)
    def hold(self, name: str) -> None:
        self.desk.book.hold(name, "over budget")

    @rule(name=NAMES, seconds=st.integers(-1, 5))
    def hold_for_a_while(self, name: str, seconds: int) -> None:
        working = name in {record.request.request_id for record in self.desk.book.list(states=("running",))}
        if self.desk.book.hold(name, "quota", self.desk.now + seconds * SECOND):
            self.put_off[name] = self.put_off.get(name, 0) + working

    @rule(limit=st.integers(1, 4))
    def release_due(self, limit: int) -> None:
        held = {record.request.request_id: record for record in self.desk.book.list(states=("held",))}
        due = [name for name, record in held.items() if record.held_until and record.held_until <= self.desk.now]
        assert self.desk.book.release_due(limit) == min(limit, len(due))
        left = {record.request.request_id for record in self.desk.book.list(states=("held",))}
        assert set(held) - left <= set(due)

    @rule(avatar_id=st.sampled_from(AVATARS))
    def refuse(self, avatar_id: str) -> None:
        unfinished = [
            record.request.request_id
            for record in self.desk.book.list(avatar_id=avatar_id)
            if record.state not in FINAL
        ]
        assert self.desk.book.refuse_avatar(avatar_id, BROKEN, page=2) == len(unfinished)
        for name in unfinished:
            self.ended(name, True)

    @rule(name=NAMES)
    def release(self, name: str) -> None:
        self.desk.book.release(name)

    @rule()
    def expire(self) -> None:
        waiting = {record.request.request_id for record in self.desk.book.list(states=("queued", "held"))}
        expired = self.desk.book.expire(unknown_avatar=timedelta(seconds=20))
        failed = {record.request.request_id for record in self.desk.book.list(states=("failed",))} & waiting
        assert len(failed) == expired
        for name in failed:
            self.ended(name, True)

    def ended(self, name: str, did: bool) -> None:
        self.ends[name] = self.ends.get(name, 0) + did

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "known"):
            return
        told = [callback.request_id for callback in CallbackBook(self.desk.ledger.engine).list()]
        for record in self.desk.book.list():
            name = record.request.request_id
            if (was := self.known.get(name)) is not None and was.state in FINAL:
                assert record == was, "an end is an end"
                continue
            self.known[name] = record
            states: list[RequestState] = [event.state for event in self.desk.book.history(name)]
            assert states[0] == "queued"
            assert all(after in TRANSITIONS[first] for first, after in pairwise(states))
            assert states[-1] == record.state
            ends = sum(state in FINAL for state in states)
            assert ends == self.ends.get(name, 0) == (record.state in FINAL)
            assert states.count("running") - self.put_off.get(name, 0) == record.attempts <= 3
            assert record.held_until is None or record.state in ("held", "failed")
            assert record.batch_id == self.batch_of.get(name)
            assert told.count(name) == (ends if record.request.callback_url else 0)
            times = [record.sent_at, record.created_at, record.claimed_at, record.started_at, record.finished_at]
            passed = [time for time in times if time is not None]
            if record.started_at is None or record.claimed_at is None or record.started_at >= record.claimed_at:
                assert passed == sorted(passed)


def test_any_order_of_calls_brings_each_request_to_one_end(desk: Desk) -> None:
    machine = type("Machine", (AnyOrder,), {"desk": desk})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_an_end_is_left_by_nothing_and_every_state_is_reached() -> None:
    assert {"done", "failed"} == FINAL
    reached = {state for following in TRANSITIONS.values() for state in following}
    assert reached == set(TRANSITIONS)
    assert before("done") == ("claimed", "running")
    assert set(before("failed")) == set(TRANSITIONS) - FINAL
