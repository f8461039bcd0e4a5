"""How work is to run where a budget runs low: only on spot, later in line. What the orchestrator is told for a run."""

from __future__ import annotations

from avatar_pipeline.budget.types import Degraded, Payer
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.stages.admission import LOOKED_AT
from avatar_pipeline.stages.line import Line

MOST_PAYERS = 50
"""Payers whose posture is looked at for one batch: those of the most urgent requests."""


def posture(line: Line, payer: Payer) -> Degraded | None:
    """Return how work on somebody's account is to run where a budget runs low; None: as ever.

    Hours in which work is not to begin are not in it: the gate holds what is to wait for them.
    """
    if not any(rule.degrade for rule in line.plan.rules):
        return None
    rules = [
        limit.degrade
        for limit, standing in line.spend.standings(payer)
        if limit.degrade is not None and standing.share >= limit.degrade.at
    ]
    return _of_note(Degraded(any(rule.spot_only for rule in rules), min((rule.priority for rule in rules), default=0)))


def batch_posture(line: Line, batch_id: str | None = None) -> Degraded | None:
    """Return how a run of a batch is to run: as is right for all of those whose clips are in it.

    Nobody's clips are set back because another one in the same batch is short of money. `batch_id` None: a batch that
    has yet to claim some of those that wait.
    """
    if not any(rule.degrade for rule in line.plan.rules):
        return None
    if batch_id is None:
        requests = [one.request for one in line.requests.waiting_clips(LOOKED_AT)]
    else:
        known = line.requests.list(batch_id=batch_id, states=("queued", "claimed", "running"))
        requests = [one.request for one in known if isinstance(one.request, ClipRequest)]
    voices = line.ledger.voices_of({request.avatar_id for request in requests})
    payers = dict.fromkeys(_payer(line, request, voices.get(request.avatar_id, "")) for request in requests)
    postures = [posture(line, payer) or Degraded() for payer in list(payers)[:MOST_PAYERS] or [Payer()]]
    return _of_note(Degraded(all(one.spot_only for one in postures), max(one.priority for one in postures)))


def _of_note(degraded: Degraded) -> Degraded | None:
    return None if degraded == Degraded() else degraded


def _payer(line: Line, request: ClipRequest, voice: str) -> Payer:
    return Payer(request.tenant, request.avatar_id, provider=line.estimates.speech(request.text, voice)[0])
