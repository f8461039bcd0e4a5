"""The asset and its schedule: a day's report in Dagster, its check, and which days are reported on at night."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.costs import cost_report, report_costs
from avatar_pipeline.budget.types import Payer
from avatar_pipeline.definitions import build_defs
from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.settings import read_settings
from resources.line import LineResource
from sensors.costs import cost_report_schedule
from tests.budget.costs.days import Studio
from tests.budget.costs.reports import item, other_use, write_csv

START = datetime(2026, 11, 10, tzinfo=UTC)
KEY = dg.AssetKey("cost_report")


@pytest.fixture
def instance(home: Path) -> dg.DagsterInstance:
    url = read_settings().ledger.get_secret_value()
    Ledger(url).close()
    engine = open_engine(url)
    Studio(engine, START).work("landmarks", START, 60, payer=Payer("acme", "ada"))
    engine.dispose()
    return dg.DagsterInstance.ephemeral()


def make(instance: dg.DagsterInstance, day: str) -> dg.ExecuteInProcessResult:
    return dg.materialize([cost_report], instance=instance, partition_key=day, resources={"line": LineResource()})


def test_a_report_brings_its_figures_to_dagster_and_passes_without_a_bill(instance: dg.DagsterInstance) -> None:
    result = make(instance, "2026-11-10")
    (made,) = result.asset_materializations_for_node("cost_report")
    assert made.metadata["spend_usd"].value == 1.006
    assert made.partition == "2026-11-10"
    assert "data:image/jpeg;base64," in made.metadata["preview"].value
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.WARN)
    assert "Not compared" in str(check.description)


def test_a_bill_that_drifts_warns_and_the_run_succeeds(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "cur/report.csv", [item("2"), *other_use()])
    monkeypatch.setenv("AVATAR_CUR", str(tmp_path / "cur"))
    result = make(instance, "2026-11-10")
    (check,) = result.get_asset_check_evaluations()
    assert result.success
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "2026-11-10: US$ 1.01 recorded, 2.00 billed (−50 %)" in str(check.description)


def test_at_night_the_last_days_are_asked_for_and_none_before_the_first() -> None:
    def asked(day: int) -> list[tuple[str, str]]:
        moment = datetime(2026, 11, day, 0, 30, tzinfo=UTC)
        with dg.build_schedule_context(scheduled_execution_time=moment) as context:
            return [(run.partition_key, run.run_key) for run in cost_report_schedule(context)]

    assert asked(11) == [(f"2026-11-{day:02d}", f"2026-11-11/2026-11-{day:02d}") for day in (8, 9, 10)]
    assert [key for key, _ in asked(2)] == ["2026-11-01"]
    assert asked(1) == []


def test_the_job_and_the_schedule_fit_into_the_definitions() -> None:
    assert cost_report_schedule.cron_schedule == "30 0 * * *"
    assert cost_report_schedule.execution_timezone == "UTC"
    assert cost_report_schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    others = build_defs()
    defs = dg.Definitions(
        assets=[cost_report], jobs=[report_costs], schedules=[cost_report_schedule], resources=others.resources
    )
    assert defs.resolve_job_def("report_costs").partitions_def is not None
    assert dg.Definitions.validate_loadable(defs) is None
