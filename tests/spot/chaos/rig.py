"""A run of `steps` in a simulated cluster, and what the saboteur and the verdict need to see of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._cli.api import ExecuteRunArgs
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._grpc.types import ResumeRunArgs
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job, get_job_name_from_run_id

from avatar_pipeline.lab.cluster import Image, Node, Zygote
from avatar_pipeline.spot import labels
from avatar_pipeline.spot.executor import events
from avatar_pipeline.spot.executor.door import ApiUnreachable, plain
from avatar_pipeline.spot.types import Attempt
from tests.spot.chaos.scenario import Scenario
from tests.spot.chaos.supply import PLENTY, machines, market
from tests.spot.executor.harness import FAST, NAMESPACE, ROOT, Bench, bench

MODULE = "tests.spot.chaos.steps"
SPOT_CONFIG = {**FAST, "pending_seconds": 2, "start_seconds": 4, "image_pull_seconds": 2}
GRACE_SECONDS = 3
ENDED = frozenset({dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})
_ASK_SECONDS = 0.5


class Missed(Exception):
    """What was waited for did not come."""


class Rig:
    """A bench, and the one run that is looked at: the last, where one replaced another."""

    def __init__(self, opened: Bench, plan: Scenario) -> None:
        self.cluster, self.instance, self.door, self.folder = (
            opened.cluster,
            opened.instance,
            opened.door,
            opened.folder,
        )
        self.story = opened.story
        self.plan = plan
        self.runs: list[dg.DagsterRun] = []
        self.resumes = 0
        self.being_replaced = False
        self.cancelled = threading.Event()
        self._asked, self._was_over = 0.0, False
        self._logs: dict[str, tuple[int, list[dict[str, Any]]]] = {}

    @property
    def run(self) -> dg.DagsterRun:
        """The run that counts."""
        return self.runs[-1]

    # -- the run and its workers

    def launch(self) -> None:
        """Start the run, in a pod of its own."""
        plan = self.plan
        for step in plan.shape.steps:
            (self.folder / step).mkdir()
        (self.folder / "plan.json").write_text(json.dumps({"chunks": plan.chunks, "seconds": plan.chunk_seconds}))
        profiles = self.folder / "profiles.yaml"
        profiles.write_text(yaml.safe_dump({"defaults": {"termination_grace_seconds": GRACE_SECONDS}}))
        spot = {
            **SPOT_CONFIG,
            "interruptions_before_on_demand": plan.rules.ladder,
            "interruption_budget": plan.rules.budget,
            "profiles_file": str(profiles),
        }
        config = {
            "spot": spot,
            "load_incluster_config": False,
            "kubeconfig_file": str(self.cluster.kubeconfig),
            "job_image": "gpu:a",
        }
        (self.folder / "executor.json").write_text(json.dumps(config))
        self._create({})

    def _create(self, more: dict[str, Any]) -> None:
        recon = ReconstructableJob.for_module(MODULE, self.plan.shape.job)
        origin = recon.get_python_origin()
        self.runs.append(self.instance.create_run_for_job(recon.get_definition(), job_code_origin=origin, **more))
        self.resumes = 0
        self._start_worker(ExecuteRunArgs)

    def _start_worker(self, arguments: Any) -> None:
        origin = self.run.job_code_origin
        assert origin is not None
        args = arguments(
            job_origin=origin,
            run_id=self.run.run_id,
            instance_ref=self.instance.get_ref(),
            set_exit_code_on_failure=False,
        )
        job = construct_dagster_k8s_job(
            job_config=DagsterK8sJobConfig(job_image="run:1", dagster_home=str(self.folder)),
            args=args.get_command_args(),
            job_name=self.worker_job,
            component="run_worker",
            labels={"dagster/run-id": self.run.run_id},
        )
        manifest = plain(job)
        self._ask(lambda: self.door.create_job(NAMESPACE, manifest))

    def _ask(self, call: Callable[[], object]) -> None:
        """Ask the API server until it answers."""

        def answered() -> bool:
            try:
                call()
            except ApiUnreachable:
                return False
            return True

        self.until(answered, "an answer of the API server", even_if_over=True)

    @property
    def worker_job(self) -> str:
        """The name of the Job of the run's worker."""
        return str(get_job_name_from_run_id(self.run.run_id, resume_attempt_number=self.resumes or None))

    def worker_pod(self) -> dict[str, Any] | None:
        """Return the running pod of the run's worker."""
        return next(iter(self.cluster.pods(job=self.worker_job, phase="Running")), None)

    def kill_worker(self) -> None:
        """Kill the run's process without notice."""
        pod = self.until(self.worker_pod, "the run's worker")["metadata"]["name"]
        self.cluster.kill_pod(pod)
        self.until(lambda: not self.cluster.pods(job=self.worker_job, phase="Running"), "the end of the run's worker")

    def resume(self) -> None:
        """Start another worker of the run, as run monitoring does."""
        self.resumes += 1
        self._start_worker(ResumeRunArgs)

    def replace_run(self) -> None:
        """Let the run have failed, and execute it again."""
        former = self.run
        self.being_replaced = True
        self.instance.report_run_failed(former)
        root = former.root_run_id or former.run_id
        self._create(
            {
                "parent_run_id": former.run_id,
                "root_run_id": root,
                "tags": {"dagster/parent_run_id": former.run_id, "dagster/root_run_id": root},
            }
        )
        self.being_replaced = False

    def _took_over(self) -> int:
        """Return how many processes of the run came as far as its executor."""
        records = self.instance.all_logs(self.run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        messages = [record.dagster_event.message or "" for record in records if record.dagster_event]
        return sum(message.startswith("Starting execution with step handler") for message in messages)

    def cancel(self) -> None:
        """Do as the launcher does when somebody presses 'Terminate'.

        Not while a process is taking over the run: Dagster itself fails such a run before any executor is there.
        """
        self.until(lambda: self._took_over() > self.resumes, "the run's process to be at work")
        self.cancelled.set()
        self.instance.report_run_canceling(self.run)
        name = self.worker_job
        self._ask(lambda: self.door.delete_job(NAMESPACE, name))

    def status(self) -> dg.DagsterRunStatus:
        """Return how the run stands."""
        found = self.instance.get_run_by_id(self.run.run_id)
        assert found is not None
        return found.status

    def over(self) -> bool:
        """Say whether the run has ended, and no other one takes its place."""
        return self.status() in ENDED and not self.being_replaced

    def over_lately(self) -> bool:
        """Say the same, asked of the database twice a second at most."""
        if time.monotonic() - self._asked > _ASK_SECONDS:
            self._was_over, self._asked = self.over(), time.monotonic()
        return self._was_over

    def attempts(self, step: str) -> tuple[Attempt, ...]:
        """Return the attempts of a step as the event log tells them."""
        return events.attempts(self.instance, self.run, step)

    def job_names(self, step: str) -> set[str]:
        """Return the names of the Jobs of a step, in all runs."""
        found = (events.jobs(events.EventLog(self.instance).records(run.run_id, step)) for run in self.runs)
        return {name for jobs in found for _, name in jobs.values()}

    def open_the_gate(self) -> None:
        """Let the steps end."""
        (self.folder / "open").touch()

    def command(self, step: str, how: str) -> None:
        """Tell a step to misbehave."""
        path = self.folder / step / "command.new"
        path.write_text(how)
        path.rename(path.with_name("command"))

    # -- what is to be seen

    def log(self, step: str) -> list[dict[str, Any]]:
        """Return what a step wrote down."""
        path = self.folder / step / "log.jsonl"
        if not path.exists():
            return []
        size = path.stat().st_size
        known = self._logs.get(step)
        if known is None or known[0] != size:
            text = path.read_text()
            self._logs[step] = known = (size, [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()])
        return known[1]

    def said(self, step: str, what: str, attempt: int) -> list[dict[str, Any]]:
        """Return what one attempt wrote down of one sort."""
        return [line for line in self.log(step) if line["what"] == what and line["attempt"] == attempt]

    def job(self, step: str, attempt: int) -> dict[str, Any] | None:
        """Return the Job of an attempt."""
        return next(iter(self.cluster.jobs(labels=_of(step, attempt))), None)

    def pod(self, step: str, attempt: int) -> dict[str, Any] | None:
        """Return the pod of an attempt."""
        return next(iter(self.cluster.pods(labels=_of(step, attempt))), None)

    def placed(self, step: str) -> int:
        """Return how many attempts of a step the event log has seen placed."""
        return len(self.attempts(step))

    def until(self, holds: Callable[[], Any], what: str, *, seconds: float = 40.0, even_if_over: bool = False) -> Any:
        """Wait for something. Raises Missed where the run ends first, or where it takes too long."""
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            if time.monotonic() > deadline:
                raise Missed(f"waited {seconds:g} s for {what}")
            if not even_if_over and self.over_lately():
                if found := holds():
                    return found
                raise Missed(f"the run ended as {self.status().value} before {what}")
            time.sleep(0.02)
        return found

    def unfinished_jobs(self) -> list[str]:
        """Return the Jobs of GPU steps that have not ended."""
        return [
            job["metadata"]["name"]
            for job in self.cluster.jobs()
            if labels.STEP in job["metadata"]["labels"]
            and not any(c["type"] in ("Complete", "Failed") for c in job.get("status", {}).get("conditions") or ())
        ]


def _of(step: str, attempt: int) -> dict[str, str]:
    return {labels.STEP: step, labels.ATTEMPT: str(attempt)}


@contextmanager
def rig(folder: Path, plan: Scenario, zygote: Zygote) -> Iterator[Rig]:
    """Open a cluster with what a scenario needs."""
    nodes = machines()
    if plan.supply == "mixed":
        nodes = nodes[::PLENTY]
    cpu = Node("cpu-1", cpu=8, memory="32Gi")
    work, home = folder / "work", folder / "home"
    image = Image(
        env={"SPOT_TEST_FOLDER": str(work), "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(home), "HOME": str(folder)},
        working_directory=ROOT,
    )
    settings = {
        "nodes": [cpu, *(nodes if plan.supply != "offerings" else [])],
        "offerings": [] if plan.supply == "nodes" else market(0.2),
        "images": {"gpu:a": image, "gpu:b": image, "run:1": image},
    }
    os.environ["SPOT_TEST_FOLDER"] = str(work)
    with bench(folder, zygote=zygote, **settings) as opened:
        yield Rig(opened, plan)
