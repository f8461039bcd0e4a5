"""What the executor writes down of GPU steps is enough to say what they cost, whether their workers said so or not."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from avatar_pipeline.clock import utc_now
from avatar_pipeline.observing import collect
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.reconcile import reconcile
from tests.spot.executor.harness import Bench
from tests.spot.executor.test_interruptions import SUCCESS, after_start
from tests.stages.benches import make_line


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = make_line(tmp_path / "line", utc_now, executor="k8s_spot")
    yield line
    line.ledger.close()


def test_each_machine_that_a_step_had_is_settled_at_its_own_price(spot: Bench, line: Line) -> None:
    spot.plan(chunks=8, seconds=0.1)
    run = spot.launch(interruptions_before_on_demand=1)
    after_start(spot, 0)
    spot.until_saved(2)
    spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    assert spot.wait(run) is SUCCESS, spot.story()
    done = reconcile(line, collect(spot.instance, line))
    first, second = (f"{run.run_id}/count/{number}" for number in range(2))
    assert (set(done.found), done.unpriced) == ({first, second}, ())
    on_spot, on_demand = line.spend.attempt(first), line.spend.attempt(second)
    assert on_spot is not None and on_demand is not None
    assert (on_spot.capacity_type, on_demand.capacity_type) == ("spot", "on-demand")
    assert (on_spot.ending, on_demand.ending) == ("interrupted", "succeeded")
    assert on_demand.instance_type == "g5.xlarge" and on_demand.price_per_hour == Decimal("1.006")
    assert on_spot.on_demand_price is not None and 0 < on_spot.price_per_hour < on_spot.on_demand_price
    assert all(0 < one.seconds < 60 and one.cost > 0 for one in (on_spot, on_demand))
    assert reconcile(line, collect(spot.instance, line)).found == ()
