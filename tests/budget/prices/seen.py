"""Prices that somebody looked up, for tests: short ways to write them, and hypothesis' ways to find them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import strategies as st

from avatar_pipeline.budget.prices import Price, region_of
from avatar_pipeline.spot.types import CapacityType, Offering

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OD, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT


def seen(
    per_hour: str,
    zone: str = "us-east-1a",
    *,
    as_of: datetime = NOW,
    capacity: CapacityType = SPOT,
    instance_type: str = "g5.xlarge",
) -> Price:
    region = region_of(zone, "us-east-1")
    return Price(region, instance_type, capacity, "" if zone == region else zone, Decimal(per_hour), as_of, "AWS")


def spot(zone: str = "us-east-1a", instance_type: str = "g5.xlarge") -> Offering:
    return Offering(instance_type, zone, SPOT)


ZONES = ["us-east-1", "us-east-1a", "us-east-1b", "us-west-2a", "eu-west-1a"]
TYPES = ["g5.xlarge", "g5.2xlarge", "p9.xlarge"]
TIMES = st.integers(-90, 3).map(lambda days: NOW + days * DAY)
PRICES = st.builds(
    seen,
    st.integers(1, 60_000_000).map(lambda micros: str(Decimal(micros).scaleb(-6))),
    st.sampled_from(ZONES),
    as_of=TIMES,
    capacity=st.sampled_from(CapacityType),
    instance_type=st.sampled_from(TYPES),
)
OFFERINGS = st.builds(
    Offering, st.sampled_from(TYPES), st.sampled_from([*ZONES, "", "x"]), st.sampled_from(CapacityType)
)
