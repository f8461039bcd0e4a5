"""The gate's answer in sentences for a person: which budget, what it holds, and what happens next."""

from __future__ import annotations

from avatar_pipeline.budget.figures import PER, figure, moment, with_unit
from avatar_pipeline.budget.types import Admission, Decision, Standing


def explain(admission: Admission, timezone: str) -> list[str]:
    """Return what to tell a person about an admission; times are in `timezone`, the plan's."""
    if admission.decision is Decision.ADMIT:
        return ["It may begin.", admission.reason]
    if admission.decision is Decision.DEGRADE:
        return ["It may begin, under conditions.", admission.reason, *_conditions(admission)]
    if admission.binding is None:
        return ["It is held.", admission.reason]
    if admission.degraded is not None and admission.degraded.not_before is not None:
        return [
            f"It is held by the budget {admission.binding.limit_id} until off-peak hours begin.",
            _holding(admission.binding, timezone),
            f"It is tried again by itself at {moment(admission.degraded.not_before, timezone)}. A request "
            "with an earlier deadline, or of priority 5 or more, does not wait for it.",
        ]
    return [
        f"It is held by the budget {admission.binding.limit_id}.",
        _holding(admission.binding, timezone),
        _asks(admission, admission.binding),
        _then(admission, admission.binding, timezone),
    ]


def _holding(standing: Standing, timezone: str) -> str:
    unit = standing.unit
    span = f"since {moment(standing.starts_at, timezone)}"
    if standing.period != "rolling_24h" and standing.ends_at is not None:
        span = f"from {moment(standing.starts_at, timezone)} to {moment(standing.ends_at, timezone)}"
    return (
        f"{_whose(standing)} may spend {with_unit(standing.hard, unit)} {PER[standing.period]}: {span}, "
        f"{figure(standing.settled, unit)} is spent and {figure(standing.reserved, unit)} is reserved for work that "
        "is not settled yet."
    )


def _whose(standing: Standing) -> str:
    scope = standing.scope
    return f"The {scope.kind} {scope.name}" if scope.name else "All work together"


def _asks(admission: Admission, standing: Standing) -> str:
    asked, left, unit = admission.asked, standing.left, standing.unit
    room = f"{with_unit(left, unit)} is left" if left >= 0 else f"the limit is passed by {with_unit(-left, unit)}"
    return f"This takes up to {with_unit(asked, unit)}, and {room}: {figure(asked - left, unit)} is missing."


def _then(admission: Admission, standing: Standing, timezone: str) -> str:
    raised = f"once the limit is raised (avatar budget set or override {standing.limit_id})"
    if admission.retry_at is None:
        return f"It is more than the whole limit, so it is tried again only {raised}."
    when = f"It is tried again by itself at {moment(admission.retry_at, timezone)}"
    if standing.settled + admission.asked <= standing.hard:
        return f"{when}, when reservations may have been settled, or {raised}."
    if standing.period == "rolling_24h":
        return f"{when}, when the oldest spending is more than 24 hours back, or {raised}."
    return f"{when}, when the period turns, or {raised}."


def _conditions(admission: Admission) -> list[str]:
    if admission.degraded is None:
        return []
    found = []
    if admission.degraded.spot_only:
        found.append("It runs on spot machines only, so it waits where there are none.")
    if admission.degraded.priority:
        found.append(f"Its run's priority is {-admission.degraded.priority} lower.")
    return found
