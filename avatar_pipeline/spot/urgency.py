"""What the deadline-aware policy is asked, made of a step's attempts: only trying tells whether spot is to be had."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from avatar_pipeline.spot.deadline import DeadlineState, Decision, Mode, SpotSeen
from avatar_pipeline.spot.situation import PlacementPolicy, Situation, Work
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Progress

_RUNNING = {CapacityType.SPOT: Mode.SPOT, CapacityType.ON_DEMAND: Mode.ON_DEMAND}


def before_placement(situation: Situation, work: Work, policy: PlacementPolicy) -> Decision:
    """Decide with nothing running; spot is taken to be there where nothing says otherwise.

    To wait is to queue for spot. Where there is no time left for a launch on spot that goes wrong, nothing is queued.
    """
    available = situation.to_be_had(CapacityType.SPOT, policy.mark_ttl)
    state = _state(situation, work, policy, mode=Mode.IDLE, available=available)
    decision = policy.deadline.decide(state)
    if decision.mode is not Mode.IDLE or work.remaining_seconds <= 0:
        return decision
    queued = policy.deadline.decide(replace(state, mode=Mode.SPOT, starting=work.restart_seconds))
    return queued if queued.mode is Mode.ON_DEMAND else decision


def while_running(situation: Situation, work: Work, current: Attempt, policy: PlacementPolicy) -> Decision:
    """Decide with an attempt at work.

    On spot, what it did since its last checkpoint counts as done, and as at risk. On on-demand it does not count: a
    move must pay even if it loses that.
    """
    mode = _RUNNING[current.placement.capacity_type]
    on_spot = mode is Mode.SPOT
    available = on_spot or situation.to_be_had(CapacityType.SPOT, policy.mark_ttl)
    unsaved = unsaved_seconds(situation, work, current) if on_spot else 0.0
    return policy.deadline.decide(
        _state(situation, work, policy, mode=mode, available=available, unsaved=unsaved, current=current)
    )


def while_waiting(situation: Situation, work: Work, current: Attempt, policy: PlacementPolicy) -> Decision:
    """Decide with an attempt pending on spot.

    For as long as a launch takes that is a launch under way. Then there is no spot, but for offerings that the attempt
    does not ask for.
    """
    waited = (situation.now - current.placed_at).total_seconds()
    starting = max(0.0, work.restart_seconds - waited)
    mode = Mode.SPOT if starting > 0 else Mode.IDLE
    others = set(situation.free(CapacityType.SPOT, policy.mark_ttl)) - set(current.placement.offerings)
    available = starting > 0 or bool(others)
    return policy.deadline.decide(
        _state(situation, work, policy, mode=mode, available=available, starting=starting, current=current)
    )


def unsaved_seconds(situation: Situation, work: Work, current: Attempt) -> float:
    """Return the work of a running attempt since its last checkpoint, or since it began; never more than is left."""
    progress = last_progress(situation, current)
    began = (situation.now - current.placed_at).total_seconds() - work.restart_seconds
    since = (situation.now - progress.at).total_seconds() if progress is not None else began
    return max(0.0, min(began, since, work.remaining_seconds))


def last_progress(situation: Situation, current: Attempt) -> Progress | None:
    """Return what the step saved last, in this attempt or before it."""
    saved = [*(attempt.progress for attempt in situation.history), current.progress]
    known = [progress for progress in saved if progress is not None]
    return max(known, key=lambda progress: progress.at, default=None)


def spot_seen(history: tuple[Attempt, ...], now: datetime, available: bool, ttl: timedelta) -> SpotSeen:
    """Return what the attempts tell of spot: a wait in vain was without it, an interruption ended it.

    `available` is what is taken to hold now. Nobody looks while nothing is tried: spot is taken to be back `ttl` after
    it was gone, and to have been there before anything was tried.
    """
    looks: list[tuple[datetime, bool]] = []
    for attempt in history:
        if attempt.placement.capacity_type is not CapacityType.SPOT or attempt.ending is None:
            continue
        had_it = attempt.ending is not Ending.NO_CAPACITY
        looks.append((attempt.placed_at, had_it))
        if attempt.ended_at is not None:
            looks.append((attempt.ended_at, had_it and attempt.ending is not Ending.INTERRUPTED))
    looks.sort()
    if available and looks and not looks[-1][1]:
        looks.append((min(looks[-1][0] + ttl, now), True))
    elif available and not looks and history:
        looks.append((history[0].placed_at, True))
    seen, last = SpotSeen(), None
    for at, there in [*looks, (now, available)]:
        seen = seen.observe(there, 0.0 if last is None else max(0.0, (at - last).total_seconds()))
        last = at
    return seen


def _state(
    situation: Situation,
    work: Work,
    policy: PlacementPolicy,
    *,
    mode: Mode,
    available: bool,
    starting: float = 0.0,
    unsaved: float = 0.0,
    current: Attempt | None = None,
) -> DeadlineState:
    before = tuple(each for each in situation.history if current is None or each.number != current.number)
    history = before if current is None else (*before, current)
    tried = history
    if current is not None and current.placement.capacity_type is CapacityType.SPOT and not available:
        # It has waited in vain ever since it was placed.
        tried = (*before, replace(current, ending=Ending.NO_CAPACITY, ended_at=situation.now))
    began = min((attempt.placed_at for attempt in history), default=situation.now)
    return DeadlineState(
        elapsed=max(0.0, (situation.now - began).total_seconds()),
        time_left=(work.deadline - situation.now).total_seconds(),
        work_left=work.remaining_seconds - unsaved,
        total_work=work.total_seconds,
        restart=work.restart_seconds,
        mode=mode,
        spot_available=available,
        step=policy.decision_seconds,
        starting=starting,
        at_risk=unsaved + policy.decision_seconds,
        spot_price=situation.spot_price,
        on_demand_price=situation.on_demand_price,
        seen=spot_seen(tried, situation.now, available, policy.mark_ttl),
    )
