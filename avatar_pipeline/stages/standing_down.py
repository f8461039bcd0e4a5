"""What becomes of runs that wait in the orchestrator's queue when a budget stops: what could do nothing is taken out.

Whatever such a run was to work on is held first, in the ledger. So if whoever does this is killed before the run is
taken out, the run finds nothing to do; and once there is money again, the request is released and a run is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from avatar_pipeline.budget.gate import decide
from avatar_pipeline.budget.types import Admission, Demand, Scope, Unit, lines
from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.ledger.purse import hold_of
from avatar_pipeline.ledger.records import RequestRecord
from avatar_pipeline.stages.budget_watch import Stop, batch_refused
from avatar_pipeline.stages.build_budget import Builds
from avatar_pipeline.stages.line import Line


@dataclass(frozen=True, slots=True)
class StoodDown:
    """A run that is to be taken out of the queue, and why."""

    run_id: str
    reason: str


def stand_down_batches(line: Line, stops: Sequence[Stop], queued: Mapping[str, str]) -> list[StoodDown]:
    """Hold what batches have to do that cannot be paid for any more; return the runs to be taken out of the queue.

    `queued` are batches by the run that waits for each; none of them has another run at work. A batch that has claimed
    has money put aside, and runs on it, unless all of a limit is spent that all of its requests count against: then the
    limit was lowered under it. A batch that has claimed nothing is needless if nothing waits that it could claim, or if
    it could not go through its own steps.
    """
    if not stops:
        return []
    claimed = line.requests.batches_with_claims(queued.values())
    down: list[StoodDown] = []
    free: list[str] = []
    for run_id, batch_id in queued.items():
        records = line.requests.list(batch_id=batch_id, states=("queued", "claimed", "running"))
        if records:
            stop = _of_all(line, stops, records)
            if stop is not None and (reason := _hold(line, stop, records)) is not None:
                down.append(StoodDown(run_id, reason))
        elif batch_id not in claimed:
            free.append(run_id)
    needless = _needless(line, stops) if free else None
    return down + [StoodDown(run_id, needless) for run_id in free if needless is not None]


def stand_down_avatars(line: Line, stops: Sequence[Stop], queued: Mapping[str, str]) -> list[StoodDown]:
    """Hold the requests of builds that cannot be paid for any more; return the runs to be taken out of the queue.

    `queued` are ids of avatar requests by the run that waits for each.
    """
    if not stops:
        return []
    builds = Builds(line)
    down = []
    for run_id, request_id in queued.items():
        try:
            record = line.requests.get(request_id)
        except NotFound:
            continue
        request = record.request
        if not isinstance(request, AvatarRequest) or _first(stops, [builds.demand(request)]) is None:
            continue
        error = builds.refused(request)
        if error is not None:
            line.requests.hold_for_budget(request_id, error, line.clock())
            down.append(StoodDown(run_id, error.message))
    return down


def _of_all(line: Line, stops: Sequence[Stop], records: Sequence[RequestRecord]) -> Stop | None:
    spent = [stop for stop in stops if stop.is_spent]
    return _first(spent, [demand for _, demand in _demands(line, records)]) if spent else None


def _first(stops: Iterable[Stop], demands: Sequence[Demand]) -> Stop | None:
    """Return the first limit that something is asked of by all of these."""
    asked = [{key for key, amount in lines(demand.payer, demand.amounts).items() if amount > 0} for demand in demands]
    common: set[tuple[Scope, Unit]] = set.intersection(*asked) if asked else set()
    return next((stop for stop in stops if (stop.standing.scope, stop.standing.unit) in common), None)


def _demands(line: Line, records: Sequence[RequestRecord]) -> list[tuple[str, Demand]]:
    requests = [(record.request, record.admissions) for record in records if isinstance(record.request, ClipRequest)]
    voices = line.ledger.voices_of({request.avatar_id for request, _ in requests})
    return [
        (request.request_id, line.purse.demand(request, voices.get(request.avatar_id, ""), admissions))
        for request, admissions in requests
    ]


def _hold(line: Line, stop: Stop, records: Sequence[RequestRecord]) -> str | None:
    """Hold all of these; or none, if the limit has room again since it was looked at."""
    refused: dict[str, Admission] = {}
    known = {limit.id: limit for limit in line.plan.limits_of(stop.standing.scope)}
    standings = [(known[stop.standing.limit_id], stop.standing)]
    for request_id, demand in _demands(line, records):
        admission = decide(demand, standings, line.clock(), timezone=line.plan.timezone)
        if admission.admitted:
            return None
        refused[request_id] = admission
    for request_id, admission in refused.items():
        line.requests.hold_for_budget(request_id, hold_of(admission), line.clock())
    return next((admission.reason for admission in refused.values()), None)


def _needless(line: Line, stops: Sequence[Stop]) -> str | None:
    if (refused := batch_refused(line)) is not None:
        return refused
    if line.requests.backlog().waiting or line.queues.clips.depth().visible:
        return None
    names = ", ".join(stop.standing.limit_id for stop in stops[:3])
    return f"Nothing waits that there is money for; at a hard stop: {names}."
