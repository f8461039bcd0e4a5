"""When to wait, when to take spot, when to pay for on-demand, so that a piece of work is never late and costs least.

The clock always runs down; work only gets done on a machine. What is left over is the slack: time left less work left.
Nothing adds to it. Waiting takes from it second for second, and each launch takes one restart from it. So the decision
is what to spend the slack on:

- Spot is there and nothing runs: take it.
- Spot runs: stay on it. That costs no slack.
- No spot and nothing runs: wait while the slack is a large enough share of the time left. The share grows with the
  square root of how long spot has been away: most outages are blips, and those that are not last long. It stops growing
  at some multiples of the restart time: the dearer a restart, the more slack is kept for moves that pay better.
- On-demand runs and spot is back: move when spot has been there so long that it is worth the two restarts (there, and
  back one day). The scarcer the slack, the longer that is.
- A safety net under all of these: no choice may leave less time than a launch on demand and all the work still need.

How long spot lasts is judged by how long it has lasted: in public traces of 2022 and 2023 the chance that a spell of
availability ends falls about as 1 / age, in every pool and at every time scale from ten minutes to days. How a pool
differs is learnt while the job runs, from the spells that ended, never from the future. The rules are thresholds read
off the optimal policy of a semi-Markov decision process with such spells. Uniform Progress (Wu et al., "Can't Be Late",
NSDI 2024) is the policy to compare with; `avatar lab spot` does.

Pure: no clock, no randomness, no Dagster. All times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from math import log1p, sqrt
from typing import Protocol

from avatar_pipeline.errors import InvalidInput

BLIP_SECONDS = 600.0
"""The time scale of the shortest spells: below it, how long a spell has lasted says little."""

ENDING_RATE = 0.4
"""β in a spell's chance to end within a short time: β / (age + BLIP_SECONDS) a second. Fitted to public traces."""


class Mode(StrEnum):
    """What the work runs on; also what to run it on next."""

    IDLE = "idle"
    SPOT = "spot"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True)
class SpotSeen:
    """What has been observed of spot availability so far. Start with `SpotSeen()` and fold every look into it.

    `lasted` is for how long the present state has been seen, `ended` the number of spells of availability that ended,
    and `expected` the number that would have ended in the same time in a pool like those the policy was made for.
    """

    available: bool | None = None
    lasted: float = 0.0
    ended: int = 0
    expected: float = 0.0

    def observe(self, available: bool, seconds: float) -> SpotSeen:
        """Return what is known after one more look, `seconds` after the last one (whatever for the first).

        A spell ends at the look that finds it over. Someone who only learns of availability by trying folds in each
        try: no capacity anywhere is False, a launch that worked is True, an interruption is False.
        """
        if self.available is None:
            return SpotSeen(available)
        if available is self.available:
            return SpotSeen(available, self.lasted + seconds, self.ended, self.expected)
        if available:
            return SpotSeen(available, 0.0, self.ended, self.expected)
        return SpotSeen(available, 0.0, self.ended + 1, self.expected + _endings(self.lasted + seconds))

    @property
    def expected_by_now(self) -> float:
        """How many spells were to be expected to end so far, the present one included."""
        return self.expected + _endings(self.lasted) if self.available else self.expected


