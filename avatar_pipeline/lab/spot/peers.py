"""The policies that ours is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from avatar_pipeline.spot.deadline import DeadlineState, Decision, Mode


@dataclass(frozen=True, slots=True)
class OnDemandOnly:
    """On-demand from the start to the end."""

    def decide(self, state: DeadlineState) -> Decision:
        """Return on-demand."""
        return Decision(Mode.ON_DEMAND, "on-demand only")


@dataclass(frozen=True, slots=True)
class GreedySpot:
    """Spot wherever there is some, else waiting; on-demand to the end once the slack is used up."""

    def decide(self, state: DeadlineState) -> Decision:
        """Return what a job that only looks at its safety net runs on."""
        if state.mode is Mode.ON_DEMAND:
            return Decision(Mode.ON_DEMAND, "the slack is used up")
        return _safety_net(state) or _spot_or(Mode.IDLE, state)


@dataclass(frozen=True, slots=True)
class UniformProgress:
    """Uniform Progress (Wu et al., "Can't Be Late", NSDI 2024), as its public code behaves.

    A line runs from no progress at the start to all of it at the deadline. Behind the line and without spot, on-demand
    runs. It does until spot is back *and* progress is ahead of where the line will be two restarts from now. The
    paper's text would end on-demand at the second condition alone, spot or none; that costs 2 to 7 % more.
    """

    def decide(self, state: DeadlineState) -> Decision:
        """Return what Uniform Progress runs the job on."""
        if (forced := _safety_net(state)) is not None:
            return forced
        done = state.total_work - state.work_left
        rate = state.total_work / (state.elapsed + state.time_left)
        if state.mode is Mode.ON_DEMAND:
            ahead = done > (state.elapsed + 2 * state.restart) * rate
            return _spot_or(Mode.ON_DEMAND, state) if ahead else Decision(Mode.ON_DEMAND, "not far enough ahead")
        return _spot_or(Mode.ON_DEMAND if done < state.elapsed * rate else Mode.IDLE, state)


def _spot_or(otherwise: Mode, state: DeadlineState) -> Decision:
    return Decision(Mode.SPOT, "spot is there") if state.spot_available else Decision(otherwise, "no spot")


def _safety_net(state: DeadlineState) -> Decision | None:
    """Return what the deadline forces, in whole steps as the public code counts: on-demand, or spot that runs."""
    steps_left = floor(state.time_left / state.step)
    if _steps(state, 1) >= steps_left:
        runs = state.mode is Mode.SPOT and state.starting <= 0
        return Decision(Mode.SPOT if runs else Mode.ON_DEMAND, "no slack is left")
    if state.mode is not Mode.SPOT and _steps(state, 2) >= steps_left:
        return Decision(Mode.ON_DEMAND, "no slack is left for two restarts")
    return None


def _steps(state: DeadlineState, restarts: int) -> int:
    return ceil((state.work_left + restarts * state.restart) / state.step)
