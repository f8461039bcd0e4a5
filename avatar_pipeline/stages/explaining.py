"""Why a request is where it is, as far as money has to do with it: which budget, the figures, and what happens next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.explain import explain as told
from avatar_pipeline.budget.figures import figure, moment, with_unit
from avatar_pipeline.budget.gate import decide
from avatar_pipeline.budget.types import NONE, Admission, Amounts, Demand, Standing, Unit, lines
from avatar_pipeline.ledger.cost_sums import Spent
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.records import RequestRecord
from avatar_pipeline.ledger.spend_views import ReservationView
from avatar_pipeline.ledger.unit_costs import cost_of_avatar, figures_of_clip
from avatar_pipeline.stages.admission import LOOKED_AT, comes_after
from avatar_pipeline.stages.build_budget import Builds, avatars_of, held_avatars
from avatar_pipeline.stages.line import Line

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request cost so far, in all and by asset; of an avatar, all that was spent to build it."""

    spent: Spent = field(default_factory=Spent)
    by_asset: Mapping[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that budgets have to do with a request, in sentences and in figures.

    `demand` is what it asks at most, if it is (or were) begun anew; `standings` is every limit that it counts against.
    Of one that waits, `now` is what the gate would say now. `binding` is the limit that keeps it back (None: none
    does), `asked` what it asks of that limit. `retry_at` is when it is tried again by itself; None where it is not
    held, or only a higher limit helps. `ahead`: how many clips come before it, to whom the same room may go.
    """

    record: RequestRecord
    demand: Demand
    standings: tuple[tuple[Limit, Standing], ...]
    sentences: tuple[str, ...]
    cost: Cost
    reservation: ReservationView | None = None
    now: Admission | None = None
    binding: Standing | None = None
    asked: Decimal | None = None
    retry_at: datetime | None = None
    ahead: int = 0

    @property
    def asked_of(self) -> dict[str, Decimal]:
        """What it asks of each limit at most, by the limit's id; nothing where it does not wait."""
        if self.now is None:
            return {}
        wanted = lines(self.demand.payer, self.demand.amounts)
        return {limit.id: wanted.get((one.scope, one.unit), NONE) for limit, one in self.standings}


def explain_request(line: Line, request_id: str) -> Explanation:
    """Explain one request, wherever it is.

    Raises:
        NotFound: there is no such request.
    """
    record = line.requests.get(request_id)
    demand, cost = _demand(line, record), _cost(line, record)
    standings = tuple(line.spend.standings(demand.payer))
    if record.state in ("queued", "held"):
        return _waiting(line, record, demand, standings, cost)
    reservation = line.spend.get(record.reservation) if record.reservation else None
    if record.state in ("done", "failed"):
        sentences = _finished(record, reservation, cost)
    else:
        sentences = _at_work(record, reservation, cost)
    return Explanation(record, demand, standings, tuple(sentences), cost, reservation)


def _demand(line: Line, record: RequestRecord) -> Demand:
    request = record.request
    if isinstance(request, ClipRequest):
        voice = line.ledger.voices_of({request.avatar_id}).get(request.avatar_id, "")
        return line.purse.demand(request, voice, record.admissions)
    return Builds(line).demand(request)


def _cost(line: Line, record: RequestRecord) -> Cost:
    if isinstance(record.request, ClipRequest):
        clip = figures_of_clip(line.ledger.engine, record.request.request_id)
        return Cost(clip.spent, clip.by_asset)
    if not line.ledger.has_avatar(record.request.avatar_id):
        return Cost()
    avatar = cost_of_avatar(line.ledger.engine, record.request.avatar_id)
    return Cost(avatar.building, avatar.by_asset)


def _finished(record: RequestRecord, reservation: ReservationView | None, cost: Cost) -> list[str]:
    message = (record.error or {}).get("message", "")
    sentences = ["It is done." if record.state == "done" else f"It failed: {message}", *_spent(record, cost)]
    if reservation is not None:
        what = "it is not settled yet" if reservation.is_open else "what was not needed is given back"
        sentences.append(f"{_amounts(reservation.reserved)} was reserved for it; {what}.")
    return sentences


def _at_work(record: RequestRecord, reservation: ReservationView | None, cost: Cost) -> list[str]:
    where = f" in batch {record.batch_id}" if record.batch_id else ""
    sentences = [f"It is being worked on{where}." if record.state == "running" else f"It is claimed{where}."]
    if not isinstance(record.request, ClipRequest):
        sentences.append("The steps of an avatar are admitted one by one, each when it begins.")
    elif reservation is None or not reservation.is_open:
        sentences.append("Nothing is reserved for it: it is admitted by its budgets when its work begins.")
    else:
        sentences.append(
            f"{_amounts(reservation.reserved)} is reserved for it, of which {_amounts(reservation.used)} is spent and "
            f"{_amounts(reservation.left)} is left. Should that not do, it asks for more; where there is no room, it "
            "is laid down at its next checkpoint and held."
        )
    return [*sentences, *_spent(record, cost)]


def _waiting(
    line: Line,
    record: RequestRecord,
    demand: Demand,
    standings: tuple[tuple[Limit, Standing], ...],
    cost: Cost,
) -> Explanation:
    now = decide(demand, standings, line.clock(), timezone=line.plan.timezone)
    answer = told(now, line.plan.timezone)
    outbid = now.admitted and line.plan.rules and _is_outbid(line, record)
    if record.state == "queued":
        sentences = ["It is queued.", *_waits_for_avatar(line, record), *answer]
    elif record.held_by is None:
        until = f"at {_at(line, record.held_until)}" if record.held_until else "when it is released"
        sentences = [f"It is held, and not by a budget: {_note(line, record)}", f"It goes on {until}."]
    elif outbid:
        sentences = [
            f"It is held by the budget {record.held_by}. There is room for it, and those that come before it take it.",
            "The budget sensor lets it go on when there is more: as work ends and gives back what it did not need.",
        ]
    elif now.admitted:
        sentences = [
            f"It is held by the budget {record.held_by}, and there is room for it now.",
            "The budget sensor lets it go on when it looks next.",
            now.reason,
        ]
    else:
        sentences = answer
        if now.binding is not None and now.binding.limit_id != record.held_by:
            sentences = [*answer, f"At first it was held by {record.held_by}: {_note(line, record)}"]
    ahead = _ahead(line, record)
    if ahead:
        sentences = [*sentences, f"Clips before it, by priority and age, that may take the room first: {ahead:,}."]
    by_budget = not now.admitted and (record.state == "queued" or record.held_by is not None)
    return Explanation(
        record,
        demand,
        standings,
        (*sentences, *_spent(record, cost)),
        cost,
        now=now,
        binding=now.binding if by_budget else None,
        asked=now.asked if by_budget else None,
        retry_at=now.retry_at if by_budget else record.held_until,
        ahead=ahead,
    )


def _is_outbid(line: Line, record: RequestRecord) -> bool:
    """Return whether those that come before it leave no room for a request."""
    request = record.request
    if isinstance(request, ClipRequest):
        return not comes_after(line, request, record.held_by).admitted
    builds = Builds(line)
    for waiting in avatars_of(line.requests.waiting_avatars(LOOKED_AT)):
        if waiting.request_id != request.request_id:
            builds.reckon(waiting)
    for held in held_avatars(line):
        if held.request_id == request.request_id:
            break
        builds.refused(held)
    return builds.refused(request) is not None


def _waits_for_avatar(line: Line, record: RequestRecord) -> list[str]:
    avatar_id = record.request.avatar_id
    if not isinstance(record.request, ClipRequest):
        return []
    if not line.ledger.has_avatar(avatar_id):
        return [f"Its avatar {avatar_id} is not known yet, so no batch takes it."]
    state = line.ledger.avatar(avatar_id).state
    return [] if state == "ready" else [f"Its avatar {avatar_id} is {state} and not ready, so no batch takes it."]


def _note(line: Line, record: RequestRecord) -> str:
    """Return why a request is held, as it was written down, without the code before it."""
    events = line.requests.history(record.request.request_id)
    note = next((event.note for event in reversed(events) if event.state == "held"), "")
    return note.removeprefix("budget_hold: ")


def _ahead(line: Line, record: RequestRecord) -> int:
    """Count the clips, waiting or held by budgets, that the gate looks at before this one."""
    if not line.plan.rules or not isinstance(record.request, ClipRequest):
        return 0
    held = [] if record.held_by is None else line.requests.held_by_budget(record.held_by, LOOKED_AT)
    candidates = (*line.requests.waiting_clips(LOOKED_AT), *held)
    ordered = sorted(candidates, key=lambda one: (-one.request.priority, one.position))
    names = [one.request.request_id for one in ordered]
    return names.index(record.request.request_id) if record.request.request_id in names else len(names)


def _spent(record: RequestRecord, cost: Cost) -> Sequence[str]:
    """Say what a request has cost, and for what."""
    spent = cost.spent
    if not (spent.amount or spent.characters or spent.seconds):
        return ("It cost nothing: it had been made before.",) if record.state == "done" else ()
    dearest = sorted(cost.by_asset.items(), key=lambda each: -each[1].amount)[:_NAMED]
    assets = ", ".join(f"{name} {figure(one.amount, Unit.USD)}" for name, one in dearest if name)
    characters = f" and {with_unit(spent.characters, Unit.CHARACTERS)}" if spent.characters else ""
    saved = f" Spot machines saved {with_unit(spent.saved, Unit.USD)}." if spent.saved > 0 else ""
    so_far = "It cost" if record.state in ("done", "failed") else "So far it cost"
    amount = with_unit(spent.amount, Unit.USD)
    return (f"{so_far} {amount} ({assets}): {spent.seconds:,.1f} s of machines{characters}.{saved}",)


def _amounts(amounts: Amounts) -> str:
    usd = with_unit(amounts.usd, Unit.USD)
    return f"{usd} and {with_unit(amounts.characters, Unit.CHARACTERS)}" if amounts.characters else usd


def _at(line: Line, at: datetime) -> str:
    return moment(at, line.plan.timezone)
