"""What work does when its machine is taken away: it saves the chunk in hand, says how far it came, and leaves.

Work that can go on elsewhere is done in chunks, and calls `Guard.boundary` after each one that it saved. With nobody
watching that does nothing. Inside `watching`, SIGTERM and the notices of other sources only set a flag, and the next
boundary raises `Preempted`. So no library is torn out of its work, and no file is left half written.

SIGTERM has other reasons too, and they are told apart at the boundary: the user called the run off (`cancelled` says),
the Job ran into its active deadline (its time is known), or somebody sends the signal again because once was not
enough. None of these is a preemption.

Work that stays in one native call for longer than the grace period is killed; nobody can change that from inside.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from types import FrameType
from typing import Any, ClassVar, NoReturn, Protocol

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import AvatarError, Interrupted, InvalidInput
from avatar_pipeline.spot.notice import Notice, NoticeKind, NoticeSource
from avatar_pipeline.spot.types import Progress

Report = Callable[[Progress], None]
"""Told how far the work is. It must not raise."""

REPORT_SECONDS = 10.0
"""Time from one report to the next, at least."""
_DEADLINE_TOLERANCE = timedelta(seconds=5)
"""How much sooner than we think a deadline may be: two machines' clocks, and the time from a Job to its pod."""
_ECHO_SECONDS = 1.0
"""Signals closer than this are one: a process group's and a parent's forwarding of it arrive together."""


class Preempted(AvatarError):
    """The machine is taken away. What was saved is safe, and the work goes on from there on another machine.

    `progress` is how far it came, None where nothing was said of it; `unsaved_seconds` the work since the last saved
    chunk: 0 at a boundary.
    """

    code: ClassVar[str] = "preempted"
    exit_code: ClassVar[int] = 75  # EX_TEMPFAIL of sysexits.h: what asked for it may ask again

    def __init__(self, notice: Notice, progress: Progress | None, unsaved_seconds: float) -> None:
        done = "" if progress is None else f", with {progress.done:g} of {progress.total:g} saved"
        super().__init__(
            f"Preempted{done}: {notice.detail}.", remedy="It goes on from its last checkpoint on another machine."
        )
        self.notice = notice
        self.progress = progress
        self.unsaved_seconds = unsaved_seconds


class StepDeadlineExceeded(AvatarError):
    """The step was stopped because it ran into its active deadline, which no other machine would help."""

    code: ClassVar[str] = "step_deadline_exceeded"

    def __init__(self, deadline: datetime, progress: Progress | None) -> None:
        done = "" if progress is None else f", with {progress.done:g} of {progress.total:g} saved"
        super().__init__(
            f"The step ran into its active deadline, {deadline.isoformat(timespec='seconds')}{done}.",
            remedy="Run it again: it goes on from its last checkpoint. If it is as slow again, raise the deadline of "
            "its compute profile.",
        )
        self.progress = progress


class Guard(Protocol):
    """What long work talks to between its chunks. Every method may be called from any thread."""

    @property
    def notice(self) -> Notice | None:
        """The most certain notice so far: with one there, whatever is finished should be saved at once."""

    def saved(self, done: float, total: float) -> None:
        """Record that `done` of `total` units are saved."""

    def boundary(self, done: float | None = None, total: float | None = None) -> None:
        """Record what is saved, as `saved` does, and stop the work here if it has to leave the machine.

        After the last unit (`done` is `total`) it does not stop: what is left then is not saved in chunks, and would
        only be done again elsewhere.

        Raises:
            Preempted: the machine is taken away.
            StepDeadlineExceeded: the Job ran into its active deadline.
            Interrupted: the user called the work off (or what the signal's former handler raises).
        """

    def part(self, done: float, size: float, total: float) -> Guard:
        """Return the guard of a part of this work: `size` of `total` units, the first `done` being finished."""


class _Unguarded:
    """The guard of work that nothing is watched for."""

    notice: Notice | None = None

    def saved(self, done: float, total: float) -> None:
        """Do nothing."""

    def boundary(self, done: float | None = None, total: float | None = None) -> None:
        """Go on."""

    def part(self, done: float, size: float, total: float) -> Guard:
        """Return itself."""
        return self


