"""A Dagster instance of its own, and a home with a ready avatar, for one test of a sensor."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from avatar_pipeline.definitions import build_defs, default_resources
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.line import Line, open_line

Tick = Callable[[str], dg.SensorResult]


@pytest.fixture(scope="session")
def defs() -> dg.Definitions:
    return build_defs()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def line(own_home: Path) -> Iterator[Line]:
    """The line of a home in which the avatar `ada` is ready."""
    with open_line(read_settings()) as line:
        yield line


@pytest.fixture
def tick(defs: dg.Definitions, instance: dg.DagsterInstance) -> Tick:
    """Evaluate a sensor once, and do with partitions what the daemon does."""

    def evaluate(name: str) -> dg.SensorResult:
        with dg.build_sensor_context(
            instance=instance, definitions=defs, sensor_name=name, resources=default_resources()
        ) as context:
            done = defs.resolve_sensor_def(name)(context)
        if isinstance(done, dg.SkipReason):
            return dg.SensorResult(skip_reason=done)
        for request in done.dynamic_partitions_requests or []:
            instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        return done

    return evaluate


def clip(number: int, avatar_id: str = "ada", **more: object) -> str:
    """A clip request as its sender writes it."""
    return json.dumps(
        {"version": 1, "request_id": f"clip-{number}", "avatar_id": avatar_id, "text": f"Clip number {number}."} | more
    )
