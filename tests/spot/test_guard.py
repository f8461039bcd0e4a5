"""What work does when its machine is taken away, and what it does not take for that."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import AvatarError, Interrupted, InvalidMedia
from avatar_pipeline.spot.guard import NO_GUARD, Guard, Preempted, StepDeadlineExceeded, watching
from avatar_pipeline.spot.notice import NoticeKind
from avatar_pipeline.spot.types import Progress
from tests.spot.telling import MAYBE, NOW, TAKEN, Herald


class Time:
    """A clock and a stopwatch that go together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def stopwatch(self) -> float:
        return self.seconds


class CalledOff(BaseException):
    """What the handler that was there before raises, as Dagster's does."""


@pytest.fixture
def former() -> Iterator[None]:
    """A handler of SIGTERM that was there before, and has to be there afterwards."""

    def end(number: int, frame: FrameType | None) -> None:
        raise CalledOff

    before = signal.signal(signal.SIGTERM, end)
    yield
    after = signal.signal(signal.SIGTERM, before)
    assert after is end, "the former handler is put back"


@pytest.fixture
def time() -> Time:
    return Time()


def work(guard: Guard, chunks: int = 5, *, signal_after: int | None = None) -> Iterator[int]:
    """Do chunks; SIGTERM comes in the middle of one."""
    for number in range(1, chunks + 1):
        if number == signal_after:
            signal.raise_signal(signal.SIGTERM)
        yield number
        guard.boundary(number, chunks)


@pytest.mark.usefixtures("former")
def test_on_sigterm_the_chunk_in_hand_is_finished_and_the_work_leaves() -> None:
    done: list[int] = []
    with pytest.raises(Preempted) as caught, watching() as guard:
        done += work(guard)
        done.clear()
        for number in work(guard, signal_after=3):
            done.append(number)
    assert done == [1, 2, 3]
    error = caught.value
    assert error.notice.kind is NoticeKind.SIGNAL
    assert error.progress is not None
    assert (error.progress.done, error.progress.total, error.unsaved_seconds) == (3, 5, 0.0)
    assert "SIGTERM" in str(error) and "3 of 5" in str(error)


@pytest.mark.usefixtures("former")
def test_after_the_last_chunk_the_work_ends_as_if_nothing_had_come() -> None:
    with watching() as guard:
        assert list(work(guard, signal_after=5)) == [1, 2, 3, 4, 5]
        assert guard.notice is not None


@pytest.mark.usefixtures("former")
def test_a_signal_that_came_when_the_work_failed_of_itself_changes_nothing_of_the_failure() -> None:
    with pytest.raises(ZeroDivisionError), watching():
        signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError


@pytest.mark.usefixtures("former")
def test_a_run_that_its_user_called_off_ends_as_it_would_without_a_guard() -> None:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return True

    with pytest.raises(CalledOff), watching(cancelled=cancelled) as guard:
        guard.boundary(1, 5)
        assert not asked, "asking may be dear: it is done when there is a reason to"
        signal.raise_signal(signal.SIGTERM)
        guard.boundary(2, 5)


def test_a_run_that_its_user_called_off_is_interrupted_where_no_handler_was_there_before() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(Interrupted), watching(cancelled=lambda: True) as guard:
        signal.raise_signal(signal.SIGTERM)
        guard.boundary(2, 5)
    assert signal.signal(signal.SIGTERM, before) == signal.SIG_DFL


@pytest.mark.usefixtures("former")
def test_whoever_sends_sigterm_again_wants_out_at_once(time: Time) -> None:
    with pytest.raises(CalledOff), watching(clock=time.clock, stopwatch=time.stopwatch):
        signal.raise_signal(signal.SIGTERM)
        time.seconds += 0.1
        signal.raise_signal(signal.SIGTERM)  # the same signal, by another way
        time.seconds += 5
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("still there")


@pytest.mark.usefixtures("former")
@pytest.mark.parametrize(("early", "late"), [(-600, False), (-6, False), (-4, True), (0, True), (30, True)])
def test_sigterm_at_the_jobs_active_deadline_is_not_a_preemption(time: Time, early: float, late: bool) -> None:
    deadline = NOW + timedelta(hours=1)
    time.seconds = 3600 + early
    expected = StepDeadlineExceeded if late else Preempted
    with pytest.raises(expected), watching(deadline=deadline, clock=time.clock, stopwatch=time.stopwatch) as guard:
        signal.raise_signal(signal.SIGTERM)
        time.seconds += 60  # the chunk in hand takes its time; the signal is what counts
        guard.boundary(1, 5)


@pytest.mark.usefixtures("former")
def test_ec2s_notice_at_the_deadline_is_a_preemption_all_the_same() -> None:
    herald = Herald()
    with pytest.raises(Preempted), watching(deadline=NOW, sources=[herald], clock=lambda: NOW) as guard:
        herald.say()
        guard.boundary(1, 5)


def test_outside_the_main_thread_only_the_sources_are_watched() -> None:
    herald, errors = Herald(), []

    def run() -> None:
        try:
            with watching(sources=[herald]) as guard:
                guard.boundary(1, 5)
                herald.say()
                guard.boundary(2, 5)
        except Preempted as error:
            errors.append(error)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [error.notice for error in errors] == [TAKEN]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_rebalance_recommendation_is_known_and_no_reason_to_leave_unless_that_is_wanted() -> None:
    herald = Herald()
    with watching(sources=[herald]) as guard:
        herald.say(MAYBE)
        assert list(work(guard)) == [1, 2, 3, 4, 5]
        assert guard.notice == MAYBE
    with pytest.raises(Preempted) as caught, watching(sources=[herald], leave_on_rebalance=True) as guard:
        herald.say(MAYBE)
        guard.boundary(1, 5)
    assert caught.value.notice == MAYBE
    with watching(sources=[herald]) as guard:
        herald.say(TAKEN)
        herald.say(MAYBE)
        assert guard.notice == TAKEN, "what is certain is not forgotten"


