"""Attempts are metered while they run, and settled once at what they came to, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.budget.types import Amounts, AttemptEnd, cost
from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.ledger import Ledger
from tests.ledger.till import ACME, HOUR, MINUTE, Till, limit, usd

BOB = replace(ACME, avatar_id="bob", request_id="clip-2")


@pytest.fixture
def till(url: str) -> Iterator[Till]:
    till = Till(url, limit("all", 100))
    till.ask("a", 10)
    till.ask("b", 10, BOB)
    yield till
    till.engine.dispose()


def test_what_is_metered_goes_from_reserved_to_spent(till: Till) -> None:
    assert till.begin(shares={"a": 1, "b": 3})
    assert till.state("a") == "committed"
    left = till.meter(1000)
    assert {key: remaining.amounts for key, remaining in left.items()} == {"a": usd("9.75"), "b": usd("9.25")}
    assert (
        till.spent()
        == till.spent("d")
        == {
            ("all", "usd"): 1,
            ("avatar:ada", "usd"): Decimal("0.25"),
            ("avatar:bob", "usd"): Decimal("0.75"),
            ("tenant:acme", "usd"): 1,
        }
    )
    assert till.reserved()["all", "usd"] == 19
    assert till.standing("all/day").left == 80
    attempt = till.book.attempt("run/render/1")
    assert (attempt.seconds, attempt.cost, attempt.metered_until) == (1000, 1, till.now)
    assert [known.key for known in till.book.open_attempts()] == ["run/render/1"]


def test_late_and_repeated_metering_charges_nothing(till: Till) -> None:
    till.begin()
    till.meter(100)
    till.meter(0)
    till.book.meter("run/render/1", till.now - MINUTE)
    assert till.spent()["all", "usd"] == Decimal("0.1")
    till.book.meter("run/render/1", till.now - MINUTE, shares={"b": 1})
    till.meter(100)
    assert (till.left("a"), till.left("b")) == (usd("9.9"), usd("9.9"))


def test_beginning_again_changes_nothing(till: Till) -> None:
    till.begin()
    till.meter(100)
    assert not till.begin(price="99", shares={"b": 1})
    till.meter(100)
    assert till.left("b") == usd(10)
    assert till.book.get("a").attempts == 1


def test_new_shares_pay_from_now_on(till: Till) -> None:
    till.begin()
    left = till.meter(600, shares={"b": 1})
    assert (list(left), till.left("a"), till.left("b")) == (["b"], usd("9.4"), usd(10))
    till.meter(600, shares={"a": 1, "b": 1})
    till.meter(600)
    assert (till.left("a"), till.left("b")) == (usd("9.1"), usd("9.1"))
    assert (till.book.get("a").attempts, till.book.get("a").open_attempts) == (1, 1)


def test_a_gap_without_payers_is_paid_by_those_who_paid_by_seconds(till: Till) -> None:
    till.begin()
    till.meter(300, shares={"b": 1})
    till.meter(100, shares={})
    till.meter(400)
    assert (till.left("a"), till.left("b")) == (usd("9.4"), usd("9.8"))


def test_a_lead_in_without_payers_is_paid_by_the_first_who_come(till: Till) -> None:
    till.begin(shares={})
    assert list(till.meter(100, shares={"a": 1})) == ["a"]
    assert till.left("a") == usd("9.9")
    till.begin("run/render/2", shares={})
    till.meter(100, "run/render/2")
    assert till.spent()["all", "usd"] == Decimal("0.2")
    assert till.entries("run/render/2")[0].reservation == ""


def test_a_share_that_is_not_there_pays_nothing_and_nothing_is_lost(till: Till) -> None:
    till.begin(shares={"a": 1, "unknown": 1})
    left = till.meter(1000)
    assert (list(left), till.left("a")) == (["a"], usd("9.5"))
    assert till.spent()["all", "usd"] == 1
    assert [entry.reservation for entry in till.entries()] == ["", "a", "", "a"]


def test_spending_beyond_a_reservation_is_never_hidden(till: Till) -> None:
    till.ask("c", 1)
    till.begin(shares={"c": 1})
    assert till.meter(1500)["c"].amounts == Amounts()
    assert till.spent()["all", "usd"] == Decimal("1.5")
    assert till.reserved()["all", "usd"] == 20
    till.settle()
    till.book.release("c")
    assert (till.state("c"), till.book.get("c").used) == ("settled", usd("1.5"))
    assert till.reserved()["all", "usd"] == 20


def test_the_real_price_gives_money_back(till: Till) -> None:
    till.begin()
    till.meter(1000)
    assert till.settle(price_per_hour=Decimal("0.9"), on_demand_price=Decimal("1.8"), capacity_type="spot", zone="z")
    assert till.left("a") == usd("9.75")
    assert till.spent() == {
        ("all", "usd"): Decimal("0.25"),
        ("avatar:ada", "usd"): Decimal("0.25"),
        ("tenant:acme", "usd"): Decimal("0.25"),
    }
    assert till.spent("d") == till.spent()
    assert sum(entry.on_demand for entry in till.entries()) == Decimal("0.5")
    assert {entry.capacity_type for entry in till.entries()} == {"spot"}
    attempt = till.book.attempt("run/render/1")
    assert (attempt.cost, attempt.zone, attempt.price_source, attempt.shares) == (Decimal("0.25"), "z", "cap", {})


def test_settling_happens_once_and_ends_metering(till: Till) -> None:
    till.begin()
    till.meter(1000)
    assert till.settle()
    assert not till.settle(at=till.now + HOUR, price_per_hour=Decimal(50))
    left = till.meter(1000, shares={"b": 1})
    assert left["b"].amounts == usd(10)
    assert till.spent()["all", "usd"] == 1
    assert till.book.open_attempts() == []


def test_what_was_metered_stays_spent_whatever_was_observed(till: Till) -> None:
    till.begin()
    till.meter(1000)
    assert till.settle(at=till.now - 10 * MINUTE, started_at=till.now - MINUTE)
    attempt = till.book.attempt("run/render/1")
    assert (attempt.seconds, attempt.ended_at) == (1000, till.now)
    assert till.spent()["all", "usd"] == 1


def test_seconds_before_and_after_the_workers_own_are_charged_at_the_end(till: Till) -> None:
    started = till.now
    till.begin()
    till.meter(600, shares={"a": 1, "b": 1})
    till.now += 10 * MINUTE
    till.settle(started_at=started - 20 * MINUTE)
    assert (till.left("a"), till.left("b")) == (usd("8.5"), usd("9.1"))
    attempt = till.book.attempt("run/render/1")
    assert (attempt.started_at, attempt.seconds, attempt.cost) == (started - 20 * MINUTE, 2400, Decimal("2.4"))


def test_a_reservation_that_is_let_go_of_waits_for_its_attempts(till: Till) -> None:
    till.begin()
    till.begin("run/speech/1")
    till.meter(100, "run/speech/1", shares={"b": 1})
    assert till.book.release("a", finished=True)
    assert not till.book.release("a", finished=True)
    assert (till.state("a"), till.left("a"), till.book.get("a").closing) == ("committed", usd("9.9"), True)
    till.settle()
    assert till.reserved()["all", "usd"] == Decimal("19.8"), "an attempt that it has paid for is open yet"
    till.settle("run/speech/1")
    assert (till.state("a"), till.left("a")) == ("settled", Amounts())
    assert till.reserved()["all", "usd"] == 10
    assert till.book.samples("clip")[0].attempts == 2


def test_money_comes_back_to_a_closed_reservation_as_less_spent(till: Till) -> None:
    till.begin()
    till.meter(1000, shares={"b": 1})
    till.book.release("a")
    till.settle(price_per_hour=Decimal("1.8"))
    assert (till.book.get("a").used, till.spent()["all", "usd"]) == (usd("0.5"), Decimal("0.5"))
    assert till.reserved()["all", "usd"] == 10


def test_metering_shows_that_reservations_are_wanted(till: Till) -> None:
    till.begin()
    till.meter(1700)
    till.now += 2 * MINUTE
    assert [known.key for known in till.book.expired()] == ["b"]


def test_attempts_that_nobody_began_are_not_known(till: Till) -> None:
    for unknown in (lambda: till.meter(1), till.settle):
        with pytest.raises(NotFound):
            unknown()
    assert till.book.attempt("run/render/1") is None


def test_bad_prices_and_weights_are_refused(till: Till) -> None:
    with pytest.raises(ValueError, match="no price"):
        till.begin(price="-1")
    with pytest.raises(ValueError, match="from 1 on"):
        till.begin(shares={"a": 0})
    till.begin()
    with pytest.raises(ValueError, match="no price"):
        till.settle(price_per_hour=Decimal("0.0000001"))
    assert till.book.attempt("run/render/1").ended_at is None


def test_spending_belongs_to_the_period_that_it_accrues_in(url: str) -> None:
    till = Till(url, limit("all", 100), timezone="Asia/Kathmandu")
    till.now = till.now.replace(hour=18, minute=0)
    till.ask("a", 10)
    till.begin()
    till.meter(1800)
    # A day in Kathmandu begins at 18:15 UTC.
    assert till.standing("all/day").settled == Decimal("0.9")
    assert till.standing("all/day").starts_at == till.now.replace(minute=15)
    assert till.spent()["all", "usd"] == Decimal("1.8")
    till.engine.dispose()


STEPS = st.lists(
    st.tuples(st.integers(1, 2_000_000_000), st.sampled_from(["a", "b", "ab", "none", "same"])), min_size=1
)
PRICES = st.decimals(0, 20, places=6)


@settings(max_examples=25, deadline=None)
@given(STEPS, PRICES, PRICES)
def test_however_often_it_is_metered_an_attempt_comes_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]], cap: Decimal, real: Decimal
) -> None:
    shares = {"a": {"a": 1}, "b": {"b": 2}, "ab": {"a": 2, "b": 5}, "none": {}, "same": None}
    file = tmp_path_factory.mktemp("spend") / "ledger.db"
    Ledger(f"sqlite:///{file}").close()
    till = Till(f"sqlite:///{file}")
    till.ask("a", 1000)
    till.ask("b", 1000, BOB)
    start = till.now
    till.begin(price=str(cap))
    for micros, paying in steps:
        till.now += timedelta(microseconds=micros)
        till.book.meter("run/render/1", till.now, shares=shares[paying])
        attempt = till.book.attempt("run/render/1")
        assert attempt.cost == cost(attempt.seconds, cap) == sum(entry.amount for entry in till.entries())
    till.settle(price_per_hour=real)
    attempt = till.book.attempt("run/render/1")
    micros = sum(step for step, _ in steps)
    assert attempt.seconds == Decimal(micros) / 1_000_000 == sum(entry.seconds for entry in till.entries())
    assert attempt.cost == cost(attempt.seconds, real) == sum(entry.amount for entry in till.entries())
    used = {key: till.book.get(key).used.compute for key in "ab"}
    for key, amount in used.items():
        assert amount == sum(entry.amount for entry in till.entries() if entry.reservation == key)
        assert till.left(key).compute == 1000 - amount
    if attempt.cost:
        assert till.spent()["all", "usd"] == till.spent("d")["all", "usd"] == attempt.cost
    if all(paying == "same" for _, paying in steps):
        till.begin("run/render/2", price=str(cap), started_at=start)
        till.book.settle("run/render/2", AttemptEnd(till.now, "succeeded", price_per_hour=real))
        once, again = till.entries(), till.entries("run/render/2")
        assert [(one.slot, one.seconds, one.amount) for one in once] == [
            (one.slot, one.seconds, one.amount) for one in again
        ]
    till.engine.dispose()
