"""One job on one window of availability, with a policy that decides at each tick.

The rules are those of the public simulators, so that numbers can be compared:

- At each tick the policy sees whether spot is available; what it then runs on it has for the whole tick.
- Spot that runs is interrupted at the first tick without spot. Nothing but the restart is lost: work is checkpointed.
- Every launch, of whatever kind, costs the restart time before work goes on; it may reach into the next tick. A launch
  is a change of what runs: from nothing, or from spot to on-demand, or back.
- Every tick begun is paid for whole, also that in which the work ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.deadline import DeadlineState, Mode, Policy, SpotSeen

ON_DEMAND_PRICE = Decimal("3.06")
"""US dollars an hour for p3.2xlarge, as the public evaluators have it."""
SPOT_PRICE = Decimal("0.9731")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is to be done by when, at what price. Times are whole seconds, prices US dollars an hour."""

    work: int
    deadline: int
    restart: int
    tick: int = 600
    on_demand_price: Decimal = ON_DEMAND_PRICE
    spot_price: Decimal = SPOT_PRICE

    def __post_init__(self) -> None:
        if min(self.work, self.tick) <= 0 or self.restart < 0 or min(self.on_demand_price, self.spot_price) < 0:
            raise InvalidInput(
                f"A job of {self.work} s, ticks of {self.tick} s and restarts of {self.restart} s cannot be simulated.",
                remedy="Give work and ticks above 0, and restarts and prices of at least 0.",
            )
        if self.work + self.restart > self.deadline:
            raise InvalidInput(
                f"A deadline of {self.deadline} s cannot be met: the work and one launch take "
                f"{self.work + self.restart} s.",
                remedy="Give a later deadline (--deadline-hours), less work (--job-hours), or a shorter restart.",
            )

    @property
    def ticks(self) -> int:
        """The number of ticks up to the deadline, the last perhaps not whole."""
        return -(-self.deadline // self.tick)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job went. `restarting` is paid time without work; `finished` None where the window ended before the job."""

    spot_ticks: int
    on_demand_ticks: int
    launches: int
    restarting: float
    finished: float | None
    missed: bool

    def cost(self, setting: Setting) -> float:
        """Return what it cost in US dollars."""
        hours = Decimal(setting.tick) / 3600
        paid = self.spot_ticks * setting.spot_price + self.on_demand_ticks * setting.on_demand_price
        return float(paid * hours)


def simulate(policy: Policy, window: Sequence[bool], setting: Setting) -> Outcome:
    """Run one job to its end, or to the window's. A policy that asks for spot where there is none gets nothing."""
    tick = setting.tick
    left, starting, restarting = float(setting.work), 0.0, 0.0
    mode, seen, launches = Mode.IDLE, SpotSeen(), 0
    paid = {Mode.SPOT: 0, Mode.ON_DEMAND: 0}
    for index, available in enumerate(window):
        now = index * tick
        seen = seen.observe(available, tick)
        if mode is Mode.SPOT and not available:
            mode, starting = Mode.IDLE, 0.0
        state = DeadlineState(
            elapsed=now,
            time_left=setting.deadline - now,
            work_left=left,
            total_work=setting.work,
            restart=setting.restart,
            mode=mode,
            spot_available=available,
            step=tick,
            starting=starting,
            spot_price=setting.spot_price,
            on_demand_price=setting.on_demand_price,
            seen=seen,
        )
        wanted = policy.decide(state).mode
        if wanted is Mode.IDLE or (wanted is Mode.SPOT and not available):
            mode, starting = Mode.IDLE, 0.0
            continue
        if wanted is not mode:
            mode, starting, launches = wanted, float(setting.restart), launches + 1
        paid[mode] += 1
        lost = min(starting, tick)
        starting -= lost
        restarting += lost
        if left <= tick - lost:
            finished = now + lost + left
            missed = finished > setting.deadline
            return Outcome(paid[Mode.SPOT], paid[Mode.ON_DEMAND], launches, restarting, finished, missed)
        left -= tick - lost
    return Outcome(paid[Mode.SPOT], paid[Mode.ON_DEMAND], launches, restarting, None, missed=True)
