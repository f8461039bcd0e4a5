"""Jobs for the chaos: GPU steps that count in saved chunks, and wait before the last of them until they may end.

`SPOT_TEST_FOLDER` is where they count, each step in a folder of its own. `plan.json` says how much there is to do; a
file `command` in a step's folder tells it to misbehave; a file `open` lets all steps end.
"""

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import dagster as dg

from avatar_pipeline.spot.executor.k8s import k8s_spot_executor
from avatar_pipeline.spot.executor.worker import preemption_guard, spot_attempt
from avatar_pipeline.spot.guard import NO_GUARD, Guard
from avatar_pipeline.spot.tags import gpu_op_tags
from avatar_pipeline.store.atomic import atomic_file

DEADLINE_SECONDS = 6
GATE_SECONDS = 0.02


def part_of(chunk: int) -> bytes:
    """Return what a chunk's work makes."""
    return hashlib.sha256(str(chunk).encode()).digest()


def _folder() -> Path:
    return Path(os.environ.get("SPOT_TEST_FOLDER", "."))


class _Step:
    """One attempt of a GPU step."""

    def __init__(self, name: str, guard: Guard) -> None:
        self.folder = _folder() / name
        self.guard = guard
        attempt = spot_attempt()
        self.attempt = attempt.number if attempt else None
        plan = json.loads((_folder() / "plan.json").read_text())
        self.chunks, self.seconds = int(plan["chunks"]), float(plan["seconds"])

    def say(self, what: str, **more: object) -> None:
        line = {"what": what, "at": time.time(), "pid": os.getpid(), "attempt": self.attempt, **more}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def saved(self) -> int:
        path = self.folder / "checkpoint"
        return int(path.read_text()) if path.exists() else 0

    def work(self) -> str:
        for chunk in range(self.saved(), self.chunks):
            self._obey()
            if chunk == self.chunks - 1:
                self._wait_at_the_gate()
            self.say("begin", chunk=chunk)
            time.sleep(self.seconds)
            with atomic_file(self.folder / f"chunk-{chunk:03d}") as file:
                file.write_bytes(part_of(chunk))
            with atomic_file(self.folder / "checkpoint") as file:
                file.write_text(str(chunk + 1))
            self.guard.boundary(chunk + 1, self.chunks)
        whole = b"".join((self.folder / f"chunk-{chunk:03d}").read_bytes() for chunk in range(self.chunks))
        with atomic_file(self.folder / "result") as file:
            file.write_bytes(whole)
        self.say("done")
        return hashlib.sha256(whole).hexdigest()

    def _wait_at_the_gate(self) -> None:
        self.say("gate")
        while not (_folder() / "open").exists():
            self._obey()
            self.guard.boundary()
            time.sleep(GATE_SECONDS)

    def _obey(self) -> None:
        """Do as `command` says, once."""
        path = self.folder / "command"
        if not path.exists():
            return
        how = path.read_text()
        path.unlink()
        self.say(how)
        if how == "error":
            raise ValueError("the op's own mistake")
        if how == "exit_0":
            os._exit(0)
        if how == "exit_3":
            os._exit(3)
        if how == "hang":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            time.sleep(3600)


def _run(name: str, context: dg.OpExecutionContext, *, guarded: bool) -> str:
    step = _Step(name, NO_GUARD)
    step.say("start", saved=step.saved(), retry=context.retry_number)
    try:
        if not guarded:
            return step.work()
        with preemption_guard(context) as guard:
            step.guard = guard
            return step.work()
    finally:
        step.say("left")


def _gpu_op(
    name: str, *, guarded: bool = True, retries: int | None = None, deadline: int | None = None
) -> dg.OpDefinition:
    tags: dict[str, object] = {**gpu_op_tags()}
    kubernetes: dict[str, object] = {"container_config": {"image": f"gpu:{name}"}}
    if deadline is not None:
        kubernetes["job_spec_config"] = {"active_deadline_seconds": deadline}
    tags["dagster-k8s/config"] = kubernetes

    @dg.op(name=name, tags=tags, retry_policy=None if retries is None else dg.RetryPolicy(max_retries=retries))
    def counts(context: dg.OpExecutionContext) -> str:
        return _run(name, context, guarded=guarded)

    return counts


@dg.op
def after(digest: str) -> str:
    """Need no GPU."""
    with (_folder() / "after").open("a") as file:
        file.write(digest + "\n")
    return digest


def _executor() -> dg.ExecutorDefinition:
    path = _folder() / "executor.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    return k8s_spot_executor.configured(config, name="spot_under_chaos")


@dg.job(executor_def=_executor())
def guarded() -> None:
    """A GPU step."""
    _gpu_op("a")()


@dg.job(executor_def=_executor())
def then_cpu() -> None:
    """A GPU step, then a step that needs none."""
    after(_gpu_op("a")())


@dg.job(executor_def=_executor())
def with_policy() -> None:
    """A GPU step with a RetryPolicy."""
    _gpu_op("a", retries=1)()


@dg.job(executor_def=_executor())
def unguarded() -> None:
    """A GPU step that knows nothing of spot."""
    _gpu_op("a", guarded=False)()


@dg.job(executor_def=_executor())
def unguarded_with_policy() -> None:
    """The same with a RetryPolicy."""
    _gpu_op("a", guarded=False, retries=1)()


@dg.job(executor_def=_executor())
def two() -> None:
    """Two GPU steps side by side."""
    _gpu_op("a")()
    _gpu_op("b")()


@dg.job(executor_def=_executor())
def with_deadline() -> None:
    """A GPU step with a RetryPolicy, whose Job has an active deadline."""
    _gpu_op("a", retries=1, deadline=DEADLINE_SECONDS)()
