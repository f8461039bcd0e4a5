"""The instance that `dagster.yaml` describes: that it loads as it stands, and what it promises."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from assets.compute import GPU_POOL
from assets.jobs import LINE_TAG, build_avatar, make_clip_batch
from sensors.automation import nightly_rebuild

FILE = Path(__file__).parents[2] / "dagster.yaml"


@pytest.fixture
def written() -> dict[str, Any]:
    document = yaml.safe_load(FILE.read_text())
    assert isinstance(document, dict)
    return document


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The file as it is, loaded as `dagster dev` loads it; its relative folders lie under the working directory."""
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.from_config(str(FILE.parent)) as instance:
        yield instance


def test_everything_stays_in_the_working_directory(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    instance.add_dynamic_partitions("avatars", ["ann"])
    assert (tmp_path / ".dagster" / "storage").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {".dagster"}
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled


def test_neither_line_can_take_all_workers(instance: dg.DagsterInstance) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    limits = {(limit["key"], limit["value"]): limit["limit"] for limit in queue.tag_concurrency_limits}
    lines = {(LINE_TAG, (job.tags or {})[LINE_TAG]) for job in (build_avatar, make_clip_batch)}
    assert set(limits) == lines
    assert all(0 < limit < queue.max_concurrent_runs for limit in limits.values())
    assert sum(limits.values()) >= queue.max_concurrent_runs, "workers would stand idle"


def test_the_nightly_rebuild_counts_as_its_line_and_comes_last() -> None:
    assert nightly_rebuild.run_tags[LINE_TAG] == (build_avatar.tags or {})[LINE_TAG]
    assert int(nightly_rebuild.run_tags["dagster/priority"]) < 0


def test_the_limits_stand_in_one_place_only(written: dict[str, Any]) -> None:
    """Dagster refuses to start where both sections have them."""
    assert set(written["run_queue"]).isdisjoint({"max_concurrent_runs", "tag_concurrency_limits"})
    both = written | {"run_queue": {"max_concurrent_runs": 1}}
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.DagsterInstance.local_temp(overrides={name: both[name] for name in ("concurrency", "run_queue")})


def test_one_step_at_a_time_has_the_card(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    assert storage.initialize_concurrency_limit_to_default(GPU_POOL)
    assert storage.claim_concurrency_slot(GPU_POOL, "run-1", "greeting_clip").is_claimed
    assert not storage.claim_concurrency_slot(GPU_POOL, "run-2", "rendered_clips").is_claimed
    storage.free_concurrency_slots_for_run("run-1")
    assert storage.claim_concurrency_slot(GPU_POOL, "run-2", "rendered_clips").is_claimed


def test_only_lost_workers_are_tried_again(instance: dg.DagsterInstance) -> None:
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 3
    assert not instance.run_retries_retry_on_asset_or_op_failure


def test_a_dead_run_gives_back_its_slots_soon(instance: dg.DagsterInstance) -> None:
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] <= 10
    assert instance.run_monitoring_poll_interval_seconds <= 10
    assert instance.run_monitoring_start_timeout_seconds == 120
    assert instance.run_monitoring_cancel_timeout_seconds == 60


def test_runs_wait_a_second_for_their_turn(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_coordinator, dg.QueuedRunCoordinator)
    assert instance.run_coordinator.dequeue_interval_seconds == 1


def test_a_slow_tick_does_not_hold_up_the_others(instance: dg.DagsterInstance) -> None:
    for daemon in ("sensors", "schedules", "backfills"):
        assert instance.get_settings(daemon)["use_threads"]
        assert instance.get_settings(daemon)["num_workers"] > 1


def test_ticks_in_vain_are_forgotten_after_a_day(instance: dg.DagsterInstance) -> None:
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import TickStatus

    kept = instance.get_tick_retention_settings(InstigatorType.SENSOR)
    assert kept[TickStatus.SKIPPED] == 1
    assert kept[TickStatus.FAILURE] == 30
