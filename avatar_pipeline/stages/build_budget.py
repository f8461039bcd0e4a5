"""Avatars and their budgets: a build is begun only where the whole of it can be paid for.

The steps of an avatar are admitted one by one, each when it begins. Without this look ahead, a budget that runs low
would pay for many beginnings and no end. Nothing is put aside here: the gate is where the steps begin.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.estimate import upper_seconds
from avatar_pipeline.budget.gate import decide
from avatar_pipeline.budget.types import Amounts, Demand, Payer, Sample, Standing, lines
from avatar_pipeline.errors import BudgetHold
from avatar_pipeline.ledger.messages import AvatarRequest
from avatar_pipeline.ledger.purse import hold_of
from avatar_pipeline.ledger.records import RequestRecord
from avatar_pipeline.stages.line import Line

BUILD = "avatar"
"""What a whole build is called in the caps of a file of budgets."""
STEPS = ("source_video", "landmarks", "isolated_voice", "mesh", "plate", "voice_model", "greeting_clip")


class Builds:
    """Which builds there is money for, at one moment: each is reckoned with what those before it will take."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._now = line.clock()
        self._compute: Decimal | None = None
        self._standings: dict[Payer, list[tuple[Limit, Standing]]] = {}
        self._promised: dict[str, Standing] = {}

    def demand(self, request: AvatarRequest) -> Demand:
        """Return what a whole build may cost at most.

        What was learnt of each step counts for an upload of a usual length, for how long this one is nobody has seen
        yet. As long as some step is not known: the cap of a build, and no less than what such a step asks for.
        """
        if self._compute is None:
            self._compute = self._whole()
        provider, speech = self._line.estimates.speech(request.greeting, request.voice)
        return Demand(
            key=f"{BUILD}/{request.request_id}",
            purpose=BUILD,
            payer=Payer(request.tenant, request.avatar_id, provider=provider),
            amounts=Amounts(compute=self._compute) + speech,
            deadline=request.deadline,
            priority=request.priority,
        )

    def reckon(self, request: AvatarRequest) -> None:
        """Reckon with a build that has begun: what it will still take is not put aside yet."""
        if self._line.plan.rules:
            self._promise(self.demand(request))

    def refused(self, request: AvatarRequest) -> BudgetHold | None:
        """Return why a build is not to begin now; None if it may, and then it is reckoned with."""
        if not self._line.plan.rules:
            return None
        demand = self.demand(request)
        standings = self._standings_of(demand.payer)
        admission = decide(demand, standings, self._now, timezone=self._line.plan.timezone)
        if not admission.admitted:
            return hold_of(admission)
        self._promise(demand)
        return None

    def _whole(self) -> Decimal:
        known, unknown = Decimal(0), []
        for step in STEPS:
            samples = self._line.spend.samples(step)
            amount = self._line.estimates.work(step, _usual_units(samples)).compute
            if upper_seconds(samples) is None:
                unknown.append(amount)
            else:
                known += amount
        return max(known, self._line.plan.cap(BUILD).compute, *unknown) if unknown else known

    def _standings_of(self, payer: Payer) -> list[tuple[Limit, Standing]]:
        if payer not in self._standings:
            self._standings[payer] = self._line.spend.standings(payer)
        return [(limit, self._promised.get(limit.id, standing)) for limit, standing in self._standings[payer]]

    def _promise(self, demand: Demand) -> None:
        asked = lines(demand.payer, demand.amounts)
        for limit, standing in self._standings_of(demand.payer):
            more = asked.get((standing.scope, standing.unit), Decimal(0))
            self._promised[limit.id] = replace(standing, reserved=standing.reserved + more)


def release_avatars(line: Line) -> int:
    """Release the avatars that a budget holds and that there is room for now; return how many.

    Raises:
        InvalidInput: the file of budgets cannot be used; none is released.
    """
    line.money.require_plan()
    held = held_avatars(line)
    if not held:
        return 0
    builds = Builds(line)
    for request in avatars_of(line.requests.waiting_avatars(len(held))):
        builds.reckon(request)
    return sum(line.requests.release(one.request_id) for one in held if builds.refused(one) is None)


def held_avatars(line: Line) -> list[AvatarRequest]:
    """Return the avatar requests that a budget holds: the most urgent first, then as they came."""
    held = line.requests.list(kind="avatar", states=("held",))
    by_budget = avatars_of([record for record in held if record.held_by is not None])
    return sorted(by_budget, key=lambda request: -request.priority)


def avatars_of(records: list[RequestRecord]) -> list[AvatarRequest]:
    """Return the requests for avatars among some."""
    return [record.request for record in records if isinstance(record.request, AvatarRequest)]


def _usual_units(samples: list[Sample]) -> Decimal:
    """The middle one of what was worked on so far: seconds of an upload, for the steps of an avatar."""
    units = sorted(sample.units for sample in samples)
    return units[len(units) // 2] if units else Decimal(1)
