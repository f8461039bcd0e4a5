"""A batch of utterances at work: parts shared by threads, put together again, errors where they belong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from avatar_pipeline.errors import AvatarError, Interrupted, ProviderBusy, QuotaExhausted, VoiceNotReady
from avatar_pipeline.voice.elevenlabs.errors import Halt, error_of
from avatar_pipeline.voice.elevenlabs.failures import Kind, ProviderFailure
from avatar_pipeline.voice.elevenlabs.gate import Shut
from avatar_pipeline.voice.elevenlabs.ports import Pause
from avatar_pipeline.voice.elevenlabs.speaker import Speaker
from avatar_pipeline.voice.elevenlabs.split import Part
from avatar_pipeline.voice.elevenlabs.wanted import Order, Progress, Timed
from avatar_pipeline.voice.elevenlabs.worklist import Again, Worklist
from avatar_pipeline.voice.provider import Spoken, Utterance
from avatar_pipeline.voice.types import Speech

THREADS = 32
"""More than any plan lets be in flight; those without a place wait."""


@dataclass(slots=True)
class Job:
    """One utterance in parts. `text` is as it is spoken."""

    utterance: Utterance
    text: str
    parts: Sequence[Part]
    orders: Sequence[Order]
    done: list[Timed | None] = field(default_factory=list)
    left: int = 0
    error: AvatarError | None = None

    def __post_init__(self) -> None:
        self.done = [None] * len(self.orders)
        self.left = len(self.orders)


@dataclass(slots=True)
class _Task:
    job: Job
    index: int
    progress: Progress = field(default_factory=Progress)

    @property
    def order(self) -> Order:
        return self.job.orders[self.index]


class Batch:
    """Speaks jobs. `finish` makes speech of the parts of one; `using` says for as long that a voice is in use."""

    def __init__(
        self,
        jobs: Sequence[Job],
        speaker: Speaker,
        *,
        finish: Callable[[Job, Sequence[Timed]], Speech],
        using: Callable[[str], AbstractContextManager[None]],
        threads: int = THREADS,
    ) -> None:
        self._speaker = speaker
        self._finish = finish
        self._using = using
        self._lock = threading.Lock()
        self._halted: AvatarError | None = None
        self._waiting: dict[str, AvatarError] = {}
        self._voices = Counter(order.voice_key for job in jobs for order in job.orders if order.voice_id is None)
        self._uses: dict[str, ExitStack] = {}
        tasks = [_Task(job, index) for job in jobs for index in range(len(job.orders))]
        self._work: Worklist[_Task, Spoken | None] = Worklist(tasks, self._step, threads=threads)

    def run(self) -> Iterator[Spoken]:
        """Yield every utterance once, as soon as it is done."""
        try:
            for spoken in self._work.run():
                if spoken is not None:
                    yield spoken
        finally:
            for use in self._uses.values():
                use.close()

    def _step(self, task: _Task) -> Spoken | Again | None:
        job = task.job
        error = job.error or self._halted or self._waiting.get(task.order.voice_key)
        timed: Timed | Again | None = None
        if error is None:
            timed, error = self._speak(task)
        if isinstance(timed, Again):
            return timed
        self._let_go(task.order)
        with self._lock:
            job.left -= 1
            job.done[task.index] = timed
            if error is not None and job.error is None:
                job.error = error
                return Spoken(job.utterance, error=error)
            if job.left or job.error is not None:
                return None
        return self._finished(job)

    def _speak(self, task: _Task) -> tuple[Timed | Again | None, AvatarError | None]:
        try:
            self._take_up(task.order)
            return self._speaker.speak(task.order, task.progress, self._is_over), None
        except Halt as halt:
            self._halted = self._halted or halt.error
            return None, halt.error
        except Shut as shut:
            return None, self._halted or _shut(shut.pause)
        except ProviderFailure as failed:
            error = error_of(failed.failure)
            if failed.failure.kind in {Kind.KEY, Kind.QUOTA}:
                self._halted = self._halted or error
            return None, error
        except VoiceNotReady as error:
            # Once is enough to ask in a batch.
            self._waiting[task.order.voice_key] = error
            return None, error
        except AvatarError as error:
            return None, error

    def _is_over(self) -> bool:
        return self._work.closed or self._halted is not None

    def _finished(self, job: Job) -> Spoken:
        parts = [timed for timed in job.done if timed is not None]
        # A batch is long, and nobody needs the samples here any more.
        job.done = []
        try:
            return Spoken(job.utterance, speech=self._finish(job, parts))
        except AvatarError as error:
            return Spoken(job.utterance, error=error)

    def _take_up(self, order: Order) -> None:
        if order.voice_id is not None:
            return
        with self._lock:
            if order.voice_key not in self._uses:
                self._uses[order.voice_key] = ExitStack()
                self._uses[order.voice_key].enter_context(self._using(order.voice_key))

    def _let_go(self, order: Order) -> None:
        """Let a voice be parked once nothing of the batch is left for it."""
        if order.voice_id is not None:
            return
        with self._lock:
            self._voices[order.voice_key] -= 1
            if self._voices[order.voice_key] > 0 or order.voice_key not in self._uses:
                return
            use = self._uses.pop(order.voice_key)
        use.close()


def _shut(pause: Pause | None) -> AvatarError:
    if pause is None:
        return Interrupted()
    if pause.reason == "quota_exceeded":
        return QuotaExhausted(
            f"ElevenLabs's credits are used up; nothing is sent until {pause.until:%Y-%m-%d %H:%M} UTC.",
            remedy="What is asked for waits until then.",
            resets_at=pause.until,
        )
    return ProviderBusy(
        f"Calls to ElevenLabs are paused until {pause.until:%Y-%m-%d %H:%M} UTC: {pause.reason}.",
        remedy="Try again after that.",
    )
