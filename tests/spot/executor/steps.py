"""A job whose one GPU step counts in saved chunks, and whose others need no GPU. What it does is steered by files.

`SPOT_TEST_FOLDER` is where it counts; `plan.json` there says how long a chunk takes, how many there are, and which
attempts do something else than work.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import dagster as dg

from avatar_pipeline.spot.executor.k8s import k8s_spot_executor
from avatar_pipeline.spot.executor.worker import preemption_guard, spot_attempt
from avatar_pipeline.spot.tags import gpu_op_tags
from avatar_pipeline.store.atomic import atomic_file


def _folder() -> Path:
    return Path(os.environ.get("SPOT_TEST_FOLDER", "."))


def _plan() -> dict[str, object]:
    return json.loads((_folder() / "plan.json").read_text())


def _log(what: str, **more: object) -> None:
    attempt = spot_attempt()
    line = {"what": what, "at": time.time(), "pid": os.getpid(), "attempt": attempt.number if attempt else None, **more}
    with (_folder() / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _saved() -> int:
    path = _folder() / "checkpoint"
    return int(path.read_text()) if path.exists() else 0


def _misbehave(how: str) -> None:
    """End this process in some way other than by doing the work."""
    if how == "error":
        raise ValueError("the op's own mistake")
    if how == "exit_0":
        sys.stdout.flush()
        os._exit(0)
    if how == "exit_3":
        os._exit(3)
    if how == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        time.sleep(3600)


@dg.op(tags=gpu_op_tags())
def count(context: dg.OpExecutionContext) -> str:
    """Do so many chunks, each of which is kept; leave after one when the machine is taken."""
    plan = _plan()
    chunks, seconds = int(plan["chunks"]), float(plan["seconds"])
    attempt = spot_attempt()
    number = attempt.number if attempt else 0
    _log(
        "start",
        saved=_saved(),
        capacity=str(attempt.capacity) if attempt else None,
        retry=context.retry_number,
        prices=[str(attempt.price), str(attempt.on_demand_price), str(attempt.price_cap)] if attempt else None,
        profile=attempt.profile if attempt else None,
    )
    how = dict(plan.get("attempts", {})).get(str(number))
    with preemption_guard(context) as guard:
        for chunk in range(_saved(), chunks):
            if how is not None and chunk >= int(plan.get("misbehave_at", 0)):
                _misbehave(how)
            time.sleep(seconds)
            with atomic_file(_folder() / f"chunk-{chunk:03d}") as part:
                part.write_bytes(hashlib.sha256(str(chunk).encode()).digest())
            with atomic_file(_folder() / "checkpoint") as mark:
                mark.write_text(str(chunk + 1))
            _log("chunk", chunk=chunk)
            guard.boundary(chunk + 1, chunks)
    whole = b"".join((_folder() / f"chunk-{chunk:03d}").read_bytes() for chunk in range(chunks))
    with atomic_file(_folder() / "result") as result:
        result.write_bytes(whole)
    _log("done")
    return hashlib.sha256(whole).hexdigest()


@dg.op(tags=gpu_op_tags(), retry_policy=dg.RetryPolicy(max_retries=1))
def count_with_policy(context: dg.OpExecutionContext) -> str:
    """Do the same, with one retry for mistakes of its own."""
    return str(count.compute_fn.decorated_fn(context))  # type: ignore[union-attr]


@dg.op(tags=gpu_op_tags())
def count_unguarded() -> str:
    """Do the work without a guard, as an op does that knows nothing of spot."""
    plan = _plan()
    _log("start", saved=_saved())
    for chunk in range(_saved(), int(plan["chunks"])):
        time.sleep(float(plan["seconds"]))
        with atomic_file(_folder() / "checkpoint") as mark:
            mark.write_text(str(chunk + 1))
        _log("chunk", chunk=chunk)
    return "done"


@dg.op
def after(digest: str) -> str:
    """Need no GPU."""
    _log("after")
    return digest


def _executor() -> dg.ExecutorDefinition:
    path = _folder() / "executor.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    return k8s_spot_executor.configured(config, name="spot_under_test")


@dg.job(executor_def=_executor())
def counting() -> None:
    """A GPU step alone."""
    count()


@dg.job(executor_def=_executor())
def counting_then_more() -> None:
    """GPU, then CPU."""
    after(count())


@dg.job(executor_def=_executor())
def counting_with_policy() -> None:
    """The same, the GPU step having a RetryPolicy."""
    count_with_policy()


@dg.job(executor_def=_executor())
def counting_unguarded() -> None:
    """The same without a guard."""
    count_unguarded()
