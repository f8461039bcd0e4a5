"""GPU Jobs that nobody looks after any more: their run has ended, or was replaced, and its process could not say so."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg
from dagster_k8s.launcher import K8sRunLauncher

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.executor.door import Door, Manifest, connect
from avatar_pipeline.spot.executor.keeping import finished
from avatar_pipeline.spot.labels import RUN, label_value


def orphans(jobs: Iterable[Manifest], finished_runs: Iterable[str]) -> list[tuple[str, str]]:
    """Return namespace and name of the Jobs that have not ended though their run has.

    Jobs of runs that are not known stay: they may be another Dagster's, in the same namespace.
    """
    over = {label_value(run_id) for run_id in finished_runs}
    return [
        (str(job["metadata"]["namespace"]), str(job["metadata"]["name"]))
        for job in jobs
        if not finished(job) and (job["metadata"].get("labels") or {}).get(RUN) in over
    ]


def sweep(instance: dg.DagsterInstance, door: Door, namespace: str) -> list[str]:
    """Delete the orphans in a namespace; return their names.

    Raises:
        ApiUnreachable, ApiRefused: Jobs cannot be listed or deleted.
    """
    jobs = door.jobs(namespace, RUN)
    named = {str((job["metadata"].get("labels") or {}).get(RUN)) for job in jobs}
    # Asked one by one: there are few runs with a GPU Job, and may be very many that have ended.
    over = [run.run_id for run_id in named if (run := instance.get_run_by_id(run_id)) and run.is_finished]
    gone = orphans(jobs, over)
    return [name for where, name in gone if door.delete_job(where, name)]


def open_door(instance: dg.DagsterInstance) -> tuple[Door, str]:
    """Return the API of the cluster that the instance's run launcher uses, and its namespace.

    Raises:
        InvalidInput: the instance does not launch runs on Kubernetes.
    """
    launcher = instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise InvalidInput(
            f"Runs are launched by {type(launcher).__name__}, not on Kubernetes.",
            remedy="Configure dagster_k8s.K8sRunLauncher in dagster.yaml.",
        )
    kubeconfig = None if launcher.load_incluster_config else launcher.kubeconfig_file
    return connect(in_cluster=launcher.load_incluster_config, kubeconfig=kubeconfig), launcher.job_namespace