NO_GUARD: Guard = _Unguarded()
"""Watches nothing: the default."""


def never() -> bool:
    """Say no: nobody calls the work off."""
    return False


def unheard(progress: Progress) -> None:
    """Tell nobody."""


@contextmanager
def watching(
    *,
    cancelled: Callable[[], bool] = never,
    report: Report = unheard,
    signals: Sequence[signal.Signals] = (signal.SIGTERM,),
    sources: Sequence[NoticeSource] = (),
    deadline: datetime | None = None,
    leave_on_rebalance: bool = False,
    seconds_before: float = 0.0,
    clock: Clock = utc_now,
    stopwatch: Callable[[], float] = time.monotonic,
) -> Iterator[Guard]:
    """Watch for the end of this machine while the block runs, and give the guard that its work calls.

    Signals are heard in the main thread only, and their handlers are put back at the end; elsewhere only the sources
    are watched. A signal that nobody acted on, because the work finished first, is forgotten.

    Once a machine is going down its network goes too: an `OSError` after a certain notice, and anything but bad input
    that happens on the way out, is raised as `Preempted`. Should it have been a true error, it comes again elsewhere.

    Args:
        cancelled: whether the user called the work off; asked only when it is about to stop. It must not raise.
        report: told of progress, every ten seconds at most, and at the end.
        signals: what says that the machine, or the pod, goes.
        sources: who else may say so.
        deadline: when the Job's active deadline is; a signal from then on is not a preemption.
        leave_on_rebalance: leave when EC2 only recommends it. By default such a notice makes checkpoints denser (see
            `cadence`), and the work stays: it is often wrong, and a restart always costs.
        seconds_before: seconds of work that earlier attempts had done, for the progress that is reported.
        clock: the time.
        stopwatch: seconds, for durations.
    """
    watch = _Watch(
        cancelled=cancelled,
        report=report,
        deadline=deadline,
        leave_on_rebalance=leave_on_rebalance,
        seconds_before=seconds_before,
        clock=clock,
        stopwatch=stopwatch,
    )
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in signals:
                stack.enter_context(watch.hearing(number))
        stack.callback(watch.report_last)
        for source in sources:
            stack.enter_context(source.watch(watch.tell))
        try:
            yield watch
        except (Preempted, InvalidInput):
            raise
        except Exception as error:
            if (preempted := watch.explains(error)) is None:
                raise
            raise preempted from error


