"""Runs of `steps` in a simulated cluster: workers of runs and of GPU steps are Jobs there, as in a real one."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes.client
import kubernetes.config
from dagster._cli.api import ExecuteRunArgs
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._grpc.types import ResumeRunArgs
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job, get_job_name_from_run_id

from avatar_pipeline.lab.cluster import Cluster, Image, Node
from avatar_pipeline.spot.executor import events
from avatar_pipeline.spot.executor.door import Door, Manifest, plain
from avatar_pipeline.spot.types import Attempt

ROOT = Path(__file__).parents[3]
MODULE = "tests.spot.executor.steps"
PRELOAD = ("dagster", "dagster._cli.api", "dagster._cli", "dagster_k8s", "avatar_pipeline.spot.executor.k8s")
FAST = {"check_interval_seconds": 1, "poll_seconds": 0.1, "silent_exit_seconds": 1, "terminating_slack_seconds": 1}
NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a step's own log."""

    what: str
    at: float
    pid: int
    attempt: int | None
    more: dict[str, Any]


@dataclass(slots=True)
class Bench:
    """A cluster, a Dagster instance whose runs are Jobs there, and the folder that steps count in."""

    cluster: Cluster
    instance: dg.DagsterInstance
    door: Door
    folder: Path

    def plan(self, *, chunks: int = 6, seconds: float = 0.1, **more: Any) -> None:
        """Say how much work there is, and how it goes."""
        (self.folder / "plan.json").write_text(json.dumps({"chunks": chunks, "seconds": seconds, **more}))

    def launch(self, job: str = "counting", *, tags: dict[str, str] | None = None, **spot: Any) -> dg.DagsterRun:
        """Start a run, in a pod of its own."""
        config = {
            "spot": {**FAST, **spot},
            "load_incluster_config": False,
            "kubeconfig_file": str(self.cluster.kubeconfig),
            "job_image": "gpu:1",
        }
        (self.folder / "executor.json").write_text(json.dumps(config))
        os.environ["SPOT_TEST_FOLDER"] = str(self.folder)
        return self.begin(ReconstructableJob.for_module(MODULE, job), tags=tags)

    def begin(self, job: ReconstructableJob, **more: Any) -> dg.DagsterRun:
        """Start a run of any job."""
        run = self.instance.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin(), **more)
        self.start(run)
        return run

    def again(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """Re-execute a failed run from where it failed, as Dagster's run retries do."""
        recon = ReconstructableJob.for_module(MODULE, run.job_name)
        follow = self.instance.create_run_for_job(
            recon.get_definition(),
            job_code_origin=recon.get_python_origin(),
            parent_run_id=run.run_id,
            root_run_id=run.root_run_id or run.run_id,
            tags={"dagster/parent_run_id": run.run_id, "dagster/root_run_id": run.root_run_id or run.run_id},
        )
        self.start(follow)
        return follow

    def start(self, run: dg.DagsterRun, *, resume: int | None = None) -> None:
        """Create the Job of a run's worker, or of the worker that takes over."""
        arguments: Any = ExecuteRunArgs if resume is None else ResumeRunArgs
        origin = run.job_code_origin
        assert origin is not None
        job = construct_dagster_k8s_job(
            job_config=DagsterK8sJobConfig(job_image="run:1", dagster_home=str(self.folder)),
            args=arguments(
                job_origin=origin,
                run_id=run.run_id,
                instance_ref=self.instance.get_ref(),
                set_exit_code_on_failure=False,
            ).get_command_args(),
            job_name=get_job_name_from_run_id(run.run_id, resume_attempt_number=resume),
            component="run_worker",
            labels={"dagster/run-id": run.run_id},
        )
        assert self.door.create_job(NAMESPACE, plain(job))

    def cancel(self, run: dg.DagsterRun, *, resume: int | None = None) -> None:
        """Do as the launcher does when somebody presses 'Terminate'."""
        self.instance.report_run_canceling(run)
        self.door.delete_job(NAMESPACE, get_job_name_from_run_id(run.run_id, resume_attempt_number=resume))

    def wait(self, run: dg.DagsterRun, *, seconds: float = 60.0) -> dg.DagsterRunStatus:
        """Wait until a run has ended."""
        self.until(lambda: self.status(run) in _ENDED, seconds=seconds, what=f"the end of {run.run_id}")
        return self.status(run)

    def status(self, run: dg.DagsterRun) -> dg.DagsterRunStatus:
        """Return how a run stands."""
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found.status

    def until(self, holds: Callable[[], Any], *, seconds: float = 30.0, what: str = "") -> Any:
        """Wait for something that only files and databases tell of."""
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s for {what or holds}\n{self.story()}")
            time.sleep(0.02)
        return found

    def until_saved(self, chunks: int, *, seconds: float = 30.0) -> None:
        """Wait until so many chunks are there."""
        self.until(lambda: self.saved() >= chunks, seconds=seconds, what=f"{chunks} chunks")

    def saved(self) -> int:
        """Return how many chunks are there."""
        path = self.folder / "checkpoint"
        return int(path.read_text() or 0) if path.exists() else 0

    def said(self, what: str | None = None) -> list[Said]:
        """Return what the steps wrote down."""
        path = self.folder / "log.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        all_said = [
            Said(line.pop("what"), line.pop("at"), line.pop("pid"), line.pop("attempt"), line) for line in lines
        ]
        return [one for one in all_said if what is None or one.what == what]

    def attempts(self, run: dg.DagsterRun, step: str = "count") -> tuple[Attempt, ...]:
        """Return the attempts of a step as the event log tells them."""
        return events.attempts(self.instance, run, step)

    def step_jobs(self) -> list[Manifest]:
        """Return the Jobs of GPU steps that are there."""
        return [
            job
            for job in self.cluster.jobs()
            if job["metadata"]["labels"].get("app.kubernetes.io/component") == "step_worker"
        ]

    def step_pod(self) -> Manifest:
        """Wait for a GPU step's running pod and return it."""
        return self.until(self.running_step_pods, what="a running GPU step")[0]

    def running_step_pods(self) -> list[Manifest]:
        """Return the GPU steps' pods that run."""
        return [
            pod
            for pod in self.cluster.pods(phase="Running")
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "step_worker"
            and not pod["metadata"].get("deletionTimestamp")
        ]

    def starting_step_pods(self) -> list[Manifest]:
        """Return the GPU steps' pods that have a node and do not run yet."""
        return [
            pod
            for pod in self.cluster.pods(phase="Pending")
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "step_worker"
            and pod["spec"].get("nodeName")
        ]

    def kill_run_worker(self, run: dg.DagsterRun) -> None:
        """Kill the run's process without notice, as a lost machine would."""
        pod = self.cluster.pods(job=get_job_name_from_run_id(run.run_id))[0]["metadata"]["name"]
        self.cluster.kill_pod(pod)
        self.cluster.wait_for(lambda: self.cluster.pod(pod)["status"]["phase"] == "Failed", timeout=10)

    def run_worker_pid(self, run: dg.DagsterRun) -> int:
        """Return the process of the run's worker."""
        name = get_job_name_from_run_id(run.run_id)
        return next(
            int(e.detail["pid"]) for e in self.cluster.events if e.what == "container_started" and name in e.name
        )

    def terminate(self, pid: int) -> None:
        """Tell a process to end."""
        os.kill(pid, signal.SIGTERM)

    def kill_step_process(self) -> None:
        """Kill the GPU step's process itself."""
        os.kill(self.said("start")[-1].pid, signal.SIGKILL)

    def on_demand_node(self, name: str) -> Node:
        """Return another on-demand GPU node."""
        return Node.of("g5.xlarge", name=name, zone="us-east-1a", capacity_type="on-demand")

    def add_big_node(self) -> None:
        """Add a spot node for the bigger profile."""
        self.cluster.add_node(Node.of("g5.4xlarge", name="spot-big", zone="us-east-1a", capacity_type="spot"))

    def failure(self, run: dg.DagsterRun) -> str:
        """Return what the step's failure says, with its causes."""
        for record in self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
            event = record.dagster_event
            if event is not None and event.step_failure_data.error is not None:
                return event.step_failure_data.error.to_string()
        return ""

    def messages(self, run: dg.DagsterRun) -> list[str]:
        """Return the messages of a run's log."""
        return [
            record.dagster_event.message or "" for record in self.instance.all_logs(run.run_id) if record.dagster_event
        ]

    def orphans(self) -> list[str]:
        """Return the GPU steps' Jobs that have not ended."""
        return [
            job["metadata"]["name"]
            for job in self.step_jobs()
            if not any(c["type"] in ("Complete", "Failed") for c in job.get("status", {}).get("conditions") or ())
        ]

    def story(self) -> str:
        """Return all that is known, for a test that failed."""
        lines = [f"{event.at:.2f} {event.what} {event.name} {event.detail}" for event in self.cluster.events[-60:]]
        for run in self.instance.get_runs():
            lines.append(f"run {run.run_id} {run.status}")
            for record in self.instance.all_logs(run.run_id):
                if record.dagster_event:
                    event = record.dagster_event
                    message = (event.message or "")[:200]
                    lines.append(f"  {record.timestamp:.2f} {event.event_type_value} {event.step_key} {message}")
        for pod in self.cluster.pods():
            name = pod["metadata"]["name"]
            lines.append(f"pod {name} {pod['status'].get('phase')}: {self.cluster.logs(name)[-1500:]}")
        return "\n".join(lines)


