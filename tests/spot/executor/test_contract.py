"""What the executor leans on in Dagster that is not public: should one of these be gone, this says so first."""

from __future__ import annotations

import inspect

import dagster as dg
import dagster_k8s.executor as dagster_k8s_executor
from dagster._config import process_config
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData, StepRetryData
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandler, StepHandlerContext
from dagster._grpc.types import ExecuteStepArgs
from dagster_shared.error import SerializableErrorInfo

from avatar_pipeline.spot.executor.k8s import CONFIG_SCHEMA, k8s_spot_executor
from avatar_pipeline.spot.executor.stepping import SpotStepExecutor


def test_the_stock_executor_is_made_of_the_parts_that_we_wrap() -> None:
    made = inspect.getsource(dagster_k8s_executor.k8s_job_executor.executor_creation_fn)
    assert "K8sStepHandler(" in made and "StepDelegatingExecutor(" in made
    handler = inspect.signature(dagster_k8s_executor.K8sStepHandler.__init__).parameters
    assert {"image", "container_context", "load_incluster_config", "enable_owner_references"} <= set(handler)
    launch = inspect.getsource(dagster_k8s_executor.K8sStepHandler.launch_step)
    assert "self._api_client.create_namespaced_job_with_retries(body=job, namespace=namespace)" in launch


def test_the_step_delegating_executor_calls_what_we_override_and_takes_what_we_give() -> None:
    taken = inspect.signature(StepDelegatingExecutor.__init__).parameters
    assert {
        "step_handler",
        "retries",
        "sleep_seconds",
        "check_step_health_interval_seconds",
        "max_concurrent",
        "tag_concurrency_limits",
        "step_dependency_config",
    } <= set(taken)
    executed = inspect.getsource(StepDelegatingExecutor.execute)
    assert executed.count("self._pop_events(") == 2
    assert executed.count("self.log_failure_or_retry_event_after_error(") == 2
    for name in ("_pop_events", "log_failure_or_retry_event_after_error", "execute"):
        ours = inspect.signature(getattr(SpotStepExecutor, name))
        assert list(ours.parameters) == list(inspect.signature(getattr(StepDelegatingExecutor, name)).parameters), name
    for name in ("_step_handler", "_max_concurrent", "_tag_concurrency_limits"):
        assert f"self.{name} =" in inspect.getsource(StepDelegatingExecutor.__init__), name
    assert {"launch_step", "check_step_health", "terminate_step", "name"} == StepHandler.__abstractmethods__
    assert list(inspect.signature(StepHandlerContext.__init__).parameters)[1:] == [
        "instance",
        "plan_context",
        "steps",
        "execute_step_args",
        "dagster_run",
    ]


def test_a_workers_arguments_can_be_made_with_fewer_attempts() -> None:
    assert {"previous_retry_attempts"} <= set(KnownExecutionState._fields)
    assert {
        "job_origin",
        "run_id",
        "step_keys_to_execute",
        "instance_ref",
        "retry_mode",
        "known_state",
        "should_verify_step",
        "print_serialized_events",
    } == set(inspect.signature(ExecuteStepArgs.__new__).parameters) - {"cls"}
    state = KnownExecutionState(previous_retry_attempts={"a": 3})._replace(previous_retry_attempts={"a": 1})
    assert state.get_retry_state().get_attempt_count("a") == 1


def test_events_can_be_written_and_read_as_we_do() -> None:
    error = SerializableErrorInfo(message="m", stack=[], cls_name=None)
    assert StepRetryData(error=error, seconds_to_wait=0).error == error
    assert StepFailureData(error=error, user_failure_data=None).error_source is ErrorSource.FRAMEWORK_ERROR
    assert ErrorSource.INTERRUPT.value == "INTERRUPT"
    assert EngineEventData(metadata={"spot": dg.MetadataValue.json({"a": 1})}).metadata["spot"].data == {"a": 1}
    assert DagsterEventType.STEP_WORKER_STARTED and callable(DagsterEvent.engine_event)
    assert issubclass(DagsterExecutionInterruptedError, BaseException)
    parameters = inspect.signature(dg.DagsterInstance.get_records_for_run).parameters
    assert {"run_id", "cursor", "of_type", "limit"} <= set(parameters)


def test_the_configuration_is_the_stock_one_and_ours_beside() -> None:
    assert set(CONFIG_SCHEMA) - set(dagster_k8s_executor._K8S_EXECUTOR_CONFIG_SCHEMA) == {"spot"}
    assert multiple_process_executor_requirements()
    schema = k8s_spot_executor.config_schema.as_field().config_type
    good = process_config(schema, {"job_image": "i", "spot": {"strategy": "deadline", "on_demand_base": 2}})
    assert good.success and good.value["spot"]["interruptions_before_on_demand"] == 2
    bad = process_config(schema, {"spot": {"no_such_field": 1}})
    assert not bad.success and "no_such_field" in (bad.errors or [])[0].message