class _Watch:
    """The guard of `watching`."""

    def __init__(
        self,
        *,
        cancelled: Callable[[], bool],
        report: Report,
        deadline: datetime | None,
        leave_on_rebalance: bool,
        seconds_before: float,
        clock: Clock,
        stopwatch: Callable[[], float],
    ) -> None:
        self._cancelled = cancelled
        self._report = report
        self._deadline = deadline
        self._leave_on_rebalance = leave_on_rebalance
        self._seconds_before = seconds_before
        self._clock = clock
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._began = self._saved_at = stopwatch()
        self._progress: Progress | None = None
        self._reported: Progress | None = None
        self._reported_at = -REPORT_SECONDS + self._began
        self._told: Notice | None = None
        self._leaving = False
        # Set by the handler, which runs between any two instructions of the main thread: it may take no lock.
        self._signalled: Notice | None = None
        self._signalled_at = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    @property
    def notice(self) -> Notice | None:
        """The most certain notice so far."""
        return self._signalled or self._told

    def tell(self, notice: Notice) -> None:
        """Take a notice from a source."""
        with self._lock:
            if self._told is None or notice.certain > self._told.certain:
                self._told = notice

    @contextmanager
    def hearing(self, number: signal.Signals) -> Iterator[None]:
        """Turn a signal into a notice while the block runs."""
        before = signal.getsignal(number)
        if before is None:
            # Installed by something that is not Python: it could not be put back.
            yield
            return
        self._before[number] = before
        signal.signal(number, self._hear)
        try:
            yield
        finally:
            if signal.getsignal(number) == self._hear:
                signal.signal(number, before)

    def saved(self, done: float, total: float) -> None:
        """Record progress, and report it if that was not done lately."""
        with self._lock:
            now = self._saved_at = self._stopwatch()
            seconds = self._seconds_before + now - self._began
            self._progress = progress = Progress(done, total, seconds, self._clock())
            if now - self._reported_at < REPORT_SECONDS:
                return
            self._reported, self._reported_at = progress, now
        self._report(progress)

    def boundary(self, done: float | None = None, total: float | None = None) -> None:
        """Record what is saved; leave if there is a reason to."""
        if done is None or total is None:
            with self._lock:
                self._saved_at = self._stopwatch()
        else:
            self.saved(done, total)
            if done >= total:
                return
        notice = self.notice
        if notice is None or not (notice.certain or self._leave_on_rebalance):
            return
        self._leaving = True
        if self._cancelled():
            self._interrupt()
        if self._deadline is not None and self._is_deadline(notice):
            raise StepDeadlineExceeded(self._deadline, self._progress)
        raise Preempted(notice, self._progress, 0.0)

    def part(self, done: float, size: float, total: float) -> Guard:
        """Return the guard of a part."""
        return _Part(self, done, size, total)

    def report_last(self) -> None:
        """Report what has not been reported yet."""
        with self._lock:
            progress, reported = self._progress, self._reported
            self._reported = progress
        if progress is not None and progress is not reported:
            self._report(progress)

    def explains(self, error: Exception) -> Preempted | None:
        """Return the preemption that `error` comes of, None if it stands for itself."""
        notice = self.notice
        if notice is None or isinstance(error.__cause__, Preempted | InvalidInput):
            # The latter is a preemption or bad input in other words, put so by somebody who knows why.
            return None
        if not (self._leaving or (notice.certain and isinstance(error, OSError))):
            return None
        if self._is_deadline(notice) or self._cancelled():
            return None
        return Preempted(notice, self._progress, self._stopwatch() - self._saved_at)

    def _is_deadline(self, notice: Notice) -> bool:
        if self._deadline is None or notice.kind is not NoticeKind.SIGNAL:
            return False
        return notice.received_at >= self._deadline - _DEADLINE_TOLERANCE

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._signalled is None:
            self._signalled_at = self._stopwatch()
            name = signal.Signals(number).name
            self._signalled = Notice(NoticeKind.SIGNAL, self._clock(), f"{name} came, as when a machine is taken")
        elif self._stopwatch() - self._signalled_at >= _ECHO_SECONDS:
            before = self._before[number]
            if callable(before):
                before(number, frame)
            elif before == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

    def _interrupt(self) -> NoReturn:
        """End the work as it would have ended without us."""
        for number, before in self._before.items():
            if callable(before):
                before(number, None)
        raise Interrupted


class _Part:
    """The guard of a part of some work, which reports in the units of the whole."""

    def __init__(self, whole: Guard, done: float, size: float, total: float) -> None:
        self._whole = whole
        self._done = done
        self._size = size
        self._total = total

    @property
    def notice(self) -> Notice | None:
        """The whole's."""
        return self._whole.notice

    def saved(self, done: float, total: float) -> None:
        """Record progress of the part."""
        self._whole.saved(self._of_whole(done, total), self._total)

    def boundary(self, done: float | None = None, total: float | None = None) -> None:
        """Record progress of the part; leave if there is a reason to, unless the part is finished."""
        if done is None or total is None:
            self._whole.boundary()
        elif done >= total:
            self.saved(done, total)
        else:
            self._whole.boundary(self._of_whole(done, total), self._total)

    def part(self, done: float, size: float, total: float) -> Guard:
        """Return the guard of a part of the part."""
        return _Part(self, done, size, total)

    def _of_whole(self, done: float, total: float) -> float:
        return self._done + self._size * (1.0 if done >= total else done / total)
