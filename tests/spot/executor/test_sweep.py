"""GPU Jobs whose run is over are taken away, and no others."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.executor.sweep import open_door, orphans, sweep
from avatar_pipeline.spot.labels import RUN
from tests.spot.executor.harness import NAMESPACE, Bench


def job(name: str, run: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n", "labels": {RUN: run}}, "status": status}


def test_only_jobs_that_run_for_a_finished_run_are_orphans() -> None:
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    jobs = [job("lives", "a"), job("left", "b"), job("left-and-done", "b", **done), job("of-another-dagster", "c")]
    assert orphans(jobs, ["b"]) == [("n", "left")]


def test_a_job_whose_run_died_is_deleted_and_one_whose_run_lives_stays(spot: Bench) -> None:
    spot.plan(chunks=200, seconds=0.1)
    run = spot.launch()
    spot.until_saved(1)
    assert sweep(spot.instance, spot.door, NAMESPACE) == []
    spot.kill_run_worker(run)
    spot.instance.report_run_failed(run)
    assert len(sweep(spot.instance, spot.door, NAMESPACE)) == 1
    spot.until(lambda: not spot.running_step_pods(), what="the end of the pod")
    assert spot.orphans() == []


def test_the_door_is_that_of_the_instances_launcher(spot: Bench) -> None:
    door, namespace = open_door(spot.instance)
    assert namespace == NAMESPACE
    assert door.jobs(namespace, RUN) == []


def test_without_kubernetes_there_is_nothing_to_sweep() -> None:
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(InvalidInput, match="K8sRunLauncher"):
        open_door(instance)