def test_progress_is_reported_every_ten_seconds_and_at_the_end(time: Time) -> None:
    told: list[Progress] = []
    with watching(report=told.append, seconds_before=100, clock=time.clock, stopwatch=time.stopwatch) as guard:
        for number in range(1, 9):
            time.seconds += 4
            guard.boundary(number, 8)
    assert [(progress.done, progress.seconds) for progress in told] == [(1, 104), (4, 116), (7, 128), (8, 132)]
    assert told[-1] == Progress(8, 8, 132, NOW + timedelta(seconds=32))


def test_where_nothing_new_was_done_nothing_is_reported_twice(time: Time) -> None:
    told: list[Progress] = []
    with watching(report=told.append, clock=time.clock, stopwatch=time.stopwatch) as guard:
        guard.boundary(1, 2)
        guard.boundary()
    assert [progress.done for progress in told] == [1]


def test_a_machine_that_goes_down_takes_its_network_along(time: Time) -> None:
    """An upload that fails after SIGTERM is the preemption's doing, and not held against the step."""
    herald = Herald()
    with (
        pytest.raises(Preempted) as caught,
        watching(sources=[herald], clock=time.clock, stopwatch=time.stopwatch) as guard,
    ):
        guard.boundary(1, 5)
        herald.say()
        time.seconds += 7
        raise ConnectionResetError("the bucket is gone")
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert caught.value.unsaved_seconds == 7
    with pytest.raises(ConnectionResetError), watching(sources=[herald]):
        herald.say(MAYBE)
        raise ConnectionResetError("of itself")


def test_what_goes_wrong_on_the_way_out_is_the_preemptions_doing_but_bad_input_stays_bad() -> None:
    herald = Herald()
    with pytest.raises(Preempted), watching(sources=[herald]) as guard:
        herald.say()
        try:
            guard.boundary(1, 5)
        finally:
            raise RuntimeError("no database any more")
    with pytest.raises(InvalidMedia), watching(sources=[herald]) as guard:
        herald.say()
        try:
            guard.boundary(1, 5)
        finally:
            raise InvalidMedia("It was deleted meanwhile.", remedy="None.")


@pytest.mark.parametrize(
    "error", [Preempted(TAKEN, None, 0.0), InvalidMedia("It was deleted.", remedy="None.")], ids=["preempted", "input"]
)
def test_what_somebody_put_in_other_words_on_purpose_is_left_so(error: AvatarError) -> None:
    """As an asset does, which tells Dagster what to do about it."""
    herald = Herald()
    with pytest.raises(RuntimeError, match="in other words"), watching(sources=[herald]) as guard:
        herald.say()
        try:
            guard.boundary(1, 5)
        except Preempted:
            raise RuntimeError("in other words") from error


def test_a_part_reports_in_the_units_of_the_whole_and_its_end_is_no_reason_to_stay_for_the_whole(time: Time) -> None:
    told: list[Progress] = []
    herald = Herald()
    with (
        pytest.raises(Preempted) as caught,
        watching(report=told.append, sources=[herald], clock=time.clock, stopwatch=time.stopwatch) as whole,
    ):
        clip = whole.part(done=40, size=20, total=100)
        clip.boundary(1, 4)
        herald.say()
        assert clip.notice == TAKEN
        clip.boundary(4, 4)  # the clip is put together and published first
        whole.boundary(60, 100)
    assert caught.value.progress is not None
    assert (caught.value.progress.done, caught.value.progress.total) == (60, 100)
    assert [progress.done for progress in told] == [45, 60]


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 20)), min_size=1, max_size=8).filter(lambda p: p[0][0]))
def test_progress_through_parts_never_goes_back_and_ends_at_the_total(parts: list[tuple[int, int]]) -> None:
    time, told = Time(), list[Progress]()
    total, done = sum(size for size, _ in parts), 0
    with watching(report=told.append, signals=(), clock=time.clock, stopwatch=time.stopwatch) as whole:
        for size, chunks in parts:
            part = whole.part(done, size, total).part(0, 1, 1)
            for number in range(1, chunks + 1):
                time.seconds += 10
                part.boundary(number, chunks)
            done += size
    values = [progress.done for progress in told]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(total)


def test_without_a_guard_nothing_happens() -> None:
    NO_GUARD.part(1, 2, 3).boundary(1, 2)
    NO_GUARD.saved(1, 2)
    assert NO_GUARD.notice is None


STEP = """
import sys, time
from avatar_pipeline.spot.guard import Preempted, watching
try:
    with watching() as guard:
        print("working", flush=True)
        for number in range(1, 1000):
            time.sleep(0.02)
            guard.boundary(number, 1000)
except Preempted as error:
    print(error.notice.kind, flush=True)
    sys.exit(error.exit_code)
"""


def test_a_real_process_leaves_at_a_real_signal() -> None:
    """In a process of its own, as in a pod: signals, and no pytest around them."""
    with subprocess.Popen(
        [sys.executable, "-c", STEP], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "signal\n"
        assert process.wait(timeout=10) == Preempted.exit_code
