"""Credits at a provider, reserved and settled, on SQLite and on PostgreSQL."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from avatar_pipeline.errors import Conflict, NotFound, QuotaExhausted
from avatar_pipeline.ledger.charges import Charge, Charges
from tests.ledger.desk import NOW, SECOND, Desk

TEN = Decimal(10)


@pytest.fixture
def charges(desk: Desk) -> Charges:
    return Charges(desk.ledger.engine, clock=desk.clock)


def reserve(
    charges: Charges, item: str = "item-1", credits: Decimal = TEN, available: Decimal | None = None, **more
) -> Charge:
    return charges.reserve("acme", item, credits, tenant="default", available=available, **more)


def state(charges: Charges, item: str = "item-1") -> str | None:
    charge = charges.get("acme", item)
    return charge and charge.state


def test_a_piece_of_work_is_reserved_sent_and_settled(desk: Desk, charges: Charges) -> None:
    reserved = reserve(charges, credits=Decimal("12.5"))
    assert reserved == Charge("acme", "item-1", "default", Decimal("12.5"), None, "reserved", None, NOW, None, None)
    assert charges.get("acme", "item-1") == reserved
    assert charges.open_credits("acme") == Decimal("12.5")
    desk.now += SECOND
    charges.sent("acme", "item-1")
    assert charges.open_credits("acme") == Decimal("12.5")
    desk.now += SECOND
    assert charges.settle("acme", "item-1", Decimal("11.25"), request_id="r-1")
    assert charges.get("acme", "item-1") == Charge(
        "acme",
        "item-1",
        "default",
        Decimal("12.5"),
        Decimal("11.25"),
        "settled",
        "r-1",
        NOW,
        NOW + SECOND,
        NOW + SECOND * 2,
    )
    assert charges.open_credits("acme") == 0
    assert charges.spent("acme", NOW + SECOND * 2) == Decimal("11.25")
    assert charges.spent("acme", NOW + SECOND * 3) == 0
    assert charges.get("acme", "other") is None
    assert charges.get("other", "item-1") is None


def test_it_is_settled_once_whoever_tries_again(charges: Charges) -> None:
    reserve(charges)
    charges.sent("acme", "item-1")
    assert charges.settle("acme", "item-1", TEN, request_id="r-1")
    assert not charges.settle("acme", "item-1", Decimal(7), request_id="r-2")
    charges.release("acme", "item-1")
    found = charges.get("acme", "item-1")
    assert found is not None
    assert (found.state, found.settled, found.request_id) == ("settled", TEN, "r-1")
    assert charges.spent("acme", NOW) == TEN


def test_an_open_reservation_is_returned_as_it_is(desk: Desk, charges: Charges) -> None:
    first = reserve(charges)
    desk.now += SECOND
    assert reserve(charges, credits=Decimal(99), available=Decimal(0)) == first
    charges.sent("acme", "item-1")
    again = reserve(charges)
    assert (again.state, again.sent_at, again.reserved) == ("sent", NOW + SECOND, TEN)
    desk.now += SECOND
    charges.sent("acme", "item-1")
    assert reserve(charges).sent_at == NOW + SECOND, "the first time counts"


def test_what_was_paid_for_is_not_reserved_again(charges: Charges) -> None:
    reserve(charges)
    charges.settle("acme", "item-1", TEN, request_id="r-1")
    paid = reserve(charges, available=Decimal(0))
    assert (paid.state, paid.settled) == ("settled", TEN)
    assert charges.open_credits("acme") == 0
    with pytest.raises(Conflict, match="settled"):
        charges.sent("acme", "item-1")


def test_what_was_released_is_reserved_anew(desk: Desk, charges: Charges) -> None:
    reserve(charges)
    charges.sent("acme", "item-1")
    charges.release("acme", "item-1")
    charges.release("acme", "item-1")
    assert (state(charges), charges.open_credits("acme")) == ("released", 0)
    with pytest.raises(Conflict, match="released"):
        charges.sent("acme", "item-1")
    desk.now += SECOND
    again = charges.reserve("acme", "item-1", Decimal(3), tenant="acme-corp", available=None)
    assert again == Charge("acme", "item-1", "acme-corp", Decimal(3), None, "reserved", None, NOW + SECOND, None, None)


def test_what_was_billed_after_all_is_settled_late(charges: Charges) -> None:
    reserve(charges)
    charges.release("acme", "item-1")
    assert charges.settle("acme", "item-1", TEN, request_id="r-1")
    assert charges.spent("acme", NOW) == TEN


def test_nothing_is_sent_or_settled_that_was_not_reserved(charges: Charges) -> None:
    with pytest.raises(NotFound, match="item-1"):
        charges.sent("acme", "item-1")
    with pytest.raises(NotFound, match="item-1"):
        charges.settle("acme", "item-1", TEN, request_id=None)
    charges.release("acme", "item-1")
    assert charges.get("acme", "item-1") is None


def test_no_more_is_reserved_than_is_left(charges: Charges) -> None:
    reserve(charges, "item-1", available=Decimal(25))
    reserve(charges, "item-2", available=Decimal(25))
    charges.sent("acme", "item-2")
    with pytest.raises(QuotaExhausted, match="25 credits left, of which 20 are taken; this takes 10"):
        reserve(charges, "item-3", available=Decimal(25))
    assert charges.get("acme", "item-3") is None
    reserve(charges, "item-3", credits=Decimal(5), available=Decimal(25))
    charges.reserve("other", "item-1", TEN, tenant="default", available=TEN)
    charges.release("acme", "item-1")
    reserve(charges, "item-4", available=Decimal(25))


def test_what_was_settled_since_the_provider_was_asked_counts_as_gone(desk: Desk, charges: Charges) -> None:
    reserve(charges, "item-1")
    charges.settle("acme", "item-1", TEN, request_id="r-1")
    desk.now += SECOND
    reserve(charges, "item-2", available=Decimal(15), available_at=desk.now)
    desk.now += SECOND
    charges.settle("acme", "item-2", Decimal(12), request_id="r-2")
    with pytest.raises(QuotaExhausted, match="of which 12 are taken"):
        reserve(charges, "item-3", available=Decimal(15), available_at=NOW + SECOND)
    reserve(charges, "item-3", available=Decimal(15), available_at=desk.now + SECOND)


def test_only_one_of_those_with_the_same_work_may_send_it(charges: Charges) -> None:
    reserve(charges)
    reserve(charges)
    assert charges.sent("acme", "item-1")
    assert not charges.sent("acme", "item-1")


def test_what_another_sent_meanwhile_is_not_released(desk: Desk, charges: Charges) -> None:
    reserve(charges)
    charges.sent("acme", "item-1")
    charges.release("acme", "item-1", sent_at=None)
    charges.release("acme", "item-1", sent_at=NOW - SECOND)
    assert state(charges) == "sent"
    charges.release("acme", "item-1", sent_at=NOW)
    assert state(charges) == "released"
    reserve(charges)
    charges.release("acme", "item-1", sent_at=NOW)
    assert state(charges) == "reserved"
    charges.release("acme", "item-1", sent_at=None)
    assert state(charges) == "released"


def test_what_a_dead_worker_put_aside_does_not_take_credits_for_ever(desk: Desk, charges: Charges) -> None:
    reserve(charges, "dead before it was sent", available=TEN)
    with pytest.raises(QuotaExhausted):
        reserve(charges, "of another", available=TEN)
    desk.now += timedelta(hours=2)
    reserve(charges, "of another", available=TEN, available_at=desk.now)
    assert charges.open_credits("acme") == 20


def test_whose_request_of_the_provider_it_was(charges: Charges) -> None:
    for item in ("item-1", "item-2"):
        reserve(charges, item)
        charges.settle("acme", item, TEN, request_id=f"r-{item}")
    found = charges.of_request("acme", "r-item-2")
    assert found is not None
    assert found.item_key == "item-2"
    assert charges.of_request("acme", "r-3") is None
    assert charges.of_request("other", "r-item-2") is None


def test_sums_are_exact(charges: Charges) -> None:
    for number in range(10):
        reserve(charges, f"item-{number}", Decimal("0.1"))
    assert charges.open_credits("acme") == 1
    for number in range(10):
        charges.settle("acme", f"item-{number}", Decimal("0.1"), request_id=None)
    assert charges.spent("acme", NOW) == 1


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity"])
def test_what_is_no_amount_is_refused(charges: Charges, amount: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        reserve(charges, credits=Decimal(amount))
    reserve(charges)
    with pytest.raises(ValueError, match="no amount"):
        charges.settle("acme", "item-1", Decimal(amount), request_id=None)


ITEMS = st.sampled_from(["item-1", "item-2", "item-3", "item-4"])
AMOUNTS = st.sampled_from([Decimal(value) for value in ("0", "0.5", "1", "2.25")])
LEFT = Decimal(5)


class AnyOrder(RuleBasedStateMachine):
    desk: Desk

    @initialize()
    def begin_empty(self) -> None:
        with self.desk.ledger.engine.begin() as connection:
            connection.execute(text("DELETE FROM charges"))
        self.desk.now = NOW
        self.charges = Charges(self.desk.ledger.engine, clock=self.desk.clock)
        self.open: dict[str, Decimal] = {}
        self.paid: dict[str, Decimal] = {}
        self.known: set[str] = set()

    @rule()
    def time_goes_on(self) -> None:
        self.desk.now += SECOND

    @rule(item=ITEMS, amount=AMOUNTS, limited=st.booleans())
    def reserve(self, item: str, amount: Decimal, limited: bool) -> None:
        left = sum(self.open.values()) + amount <= LEFT
        try:
            charge = reserve(self.charges, item, amount, LEFT if limited else None)
        except QuotaExhausted:
            assert limited
            assert not left
            assert item not in self.open | self.paid
            return
        self.known.add(item)
        if item in self.paid:
            assert (charge.state, charge.settled) == ("settled", self.paid[item])
        elif item in self.open:
            assert charge.reserved == self.open[item]
        else:
            assert charge.state == "reserved"
            assert left or not limited
            self.open[item] = amount

    @rule(item=ITEMS)
    def sent(self, item: str) -> None:
        try:
            self.charges.sent("acme", item)
        except NotFound:
            assert item not in self.known
        except Conflict:
            assert item in self.known - set(self.open)
        else:
            assert item in self.open
            assert state(self.charges, item) == "sent"

    @rule(item=ITEMS, amount=AMOUNTS)
    def settle(self, item: str, amount: Decimal) -> None:
        try:
            did = self.charges.settle("acme", item, amount, request_id="r")
        except NotFound:
            assert item not in self.known
            return
        assert did == (item not in self.paid)
        self.open.pop(item, None)
        self.paid.setdefault(item, amount)

    @rule(item=ITEMS)
    def release(self, item: str) -> None:
        self.charges.release("acme", item)
        if item in self.open:
            assert state(self.charges, item) == "released"
            del self.open[item]

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "paid"):
            assert self.charges.open_credits("acme") == sum(self.open.values())
            assert self.charges.spent("acme", NOW) == sum(self.paid.values())
            for item in self.known:
                settled = state(self.charges, item) == "settled"
                assert settled == (item in self.paid)


def test_in_any_order_of_calls_everything_is_settled_once(sqlite_url: str) -> None:
    desk = Desk(sqlite_url)
    machine = type("Machine", (AnyOrder,), {"desk": desk})
    chosen = settings(max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=chosen)
    desk.ledger.close()
