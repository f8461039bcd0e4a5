"""Which of the waiting clips their budgets can pay for: the others are held, and let go again as soon as there is room.

The gate itself is where a batch claims: there money is put aside, exactly. What is done here saves the batches that
would be opened for nothing, and shows at a glance what waits for money. It keeps nothing in mind: it is worked out anew
each time from what the ledger says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.gate import decide
from avatar_pipeline.budget.types import Admission, Payer, Standing, lines
from avatar_pipeline.errors import BudgetHold
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.purse import hold_of
from avatar_pipeline.ledger.records import Candidate
from avatar_pipeline.stages.line import Line

LOOKED_AT = 500
"""Clips that are looked at in one go: so many that wait, and so many for each limit that holds any."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """How many clips were held and released just now, and how many of those looked at can be paid for."""

    held: int
    released: int
    affordable: int


def sift(line: Line, *, limit: int = LOOKED_AT) -> Sifted:
    """Hold waiting clips that their budgets cannot pay for, release held ones that they can; urgent and old ones first.

    Each is reckoned with what those before it will take.

    Raises:
        InvalidInput: the file of budgets cannot be used; nothing is held or released.
    """
    line.money.require_plan()
    waiting = line.requests.waiting_clips(limit)
    outlook = _Outlook(line)
    blocked = _held(line, outlook, limit)
    if not blocked and not line.plan.rules:
        return Sifted(0, 0, len(waiting))
    voices = line.ledger.voices_of({row.request.avatar_id for row in (*waiting, *blocked)})
    held = released = affordable = 0
    for row in sorted((*waiting, *blocked), key=lambda row: (-row.request.priority, row.position)):
        request = row.request
        admission = outlook.admit(request, voices.get(request.avatar_id, ""))
        affordable += admission.admitted
        if admission.admitted:
            released += row.held_by is not None and line.requests.release(request.request_id)
            continue
        error = hold_of(admission)
        if row.held_by is None:
            held += line.requests.hold_for_budget(request.request_id, error, line.clock())
        elif row.held_by != error.limit_id:
            # Or it would stand in the way of those that its former limit has room for.
            line.requests.hold_otherwise(request.request_id, error, line.clock())
    return Sifted(held, released, affordable)


def comes_after(line: Line, request: ClipRequest, held_by: str | None, *, limit: int = LOOKED_AT) -> Admission:
    """Say what is left for a clip, waiting or held by `held_by`, when those have been admitted that come before it."""
    held = [] if held_by is None else line.requests.held_by_budget(held_by, limit)
    rows = sorted((*line.requests.waiting_clips(limit), *held), key=lambda row: (-row.request.priority, row.position))
    voices = line.ledger.voices_of({row.request.avatar_id for row in rows} | {request.avatar_id})
    outlook = _Outlook(line)
    for row in rows:
        if row.request.request_id == request.request_id:
            break
        outlook.admit(row.request, voices.get(row.request.avatar_id, ""))
    return outlook.look(request, voices.get(request.avatar_id, ""))


def _held(line: Line, outlook: _Outlook, limit: int) -> list[Candidate]:
    """Return clips that are held by limits which do not refuse them any more.

    However many there are, those of a limit that has none keep nobody else waiting.
    """
    full = {standing.limit_id for _, standing in line.spend.all_standings() if standing.left <= 0}
    first = line.requests.first_held(but=full)
    voices = line.ledger.voices_of({one.request.avatar_id for some in first.values() for one in some})
    return [
        candidate
        for limit_id, some in sorted(first.items())
        if not all(
            _is_refused_by(limit_id, outlook.look(one.request, voices.get(one.request.avatar_id, ""))) for one in some
        )
        for candidate in line.requests.held_by_budget(limit_id, limit)
    ]


def _is_refused_by(limit_id: str, admission: Admission) -> bool:
    return not admission.admitted and admission.binding is not None and admission.binding.limit_id == limit_id


def hold_all(line: Line, request_ids: Sequence[str], error: BudgetHold) -> int:
    """Hold requests whose step may not begin; return how many."""
    return sum(line.requests.hold_for_budget(request_id, error, line.clock()) for request_id in request_ids)


class _Outlook:
    """How the limits will stand when those that were looked at so far have been admitted."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._now = line.clock()
        self._known: dict[Payer, list[tuple[Limit, Standing]]] = {}
        self._promised: dict[str, Standing] = {}

    def look(self, request: ClipRequest, voice: str) -> Admission:
        """Say what the gate would say."""
        demand = self._line.purse.demand(request, voice)
        return decide(demand, self._standings(demand.payer), self._now, timezone=self._line.plan.timezone)

    def admit(self, request: ClipRequest, voice: str) -> Admission:
        """Say what the gate would say, and reckon with it from then on."""
        demand = self._line.purse.demand(request, voice)
        standings = self._standings(demand.payer)
        admission = decide(demand, standings, self._now, timezone=self._line.plan.timezone)
        if admission.admitted:
            asked = lines(demand.payer, demand.amounts)
            for _, standing in standings:
                more = asked.get((standing.scope, standing.unit))
                if more:
                    self._promised[standing.limit_id] = replace(standing, reserved=standing.reserved + more)
        return admission

    def _standings(self, payer: Payer) -> list[tuple[Limit, Standing]]:
        payer = replace(payer, request_id=None)
        if payer not in self._known:
            self._known[payer] = self._line.spend.standings(payer)
        return [(limit, self._promised.get(now.limit_id, now)) for limit, now in self._known[payer]]
