"""Runs the policies over the windows of the traces, and makes rows of what came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.spot.optimum import optimal_costs
from avatar_pipeline.lab.spot.peers import GreedySpot, OnDemandOnly, UniformProgress
from avatar_pipeline.lab.spot.simulator import Outcome, Setting, simulate
from avatar_pipeline.lab.spot.traces import Trace
from avatar_pipeline.progress import Progress, silent
from avatar_pipeline.spot.deadline import DeadlinePolicy, Policy

WINDOW_TICKS = 554
OURS = "deadline-aware"
OPTIMUM = "optimum"
ALL_POOLS = "all"


def policies() -> dict[str, Policy]:
    """Return the policies that are compared, by name."""
    return {
        OURS: DeadlinePolicy(),
        "uniform-progress": UniformProgress(),
        "greedy-spot": GreedySpot(),
        "on-demand": OnDemandOnly(),
    }


@dataclass(frozen=True, slots=True)
class Result:
    """What a policy did in one setting on some windows.

    `cost_ratio` is the mean over the windows of what the policy cost there over what the optimum cost there (each pool
    has the same number of windows, so it is also the mean of the pools' means), and `cost_ratio_p95` their 95th
    percentile. `misses` is a number of windows; costs (US dollars), launches and work lost to restarts (seconds) are
    means for a window, and None for the optimum, of which only the cost is computed.
    """

    policy: str
    deadline_h: float
    restart_s: int
    cost_ratio: float
    misses: int
    launches: float | None
    pool: str
    windows: int
    cost_usd: float
    cost_ratio_p95: float
    work_lost_s: float | None

    def as_dict(self) -> dict[str, object]:
        """Return the row, rounded to what has a meaning."""
        return {
            "policy": self.policy,
            "deadline_h": self.deadline_h,
            "restart_s": self.restart_s,
            "cost_ratio": round(self.cost_ratio, 4),
            "misses": self.misses,
            "launches": None if self.launches is None else round(self.launches, 2),
            "pool": self.pool,
            "windows": self.windows,
            "cost_usd": round(self.cost_usd, 2),
            "cost_ratio_p95": round(self.cost_ratio_p95, 4),
            "work_lost_s": None if self.work_lost_s is None else round(self.work_lost_s, 1),
        }


@dataclass(slots=True)
class _Tally:
    costs: list[float] = field(default_factory=list)
    optima: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def result(self, policy: str, setting: Setting, pool: str) -> Result:
        count = len(self.costs)
        ratios = sorted(cost / optimum for cost, optimum in zip(self.costs, self.optima, strict=True))
        known = bool(self.outcomes)
        return Result(
            policy=policy,
            deadline_h=setting.deadline / 3600,
            restart_s=setting.restart,
            cost_ratio=sum(ratios) / count,
            misses=sum(outcome.missed for outcome in self.outcomes),
            launches=sum(outcome.launches for outcome in self.outcomes) / count if known else None,
            pool=pool,
            windows=count,
            cost_usd=sum(self.costs) / count,
            cost_ratio_p95=ratios[min(count - 1, int(0.95 * count))],
            work_lost_s=sum(outcome.restarting for outcome in self.outcomes) / count if known else None,
        )


def ticks_needed(settings: Sequence[Setting]) -> int:
    """Return how long a trace must be: up to the latest deadline."""
    return max(setting.ticks for setting in settings)


def long_enough(traces: Sequence[Trace], settings: Sequence[Setting]) -> tuple[list[Trace], list[Trace]]:
    """Return the traces that reach to the latest deadline, and those that do not.

    Raises:
        InvalidInput: none does.
    """
    needed = ticks_needed(settings)
    longest = max(traces, key=lambda trace: len(trace.available))
    if len(longest.available) < needed:
        raise InvalidInput(
            f"The longest trace ({longest.name}) has {len(longest.available)} ticks; the deadline takes {needed}.",
            remedy="Give longer traces (--traces) or earlier deadlines (--deadline-hours).",
        )
    long = [trace for trace in traces if len(trace.available) >= needed]
    return long, [trace for trace in traces if len(trace.available) < needed]


def compare(
    traces: Sequence[Trace],
    settings: Sequence[Setting],
    *,
    windows: int,
    seed: int,
    by_pool: bool = False,
    progress: Progress = silent,
) -> list[Result]:
    """Return a row for each setting and policy over all pools, and with `by_pool` one for each pool as well.

    The windows of a pool are the same for all policies and settings. They are `WINDOW_TICKS` long, or as long as the
    latest deadline if that is longer, or as the trace if that is shorter. Traces are `long_enough`.
    """
    needed = ticks_needed(settings)
    chosen = policies()
    names = [*chosen, OPTIMUM]
    total: dict[tuple[Setting, str], _Tally] = {(setting, name): _Tally() for setting in settings for name in names}
    rows: list[Result] = []
    steps, done = len(traces) * len(settings), 0
    for trace in traces:
        cut = trace.windows(windows, max(needed, WINDOW_TICKS), seed)
        for setting in settings:
            progress("windows", done * windows, steps * windows)
            for name, tally in _run(cut, setting, chosen):
                _add(total[setting, name], tally)
                if by_pool:
                    rows.append(tally.result(name, setting, trace.name))
            done += 1
    progress("windows", steps * windows, steps * windows)
    overall = [total[setting, name].result(name, setting, ALL_POOLS) for setting in settings for name in names]
    return overall + sorted(rows, key=lambda row: (row.pool, row.deadline_h, row.restart_s))


def _run(
    cut: Sequence[tuple[bool, ...]], setting: Setting, chosen: Mapping[str, Policy]
) -> Iterable[tuple[str, _Tally]]:
    optima = [float(cost) for cost in optimal_costs(cut, setting)]
    for name, policy in chosen.items():
        outcomes = [simulate(policy, window, setting) for window in cut]
        yield name, _Tally([outcome.cost(setting) for outcome in outcomes], optima, outcomes)
    yield OPTIMUM, _Tally(optima, optima, [])


def _add(total: _Tally, part: _Tally) -> None:
    total.costs += part.costs
    total.optima += part.optima
    total.outcomes += part.outcomes
