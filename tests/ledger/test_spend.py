"""Money is put aside all or nothing, once for each key, and let go of once, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from avatar_pipeline.budget.config import DegradeRule
from avatar_pipeline.budget.periods import Period
from avatar_pipeline.budget.types import Amounts, Decision, Demand, Payer, Sample, Scope, ScopeKind, Unit
from avatar_pipeline.errors import Conflict, NotFound
from avatar_pipeline.ledger.database import writing
from tests.ledger.till import ACME, ELEVENLABS, HOUR, MINUTE, TENANTS, VOICE, Till, limit, usd

LIMITS = (
    limit("all", 10),
    limit("tenants", 4, scope=TENANTS, period=Period.MONTH),
    limit("voice", 1000, scope=ELEVENLABS, unit=Unit.CHARACTERS),
)


@pytest.fixture
def till(url: str) -> Iterator[Till]:
    till = Till(url, *LIMITS)
    yield till
    till.engine.dispose()


def test_what_is_asked_is_put_aside_in_every_scope_of_its_payer(till: Till) -> None:
    assert till.ask("a", usd("1.25", "0.5", 300), VOICE).decision is Decision.ADMIT
    assert till.reserved() == {
        ("all", "usd"): Decimal("1.75"),
        ("avatar:ada", "usd"): Decimal("1.75"),
        ("provider:elevenlabs", "characters"): 300,
        ("provider:elevenlabs", "usd"): Decimal("0.5"),
        ("tenant:acme", "usd"): Decimal("1.75"),
    }
    assert till.standing("all/day").left == Decimal("8.25")
    assert till.standing("tenants/month@tenant:acme").left == Decimal("2.25")
    assert till.standing("voice/day").left == 700


def test_a_limit_is_filled_to_the_last_millionth_and_not_beyond(till: Till) -> None:
    assert till.ask("a", "3.999999").admitted
    held = till.ask("b", "0.000002")
    assert (held.decision, held.binding.limit_id) == (Decision.HOLD, "tenants/month@tenant:acme")
    assert held.asked == Decimal("0.000002")
    assert till.ask("b", "0.000001").admitted


def test_one_limit_without_room_holds_and_nothing_is_put_aside_anywhere(till: Till) -> None:
    held = till.ask("a", usd(1, 0, 1001), VOICE)
    assert (held.binding.limit_id, held.asked, held.retry_at) == ("voice/day", 1001, None)
    assert till.reserved() == {}
    assert till.book.remaining("a") is None


def test_what_was_held_is_admitted_when_it_is_asked_again_and_there_is_room(till: Till) -> None:
    assert till.ask("a", 4).admitted
    assert not till.ask("b", 4).admitted
    assert till.book.release("a")
    assert till.ask("b", 4).admitted


def test_a_key_is_admitted_once_whatever_became_of_it(till: Till) -> None:
    assert till.ask("a", 3).replayed is False
    again = till.ask("a", 2)
    assert (again.decision, again.replayed, till.left().usd) == (Decision.ADMIT, True, 3)
    till.book.release("a")
    assert till.ask("a", 2).replayed
    assert (till.reserved(), till.state()) == ({}, "released")


def test_degraded_work_stays_degraded_when_it_is_asked_again(url: str) -> None:
    till = Till(url, limit("all", 10, degrade=DegradeRule(Decimal(0), spot_only=True, priority=-5)))
    first = till.ask("a", 1)
    assert (first.decision, first.degraded.spot_only) == (Decision.DEGRADE, True)
    again = till.ask("a", 1)
    assert (again.decision, again.degraded, again.replayed) == (Decision.DEGRADE, first.degraded, True)
    till.engine.dispose()


@pytest.mark.parametrize("amount", ["0", "-1", "0.0000001", "NaN", "Infinity"])
def test_nothing_is_free_and_no_amount_makes_room(till: Till, amount: str) -> None:
    with pytest.raises(ValueError, match="no amount to reserve"):
        till.ask("a", amount)
    assert till.reserved() == {}


def test_without_budgets_all_is_admitted_and_written_down(url: str) -> None:
    till = Till(url)
    assert till.ask("a", 1_000_000).admitted
    assert till.reserved()["all", "usd"] == 1_000_000
    assert till.book.all_standings() == till.book.standings(ACME) == []
    till.engine.dispose()


def test_releasing_happens_once(till: Till) -> None:
    till.ask("a", 3)
    assert till.book.release("a")
    assert not till.book.release("a")
    assert not till.book.release("never admitted")
    assert (till.state(), till.left(), till.reserved()) == ("released", Amounts(), {})
    assert till.book.remaining("a").closed


def test_more_is_put_aside_only_if_all_limits_have_room(till: Till) -> None:
    till.ask("a", usd(3, 0, 100), VOICE)
    assert till.book.top_up("a", usd("0.5", "0.5", 900)).admitted
    assert till.left() == usd("3.5", "0.5", 1000)
    held = till.book.top_up("a", usd(0, 0, 1))
    assert (held.admitted, held.binding.limit_id) == (False, "voice/day")
    assert till.left() == usd("3.5", "0.5", 1000)


def test_more_comes_on_top_of_what_was_spent_beyond(till: Till) -> None:
    till.ask("a", 1)
    till.begin()
    till.meter(1500)
    assert till.left() == Amounts()
    assert till.book.top_up("a", usd(1)).admitted
    assert till.left() == usd(1)
    assert till.standing("all/day").left == Decimal("7.5")


def test_more_for_what_is_not_open_is_refused(till: Till) -> None:
    with pytest.raises(NotFound):
        till.book.top_up("a", usd(1))
    till.ask("a", 1)
    till.begin()
    till.book.release("a")
    with pytest.raises(Conflict, match="closing"):
        till.book.top_up("a", usd(1))
    till.settle()
    with pytest.raises(Conflict, match="released"):
        till.book.top_up("a", usd(1))


def test_a_limit_that_people_set_holds_from_then_on(till: Till) -> None:
    assert not till.ask("a", 5).admitted
    till.budgets.set("tenants/month", Decimal(6), who="me", reason="more")
    assert till.ask("a", 5).admitted
    till.budgets.set("tenants/month@tenant:acme", Decimal(3), who="me", reason="less")
    assert till.standing("tenants/month@tenant:acme").left == -2
    assert not till.ask("b", 1).admitted
    assert till.ask("b", 1, Payer(tenant="other")).admitted
    till.budgets.override("all/day", Decimal(2), until=till.now + HOUR, who="me", reason="a rush")
    assert till.standing("all/day").hard == 12
    till.now += 2 * HOUR
    assert till.standing("all/day").hard == 10


def test_an_expired_reservation_is_listed_and_nothing_else(till: Till) -> None:
    till.ask("a", 1)
    till.now += MINUTE
    till.ask("b", 1)
    assert till.book.expired() == []
    till.now += 29 * MINUTE
    assert [known.key for known in till.book.expired()] == ["a"]
    till.book.extend(["a", "b", "unknown"], till.now + HOUR)
    till.book.extend(["a"], till.now + MINUTE)
    till.now += 59 * MINUTE
    assert till.book.expired() == []
    till.now += MINUTE
    assert [known.key for known in till.book.expired()] == ["a", "b"]
    assert [known.key for known in till.book.expired(limit=1)] == ["a"]
    assert till.reserved()["all", "usd"] == 2
    till.book.release("a")
    assert [known.key for known in till.book.expired()] == ["b"]


def test_only_finished_work_is_learnt_from(till: Till) -> None:
    for key, finished, seconds in (("a", True, 60), ("b", False, 60), ("c", True, 0), ("d", True, 30)):
        till.ask(key, "0.5", units=Decimal(7))
        till.begin(f"run-{key}/render/1", shares={key: 1})
        till.meter(seconds, f"run-{key}/render/1")
        till.settle(f"run-{key}/render/1")
        till.now += MINUTE
        till.book.release(key, finished=finished)
    assert till.book.samples("clip") == [Sample(Decimal(7), Decimal(30), 1), Sample(Decimal(7), Decimal(60), 1)]
    assert till.book.samples("clip", limit=1) == [Sample(Decimal(7), Decimal(30), 1)]
    assert till.book.samples("other") == []


def test_several_steps_of_one_transaction_are_undone_together(till: Till) -> None:
    till.ask("a", 1)
    with pytest.raises(RuntimeError), writing(till.engine) as session:
        assert till.book.release_in(session, "a", till.now)
        demand = Demand("b", "clip", ACME, usd(4))
        assert till.book.admit_in(session, demand, till.now).admitted, "what was let go of is free"
        assert till.book.remaining_in(session, "b").amounts == usd(4)
        assert till.book.is_open_in(session, "b") and not till.book.is_open_in(session, "a")
        raise RuntimeError
    assert (till.left("a"), till.book.remaining("b")) == (usd(1), None)


def test_a_charge_is_written_down_once_and_taken_from_its_reservation(till: Till) -> None:
    till.ask("a", usd(1, "0.5", 300), VOICE)
    assert till.charge("call-1", "0.125", 100)
    assert not till.charge("call-1", "9", 999)
    assert till.left() == usd(1, "0.375", 200)
    assert till.spent() == {
        ("all", "usd"): Decimal("0.125"),
        ("avatar:ada", "usd"): Decimal("0.125"),
        ("provider:elevenlabs", "characters"): 100,
        ("provider:elevenlabs", "usd"): Decimal("0.125"),
        ("tenant:acme", "usd"): Decimal("0.125"),
    }
    assert till.standing("voice/day").left == 700
    (entry,) = till.entries("call-1")
    assert (entry.tenant, entry.avatar_id, entry.request_id, entry.kind) == ("acme", "ada", "clip-1", "provider")


def test_a_charge_beyond_its_reservation_or_without_one_is_spent_all_the_same(till: Till) -> None:
    till.ask("a", usd(1, 0, 50), VOICE)
    till.charge("call-1", "0", 80)
    till.charge("call-2", "0", 5, reservation="unknown")
    till.charge("call-3", "0", 7, reservation=None)
    till.book.release("a")
    till.charge("call-4", "0", 8)
    assert till.spent()["provider:elevenlabs", "characters"] == 100
    assert till.reserved() == {}
    assert till.book.get("a").used.characters == 88
    with pytest.raises(ValueError, match="no amount to charge"):
        till.charge("call-5", "-1", 0)


def test_naive_time_is_refused(till: Till) -> None:
    moment = till.now.replace(tzinfo=None)
    till.ask("a", 1)
    till.begin()
    for refused in (
        lambda: till.begin("run/render/2", started_at=moment),
        lambda: till.book.meter("run/render/1", moment),
        lambda: till.settle(at=moment),
        lambda: till.charge("call-1", "1", 1, at=moment),
        lambda: till.book.extend(["a"], moment),
        lambda: till.book.tidy(moment),
    ):
        with pytest.raises(ValueError, match="naive"):
            refused()
    assert till.spent() == {}


def test_hours_are_summed_up_for_forecasts(till: Till) -> None:
    till.ask("a", 4)
    till.begin()
    till.meter(1800)
    till.meter(3600)
    all_usd = (Scope(ScopeKind.ALL), Unit.USD)
    hours = till.book.hourly(*all_usd, till.now - 2 * HOUR)
    noon = till.now - timedelta(minutes=90)
    assert hours == {noon: Decimal("3.6"), noon + HOUR: Decimal("1.8")}
    assert till.book.hourly(*all_usd, till.now) == {noon + HOUR: Decimal("1.8")}
