"""Jobs as dagster-k8s itself makes them, without a cluster: to be read, and to be validated, before there is one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster import DagsterRun
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
    get_user_defined_k8s_config,
)

from avatar_pipeline.spot.executor.door import plain

IMAGE = "registry.example/avatar:1"
RUN_ID = "5b5f2b8e-7d3c-4a39-9f5e-0d6f3c1f2a10"
_KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "current-context": "none",
    "users": [{"name": "none", "user": {}}],
}


def launcher(run_k8s_config: Mapping[str, Any] | None = None, *, image: str = IMAGE) -> K8sRunLauncher:
    """A run launcher that could not reach a cluster if it tried."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kubeconfig")
        path.write_text(json.dumps(_KUBECONFIG))
        return K8sRunLauncher(
            service_account_name="dagster",
            instance_config_map="dagster-instance",
            postgres_password_secret="dagster-postgresql",  # noqa: S106  # the name of a Secret
            dagster_home="/opt/dagster/dagster_home",
            job_image=image,
            load_incluster_config=False,
            kubeconfig_file=str(path),
            env_secrets=["avatar-secrets"],
            env_vars=["NVIDIA_DRIVER_CAPABILITIES=compute,utility", "AVATAR_HOME=s3://avatars"],
            run_k8s_config=run_k8s_config,
        )


def step_job(
    *,
    image: str = IMAGE,
    launcher_config: Mapping[str, Any] | None = None,
    step_config: Mapping[str, Any] | None = None,
    op_config: Mapping[str, Any] | None = None,
    job_config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The Job of a step, put together in the order of `K8sStepHandler.launch_step`."""
    stock = launcher(launcher_config, image=image)
    run_tags = {"dagster-k8s/config": json.dumps(job_config)} if job_config else {}
    run = DagsterRun(job_name="make_clip_batch", run_id=RUN_ID, tags=run_tags)
    tags = {"dagster-k8s/config": json.dumps(op_config)} if op_config else {}
    context = (
        K8sContainerContext.create_for_run(run, stock, include_run_tags=False)
        .merge(K8sContainerContext(run_k8s_config=_read(step_config or {})))
        .merge(K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(tags)))
    )
    name = "dagster-step-00000000000000000000000000000000"
    return plain(
        construct_dagster_k8s_job(
            job_config=context.get_k8s_job_config(None, stock),
            args=["dagster", "api", "execute_step", "compressed"],
            job_name=name,
            pod_name=name,
            component="step_worker",
            user_defined_k8s_config=context.run_k8s_config,
            labels={"dagster/job": "make_clip_batch", "dagster/op": "rendered_clips", "dagster/run-id": RUN_ID},
            env_vars=[{"name": "DAGSTER_RUN_STEP_KEY", "value": "rendered_clips"}],
        )
    )


def run_job(
    job_config: Mapping[str, Any], *, launcher_config: Mapping[str, Any] | None = None, image: str = IMAGE
) -> dict[str, Any]:
    """The Job of a run worker whose job has `job_config` in its tags, as `K8sRunLauncher` makes it."""
    stock = launcher(launcher_config, image=image)
    run = DagsterRun(job_name="make_clip_batch", run_id=RUN_ID, tags={"dagster-k8s/config": json.dumps(job_config)})
    context = stock.get_container_context_for_run(run)
    name = f"dagster-run-{RUN_ID}"
    return plain(
        construct_dagster_k8s_job(
            job_config=context.get_k8s_job_config(None, stock),
            args=["dagster", "api", "execute_run", "compressed"],
            job_name=name,
            pod_name=name,
            component="run_worker",
            user_defined_k8s_config=context.run_k8s_config,
            labels={"dagster/job": "make_clip_batch", "dagster/run-id": RUN_ID},
            env_vars=[{"name": "DAGSTER_RUN_JOB_NAME", "value": "make_clip_batch"}],
        )
    )


def _read(config: Mapping[str, Any]) -> UserDefinedDagsterK8sConfig:
    return UserDefinedDagsterK8sConfig.from_dict(dict(config))  # type: ignore[no-any-return, no-untyped-call]
