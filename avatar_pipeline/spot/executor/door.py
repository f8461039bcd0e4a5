"""The Kubernetes API as the executor needs it: plain JSON, time-limited calls, and one kind of 'cannot be reached'."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

import urllib3
import urllib3.exceptions
from kubernetes.client import ApiClient, BatchV1Api, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.config import load_incluster_config, new_client_from_config

from avatar_pipeline.errors import AvatarError

TIMEOUT = (3.0, 10.0)
"""Seconds to connect, and to wait for an answer."""
_BUSY = frozenset({401, 408, 429, 500, 502, 503, 504})
"""Answers of a server, or of something before it, that has no time for us; the question may be asked again.

401 is one of them: some clusters give it now and then to tokens that are good (aws/containers-roadmap#1810).
"""

CALL_ERRORS = (ApiException, urllib3.exceptions.HTTPError, OSError)
"""What the client raises when a call fails, for calls that are not made through a `Door`."""

Manifest = dict[str, Any]


class ApiUnreachable(AvatarError):
    """The API server does not answer, or says that it cannot just now. Nothing is known of any Job meanwhile."""

    code = "kubernetes_unreachable"


class ApiRefused(AvatarError):
    """The API server refuses a request, and would refuse it again."""

    code = "kubernetes_refused"
    exit_code = 2

    def __init__(self, message: str, *, remedy: str, status: int) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class Door:
    """Jobs, pods, nodes and events, as JSON objects with the API's own names."""

    def __init__(self, batch: BatchV1Api, core: CoreV1Api) -> None:
        self._batch = batch
        self._core = core

    @classmethod
    def like(cls, client: ApiClient) -> Self:
        """Open the API with a client's own configuration, but with calls that are made once and end in time.

        By default urllib3 makes each read four times, and sleeps as long as a busy server asks it to.
        """
        configuration = copy.deepcopy(client.configuration)
        configuration.retries = urllib3.Retry(total=0, respect_retry_after_header=False)
        own = ApiClient(configuration)
        return cls(BatchV1Api(own), CoreV1Api(own))

    def create_job(self, namespace: str, job: Manifest) -> bool:
        """Create a Job; False where one of that name is there.

        Raises:
            ApiUnreachable: it is not known whether it was created.
            ApiRefused: the manifest cannot be accepted, or we may not create Jobs.
        """
        try:
            self._ask(f"create Job {job['metadata']['name']}", self._batch.create_namespaced_job, namespace, job)
        except ApiRefused as error:
            if error.status == 409:
                return False
            raise
        return True

    def job(self, namespace: str, name: str) -> Manifest | None:
        """Return a Job, or None where there is none of that name."""
        return self._find(f"read Job {name}", self._batch.read_namespaced_job, name, namespace)

    def jobs(self, namespace: str, selector: str) -> list[Manifest]:
        """Return the Jobs that a label selector selects."""
        found = self._ask("list Jobs", self._batch.list_namespaced_job, namespace, label_selector=selector)
        return list(found["items"])

    def pods(self, namespace: str, job: str) -> list[Manifest]:
        """Return the pods of a Job."""
        selector = f"job-name={job}"
        found = self._ask(f"list pods of {job}", self._core.list_namespaced_pod, namespace, label_selector=selector)
        return list(found["items"])

    def node(self, name: str) -> Manifest | None:
        """Return a node; None where it is gone."""
        return self._find(f"read node {name}", self._core.read_node, name)

    def events(self, namespace: str, pod: str) -> list[Manifest]:
        """Return what Kubernetes says about a pod."""
        found = self._ask(
            f"list events of {pod}",
            self._core.list_namespaced_event,
            namespace,
            field_selector=f"involvedObject.name={pod}",
        )
        return list(found["items"])

    def delete_job(self, namespace: str, name: str) -> bool:
        """Delete a Job and its pods, which are given their grace period; False where it is gone already."""
        try:
            self._ask(
                f"delete Job {name}",
                self._batch.delete_namespaced_job,
                name,
                namespace,
                body={"propagationPolicy": "Background"},
            )
        except ApiRefused as error:
            if error.status == 404:
                return False
            raise
        return True

    def _find(self, what: str, call: Callable[..., Any], *args: Any) -> Manifest | None:
        try:
            return self._ask(what, call, *args)
        except ApiRefused as error:
            if error.status == 404:
                return None
            raise

    def _ask(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Manifest:
        try:
            answer = call(*args, _request_timeout=TIMEOUT, _preload_content=False, **kwargs)
            found: Mapping[str, Any] = json.loads(answer.data)
        except (*CALL_ERRORS, ValueError) as error:
            raise described(error, what) from error
        return dict(found)


def described(error: Exception, what: str) -> ApiUnreachable | ApiRefused:
    """Return the error of a call of the client, which was to do `what`, as one of ours."""
    if not isinstance(error, ApiException):
        return ApiUnreachable(f"Could not {what}: {type(error).__name__}.", remedy="It is tried again.")
    reason = _message(error)
    if error.status in _BUSY or not error.status:
        return ApiUnreachable(f"Could not {what}: {reason}.", remedy="It is tried again.")
    return ApiRefused(
        f"Kubernetes refused to {what} ({error.status}): {reason}.",
        remedy="See docs/spot-executor.md for the rights that the run's service account needs.",
        status=error.status,
    )


def plain(model: Any) -> Manifest:
    """Return a model of the client as the JSON object that would be sent."""
    return dict(ApiClient().sanitize_for_serialization(model))


def connect(*, in_cluster: bool, kubeconfig: str | None = None) -> Door:
    """Open the API of the cluster that this pod runs in, or that a kubeconfig file names (the default one if None)."""
    if in_cluster:
        load_incluster_config()
        return Door.like(ApiClient())
    return Door.like(new_client_from_config(kubeconfig))


def _message(error: ApiException) -> str:
    """Return what the API server said; its Status object has a sentence in it."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
