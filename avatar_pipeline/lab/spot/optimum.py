"""What a job would have cost at least, had all of the window been known: a dynamic programme.

The state is the tick, what runs, and the slack used up so far. The last replaces the work done (it is the time gone by
less the slack used), and makes the programme small: what runs on uses none, a tick of waiting uses a tick, a launch one
restart; and none may use more than the job has. Values are computed backwards for all windows and all slacks at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from avatar_pipeline.lab.spot.simulator import Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FINEST_UNITS = 60
"""At most so many units of slack to a tick. Where times are not whole numbers of units, restart and work are rounded
down, so that the result stays a bound from below."""

BATCH_STATES = 20_000
"""Windows are solved in batches of about so many states, which a processor's cache holds."""


@dataclass(frozen=True, slots=True)
class _Units:
    """The setting in units of slack."""

    tick: int
    restart: int
    work: int
    slack: int

    @classmethod
    def of(cls, setting: Setting) -> _Units:
        per_tick = min(FINEST_UNITS, setting.tick // gcd(setting.tick, setting.restart, setting.work, setting.deadline))
        work = setting.work * per_tick // setting.tick
        slack = -(-setting.deadline * per_tick // setting.tick) - work
        return cls(per_tick, setting.restart * per_tick // setting.tick, work, slack)

    @property
    def stages(self) -> list[int]:
        """What is left of a launch at the beginning of each tick that it lasts: the whole, ..., less than a tick."""
        return list(range(self.restart, 0, -self.tick))


def optimal_costs(windows: Sequence[Sequence[bool]], setting: Setting) -> NDArray[np.float64]:
    """Return the least cost of the job, US dollars, for each window; by the rules of `simulator`.

    All windows are of one length, which reaches to the deadline.
    """
    import numpy as np

    units = _Units.of(setting)
    batch = max(1, BATCH_STATES // (units.slack + 1))
    batches = [windows[start : start + batch] for start in range(0, len(windows), batch)]
    return np.concatenate([_solve(part, setting, units) for part in batches])


def _solve(windows: Sequence[Sequence[bool]], setting: Setting, units: _Units) -> NDArray[np.float64]:
    import numpy as np

    available = np.array([window[: setting.ticks] for window in windows], dtype=bool)
    hours = setting.tick / 3600
    prices = {"spot": float(setting.spot_price) * hours, "on-demand": float(setting.on_demand_price) * hours}
    shape = (len(windows), units.slack + 1)
    stages = units.stages
    # What is still to be paid, by the slack used: with nothing running, and by what runs and how many ticks of its
    # launch are still to come.
    idle = np.zeros(shape)
    runs = {kind: [np.zeros(shape) for _ in range(max(1, len(stages)))] for kind in prices}
    for tick in reversed(range(setting.ticks)):
        goes_on: dict[str, list[NDArray[np.float64]]] = {}
        for kind, price in prices.items():
            after = runs[kind]
            goes_on[kind] = [price + after[0]]
            for to_come, stage in enumerate(reversed(stages)):
                goes_on[kind].append(price + _shifted(after[to_come], min(stage, units.tick)))
        for values in goes_on["spot"]:
            values[~available[:, tick]] = np.inf
        launched = np.minimum(goes_on["spot"][-1], goes_on["on-demand"][-1])
        idle = np.minimum(_shifted(idle, units.tick), launched)
        idle[:, np.arange(units.slack + 1) <= tick * units.tick - units.work] = 0.0
        runs = {kind: [np.minimum(idle, costs) for costs in goes_on[kind][: len(runs[kind])]] for kind in runs}
    result: NDArray[np.float64] = idle[:, 0]
    return result


def _shifted(values: NDArray[np.float64], units: int) -> NDArray[np.float64]:
    """Return the values at `units` more of slack used; infinite where there is not so much."""
    import numpy as np

    result = np.full_like(values, np.inf)
    if units < values.shape[1]:
        result[:, : values.shape[1] - units] = values[:, units:]
    return result
