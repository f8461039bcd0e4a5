"""What runs the steps is chosen by a setting when a run begins."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.executor.in_process import InProcessExecutor

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.executor.creating import create_executor
from resources.steps import step_executor


def _context(config: dict[str, object], instance: dg.DagsterInstance) -> dg.InitExecutorContext:
    @dg.job(executor_def=step_executor)
    def some() -> None: ...

    return dg.InitExecutorContext(
        job=InMemoryJob(some), executor_def=step_executor, executor_config=config, instance=instance
    )


def test_by_default_steps_run_in_the_runs_own_process() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        made = create_executor(step_executor, _context({}, instance), {})
    assert isinstance(made, InProcessExecutor)


def test_with_the_setting_gpu_steps_go_to_kubernetes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stepping = pytest.importorskip("avatar_pipeline.spot.executor.stepping", reason="needs the `k8s` extra")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {}}],
                "current-context": "c",
            }
        )
    )
    monkeypatch.setenv("AVATAR_EXECUTOR", "k8s_spot")
    monkeypatch.setenv("AVATAR_SPOT_STRATEGY", "deadline")
    given = {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig), "job_image": "i"}
    with dg.DagsterInstance.ephemeral() as instance:
        made = create_executor(step_executor, _context(given, instance), given)
        assert isinstance(made, stepping.SpotStepExecutor)
        assert made._policy.strategy == "deadline"
        with pytest.raises(InvalidInput, match="no_such_thing"):
            create_executor(step_executor, _context({}, instance), {**given, "spot": {"no_such_thing": 1}})
        with pytest.raises(InvalidInput, match="retries"):
            create_executor(step_executor, _context({}, instance), {**given, "retries": {"disabled": {}}})
