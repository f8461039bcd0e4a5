"""The composition root: which assets, jobs and resources make up the project. Only wiring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.avatars import avatar_assets
from assets.budgets import budgets
from assets.clips import clip_assets
from assets.costs import cost_assets, report_costs
from assets.housekeeping import housekeeping_jobs
from assets.jobs import jobs
from assets.prices import refresh_prices
from assets.report import report_assets
from resources.line import LineResource
from resources.steps import step_executor
from sensors.automation import nightly_rebuild
from sensors.batches import clip_batch_sensor
from sensors.budget import cost_budget_sensor
from sensors.callbacks import callback_sensor
from sensors.intake import avatar_intake_sensor
from sensors.recovery import recovery_sensor
from sensors.schedules import schedules


def default_resources() -> dict[str, Any]:
    """Return the doors to the outside world, as they are outside of tests."""
    return {"line": LineResource()}


def build_defs(*, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Wire the project; a test puts other doors in by name."""
    return dg.Definitions(
        assets=[*avatar_assets, *clip_assets, *report_assets, *cost_assets, budgets],
        jobs=[*jobs, *housekeeping_jobs, refresh_prices, report_costs],
        schedules=schedules,
        sensors=[
            avatar_intake_sensor,
            clip_batch_sensor,
            recovery_sensor,
            callback_sensor,
            cost_budget_sensor,
            nightly_rebuild,
        ],
        resources=default_resources() | dict(resource_overrides or {}),
        executor=step_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev`, `dg dev` and the daemon load."""
    return build_defs()