@dataclass(frozen=True, slots=True)
class DeadlineState:
    """What is known at a decision point: at the start, at each interruption, and every `step` seconds.

    `mode` is what runs now (an interrupted machine does not run: IDLE); `spot_available` whether a launch of spot would
    work, which does not matter while one runs; `starting` the seconds until the work of what runs goes on; `restart`
    what any launch costs before work goes on; `at_risk` the time that an interruption may lose beside it (the work
    since the last checkpoint, which `work_left` counts as done, and what it takes to notice). `elapsed` and
    `total_work` describe the whole job. Prices are US dollars an hour; where they are not known, spot is taken to cost
    a third.
    """

    elapsed: float
    time_left: float
    work_left: float
    total_work: float
    restart: float
    mode: Mode
    spot_available: bool
    step: float = BLIP_SECONDS
    starting: float = 0.0
    at_risk: float = 0.0
    spot_price: Decimal | None = None
    on_demand_price: Decimal | None = None
    seen: SpotSeen = SpotSeen()

    @property
    def slack(self) -> float:
        """The time left that is needed neither for work nor for the launch that is under way."""
        return self.time_left - self.work_left - (0.0 if self.mode is Mode.IDLE else self.starting)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to run the work on until the next decision point, and why, for a person."""

    mode: Mode
    reason: str


class Policy(Protocol):
    """Whoever decides: `DeadlinePolicy`, or one of those the lab compares it with."""

    def decide(self, state: DeadlineState) -> Decision:
        """Return what to run the work on until the next decision point."""


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """The deadline-aware policy. It misses no deadline that on-demand from the start would meet.

    wait: the share of the time left that the slack must be for waiting out an outage of ten minutes; it grows with the
        square root of the outage's age. Lower: more waiting early, less slack for later moves.
    wait_restarts: the age, in restarts, at which an outage's share stops growing.
    persistence: how many times as long as it has lasted a spell of spot is taken to go on. The median of spells with
        `ENDING_RATE` 0.4 is 2 ** (1 / 0.4) - 1 = 4.7.
    slack_price: what a restart's worth of slack is worth, in restarts of on-demand time, where all time left is slack;
        it is taken to grow as the slack's share of the time left falls.
    prior_spells: how many ended spells the prior on a pool's restlessness counts for.

    Costs change little when any of these is changed by a third, so they need no tuning for a pool.
    """

    wait: float = 0.09
    wait_restarts: float = 6.0
    persistence: float = 5.0
    slack_price: float = 0.75
    prior_spells: float = 4.0

    def __post_init__(self) -> None:
        for name in ("wait", "wait_restarts", "persistence", "slack_price", "prior_spells"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}.", remedy="Give a number above 0.")

    def decide(self, state: DeadlineState) -> Decision:
        """Return what to run the work on until the next decision point."""
        if state.work_left <= 0:
            return Decision(Mode.IDLE, "the work is done")
        if state.mode is Mode.SPOT:
            return self._on_spot(state)
        premium = _premium(state)
        if premium is None:
            return Decision(Mode.ON_DEMAND, "spot is not cheaper")
        return self._with_spot(state, premium) if state.spot_available else self._without_spot(state)

    def restlessness(self, seen: SpotSeen) -> float:
        """Return how much more often spells of spot ended here than expected: 1 where nothing is known yet."""
        return (seen.ended + self.prior_spells) / (seen.expected_by_now + self.prior_spells)

    def _on_spot(self, state: DeadlineState) -> Decision:
        # An interruption must leave time for a launch on demand and for all the work.
        if state.slack < state.restart + state.at_risk:
            return Decision(Mode.ON_DEMAND, f"{_spare(state.slack)}: an interruption of spot would make it late")
        return Decision(Mode.SPOT, "spot runs")

    def _with_spot(self, state: DeadlineState, premium: float) -> Decision:
        slack, restart = state.slack, state.restart
        if slack < 2 * restart + state.at_risk:
            return Decision(Mode.ON_DEMAND, f"{_spare(slack)}: an interruption of spot would make it late")
        if state.mode is Mode.IDLE:
            return Decision(Mode.SPOT, "spot is there")
        worth = restart * premium
        if restart > 0:  # the slack is, too
            worth += self.slack_price * restart * state.time_left / slack
        age = state.seen.lasted + state.step
        if self.persistence * age / self.restlessness(state.seen) >= worth:
            return Decision(Mode.SPOT, f"spot is back, and likely to stay the {_time(worth)} that pay a move")
        return Decision(Mode.ON_DEMAND, f"spot is back, but may not stay the {_time(worth)} that pay a move")

    def _without_spot(self, state: DeadlineState) -> Decision:
        slack = state.slack
        if state.mode is Mode.ON_DEMAND:
            return Decision(Mode.ON_DEMAND, "no spot; on-demand runs until it is back")
        # After one step of waiting there must be time for a launch on demand and for all the work.
        if slack < state.step + state.restart:
            return Decision(Mode.ON_DEMAND, f"no spot, and {_spare(slack)}: waiting would make it late")
        age = min(state.seen.lasted + state.step, self.wait_restarts * state.restart)
        reserve = self.wait * sqrt(age / BLIP_SECONDS) * state.time_left
        if slack < reserve:
            return Decision(Mode.ON_DEMAND, f"no spot, and {_spare(slack)}, less than the {_time(reserve)} in reserve")
        return Decision(Mode.IDLE, f"no spot; {_spare(slack)}, more than the {_time(reserve)} in reserve: wait")


def _premium(state: DeadlineState) -> float | None:
    """Return (K + 1) / (K - 1) for the price ratio K: by what factor spot must outlast a restart to earn two launches.

    None where spot is not cheaper, so that it never does.
    """
    if state.spot_price is None or state.on_demand_price is None:
        return 2.0
    saved = state.on_demand_price - state.spot_price
    return float((state.on_demand_price + state.spot_price) / saved) if saved > 0 else None


def _endings(seconds: float) -> float:
    """Return the expected number of endings in a spell that lasted `seconds`: the integral of β / (age + blip)."""
    return ENDING_RATE * log1p(seconds / BLIP_SECONDS)


def _spare(slack: float) -> str:
    return f"{_time(slack)} to spare" if slack >= 0 else f"{_time(-slack)} too few left"


def _time(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
