"""Whether a trial came out as the budget says."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tests.budget.trial import CHARACTERS, LIMIT, Outcome, Trial

THRESHOLDS = (Decimal("0.5"), Decimal("0.8"), Decimal(1))


def judge(trial: Trial, outcome: Outcome) -> list[str]:
    """Return what is wrong, in sentences."""
    return [*_at_the_stop(trial, outcome), *_explained(trial, outcome), *_at_last(trial, outcome)]


def _at_the_stop(trial: Trial, outcome: Outcome) -> Iterator[str]:
    if len(outcome.done) != trial.affordable or len(outcome.held) != trial.clips - trial.affordable:
        yield f"{len(outcome.done)} were done and {len(outcome.held)} held, where {trial.affordable} could be paid for."
    if outcome.done != set(sorted(outcome.done | outcome.held)[: trial.affordable]):
        yield "Those that were done are not those that came first."
    if outcome.billed != CHARACTERS * trial.affordable:
        yield f"The provider billed {outcome.billed} characters, not {CHARACTERS * trial.affordable}."
    if outcome.standing is None or outcome.standing.settled + outcome.standing.reserved > outcome.standing.hard:
        yield f"More was spent and put aside than the limit allows: {outcome.standing}."
    if sorted(outcome.alerts) != [(LIMIT, "actual", threshold) for threshold in THRESHOLDS]:
        yield f"There is not one alert for each threshold: {outcome.alerts}."


def _explained(trial: Trial, outcome: Outcome) -> Iterator[str]:
    told, binding = outcome.explained, outcome.explained.get("binding") or {}
    hard = str(CHARACTERS * trial.affordable)
    figures = {"budget": LIMIT, "hard": hard, "spent": hard, "left": "0"}
    if told.get("held_by") != LIMIT or figures.items() - binding.items():
        yield f"The budget that holds it, and its figures, are not told: {told}."
    if not told.get("retry_at") or LIMIT not in outcome.explained_text:
        yield f"It is not told when it is tried again: {outcome.explained_text}"


def _at_last(trial: Trial, outcome: Outcome) -> Iterator[str]:
    if len(outcome.done_at_last) != trial.clips:
        yield f"{len(outcome.done_at_last)} of {trial.clips} were done in the end."
    if outcome.billed_at_last != CHARACTERS * trial.clips:
        yield f"The provider billed {outcome.billed_at_last} characters in the end, not {CHARACTERS * trial.clips}."
    # Once more each after the raise, as far as the sensor has looked by now.
    if not len(THRESHOLDS) <= outcome.alerts_at_last <= 2 * len(THRESHOLDS):
        yield f"{outcome.alerts_at_last} alerts went out in the end."
    if outcome.reserved_at_last or outcome.attempts_open:
        yield f"{outcome.reserved_at_last} is still put aside, {outcome.attempts_open} attempts are open."
    if outcome.kills != trial.kills:
        yield f"The daemon was killed {outcome.kills} times, not {trial.kills}."
