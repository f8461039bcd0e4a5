"""A voice provider's bills and the budgets: covered before a call is made, written down once, never forgotten."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from avatar_pipeline.budget.types import Payer, Unit
from avatar_pipeline.errors import BudgetHold
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.spend_views import ReservationView
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.reconcile import reconcile
from tests.stages.benches import add, avatar_row, make_line

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PROVIDER = "elevenlabs"
TEXT = "x" * 60
CALLER = Payer("acme", "ada", provider=PROVIDER)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def line(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Line]:
    """A hundred characters a day, at ElevenLabs; half a character is billed for each."""
    where = {"ledger_url": request.getfixturevalue("postgres_url")} if request.param == "postgresql" else {}
    budgets = tmp_path / "budgets.json"
    voices = {"name": "voices", "scope": f"provider:{PROVIDER}", "unit": "characters", "day": 100}
    everything = {"name": "everything", "scope": "avatar:ada", "day": 10}
    budgets.write_text(json.dumps({"version": 1, "budgets": [voices, everything], "caps": {"clip": "0.10"}}))
    line = make_line(tmp_path, clock, budgets=budgets, voice_provider=PROVIDER, **where)
    avatar = avatar_row("ada", NOON)
    avatar.voice = "enrol:en"
    add(line.ledger, avatar)
    yield line
    line.ledger.close()


def claimed(line: Line, *names: str, text: str = TEXT) -> list[str]:
    line.requests.submit([ClipRequest(request_id=name, avatar_id="ada", text=text, tenant="acme") for name in names])
    line.requests.claim(f"batch-{names[0]}", 10)
    return [line.requests.reservations([name]).get(name, "") for name in names]


def reserve(line: Line, item: str, credits: int, key: str) -> None:
    line.charges.reserve(PROVIDER, item, Decimal(credits), tenant="acme", available=None, reservation=key)


def standing(line: Line, unit: Unit) -> tuple[Decimal, Decimal]:
    """What was spent, and what is reserved."""
    ((_, found),) = [each for each in line.spend.standings(CALLER) if each[1].unit is unit]
    return found.settled, found.reserved


def view(line: Line, key: str) -> ReservationView:
    found = line.spend.get(key)
    assert found is not None
    return found


def test_the_characters_of_a_clip_are_put_aside_when_a_batch_claims_it(line: Line) -> None:
    keys = claimed(line, "r-1", "r-2", "r-3", "r-4")
    assert [bool(key) for key in keys] == [True, True, True, False], "thirty each"
    assert standing(line, Unit.CHARACTERS) == (0, 90)
    assert line.requests.get("r-4").held_by == "voices/day"


def test_a_bill_is_taken_from_what_was_put_aside_and_counts_for_avatar_and_tenant(line: Line) -> None:
    (key,) = claimed(line, "r-1")
    reserve(line, "item-1", 30, key)
    line.charges.sent(PROVIDER, "item-1")
    line.charges.settle(PROVIDER, "item-1", Decimal(28), request_id="remote-1")
    assert standing(line, Unit.CHARACTERS) == (28, 2)
    assert view(line, key).used.characters == 28
    spent, _ = standing(line, Unit.USD)
    assert spent == Decimal("0.0056"), "20 cents for a thousand"


def test_a_call_that_costs_more_than_was_thought_is_covered_before_it_is_made(line: Line) -> None:
    (key,) = claimed(line, "r-1")
    reserve(line, "item-1", 45, key)
    assert standing(line, Unit.CHARACTERS) == (0, 45)


def test_a_call_that_no_budget_covers_is_not_made(line: Line) -> None:
    (key, *_) = claimed(line, "r-1", "r-2", "r-3")
    with pytest.raises(BudgetHold, match="voices/day"):
        reserve(line, "item-1", 45, key)
    assert line.charges.get(PROVIDER, "item-1") is None


def test_two_calls_for_one_clip_do_not_share_the_same_characters(line: Line) -> None:
    (key, *_) = claimed(line, "r-1", "r-2", "r-3")
    reserve(line, "item-1", 20, key)
    with pytest.raises(BudgetHold):
        reserve(line, "item-2", 25, key)
    reserve(line, "item-3", 10, key)


def test_nothing_is_sent_for_a_clip_whose_money_was_let_go_of(line: Line) -> None:
    (key,) = claimed(line, "r-1")
    line.requests.hold("r-1", "a person wants it so")
    with pytest.raises(BudgetHold, match="let go of"):
        reserve(line, "item-1", 30, key)


def test_what_may_have_been_billed_is_not_free_and_counts_as_billed_when_nobody_finds_out(
    line: Line, clock: Clock
) -> None:
    (key,) = claimed(line, "r-1")
    reserve(line, "item-1", 30, key)
    line.charges.sent(PROVIDER, "item-1")
    # Its worker is killed; whoever gives up the request does not know of the call.
    line.requests.hold("r-1", "quota", NOON + timedelta(days=1))
    assert standing(line, Unit.CHARACTERS) == (0, 30)
    for minutes in (31, 20):
        clock.now += timedelta(minutes=minutes)
        reconcile(line, [])
    assert standing(line, Unit.CHARACTERS) == (0, 30)
    for minutes in (20, 31):
        clock.now += timedelta(minutes=minutes)
        reconcile(line, [])
    assert standing(line, Unit.CHARACTERS) == (30, 0)
    line.charges.settle(PROVIDER, "item-1", Decimal(30), request_id="remote-1")
    assert standing(line, Unit.CHARACTERS) == (30, 0), "found in the provider's history later, it counts once"
