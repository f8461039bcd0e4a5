"""GPU steps as Jobs: each attempt is placed, asked for, looked after, and its end written down with what follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import IStepContext
from dagster._core.executor.step_delegating import StepHandlerContext
from dagster_k8s.executor import K8sStepHandler

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import AvatarError
from avatar_pipeline.spot import history as records
from avatar_pipeline.spot import tags
from avatar_pipeline.spot.classification import Seen, Verdict, classify
from avatar_pipeline.spot.executor import events, launching
from avatar_pipeline.spot.executor.config import SpotConfig
from avatar_pipeline.spot.executor.door import CALL_ERRORS, ApiRefused, ApiUnreachable, Door, Manifest, described, plain
from avatar_pipeline.spot.executor.keeping import JobKeeper
from avatar_pipeline.spot.executor.local import step_of
from avatar_pipeline.spot.executor.looking import Look, look_at
from avatar_pipeline.spot.executor.market import Market
from avatar_pipeline.spot.placement import next_profile, place, should_move, while_pending
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending

_LINGERING = timedelta(seconds=20)
"""How long a pod may still be there after its step has said its last word: it saves its log."""
_PAUSE = timedelta(seconds=0.9)
_SECONDS_FOR_THE_LAST = 10.0
"""The same at the end of a run, which waits for it."""


@dataclass(slots=True)
class Live:
    """An attempt that runs, or waits for the API server to take its Job (`manifest` is there until it has).

    `machine_since`: when its pod got a node, which is paid for from then on; `started_at`: when it began to run.
    """

    attempt: Attempt
    job: str
    namespace: str
    manifest: Manifest | None = None
    seen: Seen = field(default_factory=Seen)
    machine_since: datetime | None = None
    started_at: datetime | None = None
    moving: bool = False
    refused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended as far as the cluster shows. `final`: another would end alike."""

    ending: Ending
    final: bool = False


