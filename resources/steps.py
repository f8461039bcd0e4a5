"""What runs the steps of a run, by the settings of the process that runs it: itself, or pods on spot capacity."""

from typing import Any

import dagster as dg

from avatar_pipeline.settings import read_settings
from avatar_pipeline.spot.executor.creating import create_executor

_AS_CHOSEN = dg.Permissive()  # type: ignore[no-untyped-call]


@dg.executor(name="steps", config_schema=_AS_CHOSEN)
def step_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Run the steps in the run's own process, or on Kubernetes with `AVATAR_EXECUTOR=k8s_spot`.

    In the process by default: another one costs seconds to start, and the steps share a machine. It is chosen when a
    run begins, so that the web server and the daemon need no Kubernetes client. Run
    configuration under `execution.config` is that of the executor that is chosen.
    """
    settings = read_settings()
    if settings.executor == "in_process":
        return create_executor(dg.in_process_executor, context, context.executor_config)
    # A second's import, which only those pay who run on Kubernetes.
    from avatar_pipeline.spot.executor.k8s import k8s_spot_executor

    spot: dict[str, Any] = {"strategy": settings.spot_strategy}
    if settings.compute_profiles is not None:
        spot["profiles_file"] = str(settings.compute_profiles)
    # A step whose run is gone for good goes with it.
    given: dict[str, Any] = {"enable_owner_references": True, **context.executor_config}
    return create_executor(k8s_spot_executor, context, {**given, "spot": {**spot, **given.get("spot", {})}})