_ENDED = frozenset({dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})


def default_nodes() -> list[Node]:
    """Return a node for runs' pods, three spot GPU nodes in three zones, and an on-demand GPU node."""
    return [
        Node("cpu-1", cpu=8, memory="32Gi"),
        Node.of("g5.xlarge", name="spot-a", zone="us-east-1a", capacity_type="spot"),
        Node.of("g6.xlarge", name="spot-b", zone="us-east-1b", capacity_type="spot"),
        Node.of("g4dn.xlarge", name="spot-c", zone="us-east-1c", capacity_type="spot"),
        Node.of("g5.xlarge", name="on-demand-a", zone="us-east-1a", capacity_type="on-demand"),
    ]


@contextmanager
def bench(folder: Path, *, environment: dict[str, str] | None = None, **cluster_settings: Any) -> Iterator[Bench]:
    """Open a cluster with a Dagster instance in `folder`; `environment` is what its pods are told besides."""
    work, home = folder / "work", folder / "home"
    work.mkdir(parents=True)
    home.mkdir()
    image = Image(
        env={
            "SPOT_TEST_FOLDER": str(work),
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(home),
            "HOME": str(folder),
            **(environment or {}),
        },
        working_directory=ROOT,
    )
    settings = {
        "nodes": default_nodes(),
        "images": {"gpu:1": image, "run:1": image},
        "default_grace_seconds": 5,
        **cluster_settings,
    }
    with Cluster(**settings) as cluster:
        launcher = {
            "service_account_name": "dagster",
            "instance_config_map": "dagster-instance",
            "dagster_home": str(home),
            "job_image": "gpu:1",
            "load_incluster_config": False,
            "kubeconfig_file": str(cluster.kubeconfig),
        }
        overrides = {
            "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher},
            "telemetry": {"enabled": False},
        }
        client = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
        door = Door(kubernetes.client.BatchV1Api(client), kubernetes.client.CoreV1Api(client))
        with dg.DagsterInstance.local_temp(str(home), overrides=overrides) as instance:
            yield Bench(cluster, instance, door, work)