class GpuSteps:
    """Puts placement, history and classification around the stock handler, which makes the Jobs' manifests."""

    def __init__(
        self,
        stock: K8sStepHandler,
        config: SpotConfig,
        *,
        log: events.EventLog,
        door: Door,
        keeper: JobKeeper,
        clock: Clock = utc_now,
    ) -> None:
        self._stock = stock
        self._stock._api_client = launching.CapturingClient(stock._api_client, self._capture)
        self._log = log
        self._config = config
        self._policy = config.policy
        self._door = door
        self._keeper = keeper
        self._market = Market(config, door)
        self._clock = clock
        self._captured: tuple[Manifest, str] | None = None
        self._live: dict[str, Live] = {}
        self._unlaunched: set[str] = set()
        self._refused: dict[str, AvatarError] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._unreachable_since: datetime | None = None
        self._failed_at: datetime | None = None
        self.awaited: set[str] = set()
        """Steps that were launched and whose last word has not been read yet."""

    def launch(self, context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Place the next attempt of a step and ask for its Job; what cannot be asked for now is asked for later."""
        key = step_of(context)
        step = context.get_step_context(key)
        self._outcomes.pop(key, None)
        try:
            yield from self._launch(context, step)
        except AvatarError as error:
            # Only this step is to fail of it, not the whole run; the next check says so.
            self._refused[key] = error
        except CALL_ERRORS as error:
            told = described(error, "read this run's own pod, which owns its steps' Jobs")
            if isinstance(told, ApiRefused):
                self._refused[key] = told
            else:
                self._unlaunched.add(key)
                self._say_unreachable(step, told)

    def check(self, context: StepHandlerContext) -> str | None:
        """Look at a step's attempt. Return why it has ended, or None; `take_outcome` then says how it did."""
        key = step_of(context)
        self._keeper.tidy()
        if key in self._unlaunched:
            self._unlaunched.discard(key)
            list(self.launch(context))
        if key in self._unlaunched:
            return None
        if (refused := self._refused.pop(key, None)) is not None:
            self.awaited.add(key)
            self._outcomes[key] = Outcome(Ending.USER_ERROR, final=True)
            return str(refused)
        live = self._live.get(key)
        if live is None:
            # Of a former process of this run: it is judged at the next check, whose consequences Dagster asks for.
            return None if self._recover(context, key) else "its attempt has ended, or was never begun"
        return self._ended(context, context.get_step_context(key), live)

    def terminate(self, context: StepHandlerContext) -> None:
        """Delete the Job of a cancelled step: no orphan is left."""
        key = step_of(context)
        self._unlaunched.discard(key)
        live = self._live.get(key) or self._recover(context, key)
        if live is not None:
            self._keeper.delete_now(live.namespace, live.job)
            self._end(context, context.get_step_context(key), live, Ending.CANCELLED, "the run was cancelled")

    def began(self, context: StepHandlerContext) -> None:
        """Note where an attempt runs as soon as its worker speaks: it may be gone before the next check."""
        live = self._live.get(step_of(context))
        if live is not None and live.seen.instance_type is None:
            # To know where it runs is nice; that it runs is what matters.
            with suppress(ApiUnreachable, ApiRefused):
                self._look(live)

    def heard(self, context: StepHandlerContext, event: DagsterEvent) -> None:
        """Take note of a worker's last word on its attempt."""
        key = step_of(context)
        live = self._live.get(key)
        if live is None:
            return
        ending, reason = events.said_of(event), events.reason_of(event)
        if ending is Ending.INTERRUPTED:
            ending, reason = self._why_it_was_told_to_go(live, reason)
        else:
            self.began(context)
        self._end(context, context.get_step_context(key), live, ending, reason, wait=_LINGERING)
        self._outcomes.pop(key, None)

    def _why_it_was_told_to_go(self, live: Live, reason: str) -> tuple[Ending, str]:
        """Tell an interruption from our own request and from an active deadline: in the pod they look alike."""
        if live.moving:
            return Ending.MOVED, reason
        with suppress(ApiUnreachable, ApiRefused):
            job, failure = (look := self._look(live).observation).job, look.job_failure
            if failure is not None and failure.reason == "DeadlineExceeded":
                return Ending.DEADLINE_EXCEEDED, failure.message
            # Before Kubernetes 1.31 the condition comes only when the pod has ended.
            allowed = self._market.profile_or_default(live.attempt.placement.profile).active_deadline_seconds
            if job is not None and job.start_time is not None and allowed is not None:
                late = look.now - job.start_time - timedelta(seconds=allowed)
                if late > timedelta(seconds=-1):
                    return Ending.DEADLINE_EXCEEDED, f"it ran for longer than its active deadline of {allowed} s"
        return Ending.INTERRUPTED, reason

    def delete_all(self) -> None:
        """Delete the Jobs of all that runs, before anything else is done about it."""
        for live in self._live.values():
            self._keeper.let_go(live.namespace, live.job)
        self._keeper.tidy()

    def forget(self, key: str) -> None:
        """Look after an attempt no longer, of which nothing can be written down; its Job goes when it has ended."""
        live = self._live.pop(key, None)
        if live is not None:
            self._keeper.let_go(live.namespace, live.job, after=_LINGERING)

    def wait_for_the_last(self) -> None:
        """See the Jobs end whose steps have said their last word; one whose process hangs is told to go."""
        self._keeper.wait(seconds=_SECONDS_FOR_THE_LAST)

    @property
    def running(self) -> list[str]:
        """The steps of which an attempt is being looked after."""
        return [*self._live, *(key for key in self._unlaunched if key not in self._live)]

    def take_outcome(self, key: str) -> Outcome | None:
        """Return how the attempt ended that was just said to have ended; None for a step that is not ours."""
        return self._outcomes.pop(key, None)

    def runs(self, key: str) -> bool:
        """Say whether an attempt of a step is being looked after."""
        return key in self._live or key in self._unlaunched

    def next_profile(self, context: StepHandlerContext, own: tuple[Attempt, ...]) -> str | None:
        """Return the profile of a step's next attempt; None where it ran out of memory on the bigger one too."""
        return next_profile(own, self._asked(context), self._market.bigger)

    def _asked(self, context: StepHandlerContext) -> str:
        step = context.get_step_context(step_of(context))
        return launching.tag(step, context.dagster_run, tags.PROFILE_TAG) or self._config.profile

    def _launch(self, context: StepHandlerContext, step: IStepContext) -> Iterator[DagsterEvent]:
        key, run = step.step.key, context.dagster_run
        if key not in self._live:
            self._give_up_earlier_runs(context, key)
        history = self._log.attempts(run, key)
        own = self._log.own_attempts(run.run_id, key)
        profile = self._market.profile(self.next_profile(context, own) or self._asked(context))
        yield from self._stock.launch_step(context)
        manifest, namespace = self._taken()
        situation = self._market.situation(step, run, history, profile, self._clock(), namespace=namespace)
        placement = place(situation, launching.policy_of(step, run, self._policy))
        attempt = Attempt(records.next_number(history), placement, situation.now)
        manifest = launching.amended(
            manifest,
            context,
            step,
            attempt=attempt,
            history=history,
            own=own,
            profile=profile,
            prices=self._market.prices(placement),
            budget=self._policy.interruption_budget,
        )
        live = Live(attempt, manifest["metadata"]["name"], namespace, manifest)
        before = self._live.get(key)
        if before is not None and before.job != live.job:
            self._keeper.let_go(before.namespace, before.job)
        self._live[key] = live
        events.write(
            step,
            f"Attempt {attempt.number}: {placement.reason}",
            records.placed(attempt, job=live.job, namespace=namespace),
            **launching.shown(attempt),
            instance_types=", ".join(placement.instance_types),
            zones=", ".join(filter(None, placement.zones)) or "any",
        )
        try:
            self._create(live)
        except ApiUnreachable as error:
            self._say_unreachable(step, error)
        except ApiRefused:
            # Asked again at the next check, which also says what follows if it is refused again.
            pass

    def _create(self, live: Live) -> None:
        if live.manifest is not None and self._keeper.create(live.namespace, live.manifest):
            live.manifest = None

    def _ended(self, context: StepHandlerContext, step: IStepContext, live: Live) -> str | None:
        """Look at an attempt; say why it has ended, None while it goes on or its own last word is on its way."""
        if self._failed_at is not None and self._clock() - self._failed_at < _PAUSE:
            # One step has waited for an answer just now; the others need not wait for it too.
            return None
        try:
            verdict = self._judge(context, step, live)
        except ApiUnreachable as error:
            self._say_unreachable(step, error)
            return None
        except ApiRefused as error:
            verdict = self._refused_job(live, error)
            if verdict is None:
                self._say_unreachable(step, error)
                return None
        live.refused_at = None
        self._say_reachable(step)
        if verdict is None or self._log.spoken(context.dagster_run.run_id, step.step.key):
            return None
        self._end(context, step, live, verdict.ending, verdict.reason)
        return verdict.reason

    def _refused_job(self, live: Live, error: ApiRefused) -> Verdict | None:
        """Judge an attempt that may not be asked for, or not be looked at.

        A quota may have room again, and rights may be given back, until the pending limit; another refusal is final.
        """
        asked, quota = live.manifest is not None, "exceeded quota" in str(error)
        if asked and not quota:
            return Verdict(Ending.USER_ERROR, str(error), live.seen)
        limits = self._config.limits(self._market.profile_or_default(live.attempt.placement.profile))
        live.refused_at = live.refused_at or self._clock()
        if (self._clock() - live.refused_at).total_seconds() < limits.pending_seconds:
            return None
        return Verdict(Ending.NO_CAPACITY if asked else Ending.USER_ERROR, str(error), live.seen)

    def _judge(self, context: StepHandlerContext, step: IStepContext, live: Live) -> Verdict | None:
        if live.manifest is not None:
            self._create(live)
            return None
        look = self._look(live)
        verdict = classify(look.observation)
        if verdict is not None or live.moving or not self._market.may_move:
            return verdict
        return self._move(context, step, live, pending=look.pending)

    def _move(self, context: StepHandlerContext, step: IStepContext, live: Live, *, pending: bool) -> Verdict | None:
        """See whether the attempt is better elsewhere by now: one that waits is given up, one that runs told to go."""
        run = context.dagster_run
        history = self._log.attempts(run, step.step.key)
        profile = self._market.profile_or_default(live.attempt.placement.profile)
        situation = self._market.situation(step, run, history, profile, self._clock(), namespace=live.namespace)
        current = replace(live.attempt, progress=history[-1].progress if history else None)
        policy = launching.policy_of(step, run, self._policy)
        if pending:
            better = while_pending(situation, current, policy)
            return None if better is None else Verdict(Ending.NO_CAPACITY, better.reason, live.seen)
        better = should_move(situation, current, policy)
        if better is not None:
            # It saves its work and says so; the next attempt does not begin beside it.
            events.say(step, f"Attempt {live.attempt.number} is told to go, for {better.reason}")
            live.moving = self._door.delete_job(live.namespace, live.job)
        return None

    def _look(self, live: Live) -> Look:
        look = look_at(
            self._door,
            live.namespace,
            live.job,
            live.attempt,
            now=self._clock(),
            limits=self._config.limits(self._market.profile_or_default(live.attempt.placement.profile)),
            seen=live.seen,
            deleted_by_us=live.moving,
        )
        live.seen = look.seen
        live.machine_since = live.machine_since or look.machine_since
        live.started_at = live.started_at or look.started_at
        return look

    def _end(
        self,
        context: StepHandlerContext,
        step: IStepContext,
        live: Live,
        ending: Ending,
        reason: str,
        *,
        wait: timedelta = timedelta(0),
    ) -> None:
        key, now = step.step.key, self._clock()
        told = self._log.attempts(context.dagster_run, key)
        paid_as = live.seen.capacity_type or live.attempt.placement.capacity_type
        on_demand = self._market.price(CapacityType.ON_DEMAND, live.seen)
        attempt = replace(
            live.attempt,
            ending=ending,
            ended_at=now,
            instance_type=live.seen.instance_type,
            zone=live.seen.zone,
            seconds=None if live.started_at is None else (now - live.started_at).total_seconds(),
            price=self._market.price(paid_as, live.seen),
            progress=next((one.progress for one in told if one.number == live.attempt.number), None),
        )
        attempt = replace(attempt, lost_seconds=records.work_lost(attempt))
        said = f"Attempt {attempt.number} {ending.value.replace('_', ' ')}" + (f": {reason}" if reason else "")
        record = records.ended(
            attempt,
            reason=reason,
            job=live.job,
            asset=launching.asset_of(step),
            capacity_type=paid_as.value,
            on_demand_price=None if on_demand is None else str(on_demand),
            machine_since=None if live.machine_since is None else live.machine_since.isoformat(),
        )
        events.write(step, said, record, **launching.shown(attempt))
        self._market.note(attempt)
        self._live.pop(key, None)
        self._outcomes[key] = Outcome(ending)
        self._keeper.let_go(live.namespace, live.job, after=wait)
        self._keeper.tidy()

    def _recover(self, context: StepHandlerContext, key: str) -> Live | None:
        """Find the attempt that a former process of this run was looking after."""
        run = context.dagster_run
        jobs = events.jobs(self._log.records(run.run_id, key))
        history = self._log.attempts(run, key)
        if not jobs or history[-1].ending is not None or history[-1].number not in jobs:
            return None
        namespace, job = jobs[history[-1].number]
        self._live[key] = live = Live(history[-1], job, namespace)
        return live

    def _give_up_earlier_runs(self, context: StepHandlerContext, key: str) -> None:
        """Let go of Jobs that runs before this one left behind: they would do the same work a second time."""
        for earlier in self._log.chain(context.dagster_run)[:-1]:
            for where in events.jobs(self._log.records(earlier.run_id, key)).values():
                self._keeper.let_go(*where)
        self._keeper.tidy()

    def _capture(self, body: Any, namespace: str) -> None:
        self._captured = (plain(body), namespace)

    def _taken(self) -> tuple[Manifest, str]:
        taken, self._captured = self._captured, None
        if taken is None:
            raise ApiRefused(
                "The stock executor created no Job.", remedy="Pin dagster-k8s to a version we support.", status=0
            )
        return taken

    def _say_unreachable(self, step: IStepContext, error: AvatarError) -> None:
        self._failed_at = self._clock()
        if self._unreachable_since is None:
            self._unreachable_since = self._clock()
            events.say(step, f"Kubernetes cannot be reached, steps are left as they are: {error}")

    def _say_reachable(self, step: IStepContext) -> None:
        self._failed_at = None
        if self._unreachable_since is not None:
            seconds = (self._clock() - self._unreachable_since).total_seconds()
            self._unreachable_since = None
            events.say(step, f"Kubernetes can be reached again, after {seconds:.0f} s.")
