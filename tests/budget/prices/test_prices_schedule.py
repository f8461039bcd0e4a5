"""The daily look at AWS's prices: only where it is asked for, and what it says when AWS does not answer."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from assets.prices import refresh_prices
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.spot.catalog import CATALOG
from resources.line import LineResource
from sensors.prices import refresh_prices_schedule
from tests.budget.prices.aws import Aws
from tests.budget.prices.seen import OD


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def tick() -> dg.RunRequest | dg.SkipReason:
    with dg.build_schedule_context(scheduled_execution_time=datetime(2026, 12, 1, tzinfo=UTC)) as context:
        return refresh_prices_schedule(context)


@pytest.mark.usefixtures("home")
def test_the_schedule_skips_with_a_reason_unless_it_is_switched_on(monkeypatch: pytest.MonkeyPatch):
    skipped = tick()
    assert isinstance(skipped, dg.SkipReason)
    assert "AVATAR_PRICE_REFRESH" in skipped.skip_message
    monkeypatch.setenv("AVATAR_PRICE_REFRESH", "true")
    assert isinstance(tick(), dg.RunRequest)


@pytest.mark.usefixtures("home")
def test_its_job_keeps_what_aws_says_and_tells_what_failed(aws: Aws, instance: dg.DagsterInstance):
    aws.on_demand = {("us-east-1", kind.name): "2.5" for kind in CATALOG}
    aws.faults["ec2", "us-east-1", 0] = "UnauthorizedOperation"
    done = refresh_prices.execute_in_process(instance=instance, resources={"line": LineResource()})
    assert done.success
    (made,) = [event for event in done.all_events if event.is_successful_output]
    metadata = {name: entry.value for name, entry in made.step_output_data.metadata.items()}
    assert metadata == {"told": 31, "added": 31, "refused": 0, "failed": 1}
    with open_line() as line:
        assert line.prices.on_demand("g5.xlarge").per_hour == 2.5
        assert {price.capacity_type for price in line.prices.looked_up} == {OD}


@pytest.mark.usefixtures("home", "no_credentials")
def test_its_job_fails_with_a_remedy_where_nothing_was_told(instance: dg.DagsterInstance):
    done = refresh_prices.execute_in_process(
        instance=instance, resources={"line": LineResource()}, raise_on_error=False
    )
    assert not done.success
    failure = done.get_step_failure_events()[0].event_specific_data.user_failure_data
    assert "NoCredentialsError" in failure.description
    assert "Check the credentials" in failure.metadata["remedy"].value
