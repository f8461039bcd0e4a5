"""Ranking, diversification, and marks that a lack of capacity leaves for a while."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.spot.catalog import CATALOG, price
from avatar_pipeline.spot.offerings import ANY_ZONE, MarkPolicy, Marks, diversify, rank, suitable
from avatar_pipeline.spot.profiles import DEFAULT_PROFILES, ComputeProfile
from avatar_pipeline.spot.types import CapacityType, Offering

SPOT = CapacityType.SPOT
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
SMALL = DEFAULT_PROFILES["gpu-small"].model_copy(update={"zones": ZONES})

offerings = st.builds(
    Offering,
    st.sampled_from(["g4dn.xlarge", "g5.xlarge", "g6.xlarge", "g6e.xlarge"]),
    st.sampled_from(ZONES),
    st.just(SPOT),
)
fleets = st.lists(offerings, unique=True).map(tuple)


def g5(zone: str = "us-east-1a") -> Offering:
    return Offering("g5.xlarge", zone, SPOT)


class Swapped:
    """Prices by which the dearest machine of the table is the cheapest."""

    def per_hour(self, offering: Offering) -> Decimal:
        return 1 / price(offering)


def test_all_types_that_fit_are_offered_in_each_zone_cheapest_first():
    found = suitable(SMALL, SPOT)
    assert len(found) == len(set(found)) == 20 * 3
    assert {offering.capacity_type for offering in found} == {SPOT}
    assert [offering.zone for offering in found[:3]] == list(ZONES)
    assert found[0].instance_type == "g4dn.xlarge"
    prices = [price(offering) for offering in found]
    assert prices == sorted(prices)


def test_a_profile_without_zones_is_offered_anywhere():
    assert {offering.zone for offering in suitable(DEFAULT_PROFILES["gpu-small"], SPOT)} == {ANY_ZONE}


def test_prices_of_somebody_else_are_used():
    assert suitable(SMALL, SPOT, prices=Swapped())[0].instance_type == "g6e.16xlarge"


def test_a_gpu_that_is_measured_to_be_faster_may_cost_more():
    fast = SMALL.model_copy(update={"gpu_speed": {"l4": 2.5}})
    first = suitable(fast, SPOT)[0]
    assert first.instance_type == "g6.xlarge"
    assert price(first) > price(Offering("g4dn.xlarge", ZONES[0], SPOT)) > price(first) / Decimal("2.5")


def test_a_smaller_catalog_offers_what_is_in_it():
    only = tuple(kind for kind in CATALOG if kind.name == "g5.xlarge")
    assert {offering.instance_type for offering in suitable(SMALL, SPOT, catalog=only)} == {"g5.xlarge"}


def test_a_few_offerings_are_of_as_many_types_and_zones_as_can_be():
    few = diversify(suitable(SMALL, SPOT), 6)
    assert len({offering.instance_type for offering in few}) == 6
    assert {zone: sum(offering.zone == zone for offering in few) for zone in ZONES} == dict.fromkeys(ZONES, 2)


@given(fleet=fleets, limit=st.integers(1, 14))
def test_diversified_offerings_keep_their_order_and_leave_out_no_type_for_want_of_room(
    fleet: tuple[Offering, ...], limit: int
):
    few = diversify(fleet, limit)
    assert few == tuple(offering for offering in fleet if offering in few)
    assert len(few) == min(limit, len(fleet))
    kinds = len({offering.instance_type for offering in fleet})
    assert len({offering.instance_type for offering in few}) == min(limit, kinds)


def test_an_offering_without_capacity_comes_last_for_three_minutes():
    fleet = suitable(SMALL, SPOT)
    marks = Marks().failed(fleet[:2], NOW)
    ranked, again = rank(fleet, marks, NOW + 179 * SECOND)
    assert ranked == (*fleet[2:], *fleet[:2])
    assert again == NOW + 180 * SECOND
    assert rank(fleet, marks, NOW + 180 * SECOND) == (fleet, None)


def test_errors_one_after_another_double_the_wait_up_to_an_hour():
    marks, now, waits = Marks(), NOW, []
    for _ in range(8):
        marks = marks.failed([g5()], now)
        until = marks.expires(g5(), now)
        assert until is not None
        waits.append((until - now) / SECOND)
        now = until
    assert waits == [180, 360, 720, 1440, 2880, 3600, 3600, 3600]


def test_ten_steps_that_see_one_shortage_count_it_once():
    marks = Marks()
    for second in range(10):
        marks = marks.failed([g5()], NOW + second * SECOND)
    assert marks.expires(g5(), NOW) == NOW + 189 * SECOND


def test_an_error_that_is_heard_of_late_shortens_no_mark():
    marks = Marks().failed([g5()], NOW).failed([g5()], NOW - 60 * SECOND)
    assert marks.expires(g5(), NOW) == NOW + 180 * SECOND


def test_an_offering_that_was_quiet_for_an_hour_starts_anew():
    marks = Marks().failed([g5()], NOW)
    late = NOW + 180 * SECOND + timedelta(hours=1)
    assert marks.failed([g5()], late).expires(g5(), late) == late + 180 * SECOND
    assert marks.failed([g5()], late - SECOND).expires(g5(), late) == late - SECOND + 360 * SECOND


def test_an_offering_that_worked_is_not_marked_and_its_errors_are_forgotten():
    marks = Marks().failed([g5(), g5("us-east-1b")], NOW).worked(g5())
    assert marks.expires(g5(), NOW) is None
    assert marks.expires(g5("us-east-1b"), NOW) is not None
    assert marks.failed([g5()], NOW).expires(g5(), NOW) == NOW + 180 * SECOND


def test_a_type_that_is_short_in_any_zone_is_short_in_each():
    marks = Marks().failed([g5(ANY_ZONE)], NOW)
    assert marks.expires(g5(), NOW) == NOW + 180 * SECOND
    assert Marks().failed([g5()], NOW).expires(g5(ANY_ZONE), NOW) is None
    assert marks.expires(Offering("g5.xlarge", "us-east-1a", CapacityType.ON_DEMAND), NOW) is None


def test_marks_know_when_the_next_one_runs_out():
    marks = Marks().failed([g5()], NOW).failed([g5("us-east-1b")], NOW + 60 * SECOND)
    assert marks.next_expiry(NOW) == NOW + 180 * SECOND
    assert marks.next_expiry(NOW + 180 * SECOND) == NOW + 240 * SECOND
    assert marks.next_expiry(NOW + 240 * SECOND) is None


@given(
    errors=st.lists(st.tuples(offerings, st.integers(0, 20_000)), max_size=40),
    fleet=fleets,
    after=st.integers(0, 8000),
)
def test_no_mark_is_for_ever_and_ranking_loses_nothing(
    errors: list[tuple[Offering, int]], fleet: tuple[Offering, ...], after: int
):
    policy = MarkPolicy(ttl=timedelta(seconds=100), longest=timedelta(seconds=1000))
    marks, last = Marks(policy), NOW
    for offering, second in sorted(errors, key=lambda error: error[1]):
        last = NOW + second * SECOND
        before = marks
        marks = marks.failed([offering], last)
        until = marks.expires(offering, last)
        assert until is not None and policy.ttl <= until - last <= policy.longest
        assert before.expires(offering, last) is None or before.expires(offering, last) <= until
    now = last + after * SECOND
    ranked, again = rank(fleet, marks, now)
    assert sorted(ranked) == sorted(fleet)
    marked = [offering for offering in ranked if marks.expires(offering, now)]
    assert not marked or ranked[-len(marked) :] == tuple(marked)
    assert (again is None) == (not marked)
    if again is not None:
        assert now < again
        assert rank(fleet, marks, again)[1] != again
    assert rank(fleet, marks, last + policy.longest) == (fleet, None)


def test_profiles_of_one_gpu_do_not_share_a_machine_of_four():
    profile = ComputeProfile(name="test", cpus=1, memory_gib=1)
    bought = {offering.instance_type for offering in suitable(profile, SPOT)}
    assert not bought & {kind.name for kind in CATALOG if kind.gpus > 1}
