"""Does to a run what a scenario says, each thing at its moment, and remembers what it did and what it missed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from avatar_pipeline.errors import InvalidInput
from tests.spot.chaos.acts import BOOTING, GAP, LATE, RUNNING, STARTING
from tests.spot.chaos.deeds import Deeds
from tests.spot.chaos.rig import Missed, Rig
from tests.spot.chaos.scenario import Act, Life

CAPACITY = "karpenter.sh/capacity-type"
_CAPACITIES = {"no_spot": ("spot",), "no_capacity": ("spot", "on-demand")}
_IMAGES = ("image", "image_invalid")
_FOR_EVER, _FOR_A_MOMENT = 60.0, 0.8


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was done: to which attempt, and when by the wall clock."""

    act: Act
    step: str
    attempt: int
    at: float


@dataclass(slots=True)
class Saboteur:
    """Plays the lives of all steps of a run, each step's in a thread of its own."""

    rig: Rig
    hits: list[Hit] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    _attempts: dict[str, int] = field(default_factory=dict)
    _deeds: Deeds = field(init=False)
    _run_level: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._deeds = Deeds(self.rig)

    def prepare(self) -> None:
        """Do what must be done before the run starts."""
        for step, lives in self.rig.plan.lives.items():
            if lives:
                self._prepare(step, lives[0])

    def play(self) -> None:
        """Do everything, then let the steps end, then do what comes too late."""
        lives = self.rig.plan.lives
        threads = [threading.Thread(target=self._play, args=(step, lives[step]), daemon=True) for step in lives]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.rig.open_the_gate()
        for step, each in lives.items():
            self._trying(step, lambda step=step, each=each: self._play_late(step, each))  # type: ignore[misc]

    def _trying(self, step: str, call: Callable[[], None]) -> None:
        try:
            call()
        except (Missed, InvalidInput) as error:
            if not self.rig.cancelled.is_set():
                self.missed.append(f"{step}: {error}")

    def _play(self, step: str, lives: tuple[Life, ...]) -> None:
        self._trying(step, lambda: self._play_lives(step, lives))

    def _play_lives(self, step: str, lives: tuple[Life, ...]) -> None:
        for number, life in enumerate(lives):
            following = lives[number + 1] if number + 1 < len(lives) else ()
            for act in life:
                if act.phase == LATE:
                    return
                attempt = self._wait(step, self._attempts.setdefault(step, 0), act)
                job = _uid(self.rig.job(step, attempt))
                if act.ends:
                    self._prepare(step, following, pulls=act.kind not in _IMAGES)
                with self._run_level if act.of.of_run else nullcontext():
                    self._strike(step, attempt, act)
                if act.ends:
                    self._attempts[step] = self._see_it_end(step, attempt, job, act, following)

    def _play_late(self, step: str, lives: tuple[Life, ...]) -> None:
        late = [act for life in lives for act in life if act.phase == LATE]
        if late:
            rig, attempt = self.rig, self._attempts.get(step, 0)
            rig.until(lambda: rig.said(step, "done", attempt), f"the work of {step} being done", even_if_over=True)
            time.sleep(late[0].offset)
            self._strike(step, attempt, late[0])

    # -- moments

    def _prepare(self, step: str, life: Life, *, pulls: bool = True) -> None:
        """Bring about, before an attempt is launched, what it is to find; `pulls`: of its image too."""
        cluster, image = self.rig.cluster, f"gpu:{step}"
        starting = [act for act in life if act.phase == STARTING]
        broken = [act.kind for act in starting if act.kind in (*_IMAGES, "image_for_a_while")]
        slow = starting and not broken
        cluster.start_delay(image, 0.0 if not slow else _FOR_EVER if starting[-1].ends else _FOR_A_MOMENT)
        if pulls and broken:
            cluster.fail_pulls(image, "InvalidImageName" if broken == ["image_invalid"] else "ErrImagePull")
        elif pulls:
            cluster.mend_pulls(image)
        for act in starting:
            for capacity in _CAPACITIES.get(act.kind, ()):
                cluster.withhold({CAPACITY: capacity})

    def _wait(self, step: str, attempt: int, act: Act) -> int:
        """Wait for an act's moment, and return the attempt that has come to it.

        It is another one than the plan has, where the run's process was killed before it had asked for a Job.
        """
        rig = self.rig
        if act.phase == GAP:
            if attempt == 0:
                rig.until(rig.worker_pod, "the run's worker")
            time.sleep(act.offset)
            return attempt
        moments = {STARTING: self._starts, BOOTING: self._runs, RUNNING: self._is_far_enough}
        moment = self._is_there if act.kind in _CAPACITIES else moments[act.phase]

        def it() -> int | None:
            numbers = (attempt, attempt + 1) if any(hit.act.of.of_run for hit in self.hits) else (attempt,)
            return next((number + 1 for number in numbers if moment(step, number, act)), None)

        found = int(rig.until(it, f"{act.kind}'s moment ({act.phase}, attempt {attempt} of {step})")) - 1
        time.sleep(act.offset)
        return found

    def _is_there(self, step: str, attempt: int, act: Act) -> bool:
        return self.rig.job(step, attempt) is not None

    def _starts(self, step: str, attempt: int, act: Act) -> bool:
        pod = self.rig.pod(step, attempt)
        return pod is not None and bool(pod["spec"].get("nodeName")) and pod["status"]["phase"] == "Pending"

    def _is_far_enough(self, step: str, attempt: int, act: Act) -> bool:
        begun = len(self.rig.said(step, "begin", attempt))
        return begun > act.chunks or bool(self.rig.said(step, "gate", attempt))

    def _runs(self, step: str, attempt: int, act: Act) -> bool:
        pod = self.rig.pod(step, attempt)
        return pod is not None and pod["status"]["phase"] == "Running"

    def _over(self, step: str, attempt: int) -> bool:
        """Say whether an attempt's pod has ended, or is gone."""
        pod = self.rig.pod(step, attempt)
        if pod is None or pod["status"]["phase"] in ("Succeeded", "Failed"):
            return True
        lives = self.rig.said(step, "start", attempt)
        ended = [line for line in self.rig.log(step) if line["attempt"] == attempt and line["what"] == "left"]
        return bool(lives) and len(ended) == len(lives)

    # -- deeds

    def _see_it_end(self, step: str, attempt: int, job: str | None, act: Act, following: Life) -> int:
        """Wait for the end of an attempt; return the number of the next one.

        That is the same one, where its Job was deleted before the executor knew that it was there, and asked again.
        """
        rig = self.rig
        last = attempt + (act.calls - 1 if act.kind == "no_capacity" else 0)
        if act.kind in _CAPACITIES:
            rig.until(lambda: rig.job(step, last + 1), f"attempt {last + 1} of {step}, the others being in vain")
            rig.cluster.restore()
        elif following and following[0].phase == GAP and act.kind not in _IMAGES:
            rig.until(lambda: self._over(step, attempt), f"the end of attempt {attempt} of {step}")
        else:
            rig.until(
                lambda: self._has_ended(step, last) or _uid(rig.job(step, last)) not in (None, job),
                f"what follows attempt {last} of {step}",
            )
            if not self._has_ended(step, last):
                return attempt
        if act.kind in _IMAGES:
            self._prepare(step, following)
        return last + 1

    def _has_ended(self, step: str, attempt: int) -> bool:
        if self.rig.job(step, attempt + 1) is not None:
            return True
        if len(self.rig.plan.shape.steps) == 1:
            return self.rig.over_lately()
        attempts = self.rig.attempts(step)
        return len(attempts) > attempt and attempts[attempt].ending is not None

    def _strike(self, step: str, attempt: int, act: Act) -> None:
        numbers = range(attempt, attempt + act.calls) if act.kind == "no_capacity" else (attempt,)
        for number in numbers:
            self.hits.append(Hit(act, step, number, time.time()))
        try:
            self._deeds.of(act.kind)(step, attempt, act)
        except InvalidInput:
            # The pod or node went by itself in between, as it may when its work is done.
            if act.phase != LATE:
                raise


def _uid(job: dict[str, Any] | None) -> str | None:
    return None if job is None else str(job["metadata"]["uid"])
