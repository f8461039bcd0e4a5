"""The official Kubernetes client, pointed at a cluster through its kubeconfig."""

from __future__ import annotations

import time
from typing import Any

from kubernetes import client, config

from avatar_pipeline.lab.cluster import Cluster


class Client:
    """The APIs of the official client, and what tests ask for again and again."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        api_client = config.new_client_from_config(str(cluster.kubeconfig))
        self.batch = client.BatchV1Api(api_client)
        self.core = client.CoreV1Api(api_client)
        self.events = client.EventsV1Api(api_client)

    def create(self, body: dict[str, Any]) -> Any:
        """Create a Job or a pod in the default namespace."""
        if body["kind"] == "Job":
            return self.batch.create_namespaced_job("default", body)
        return self.core.create_namespaced_pod("default", body)

    def job(self, name: str) -> Any:
        """Read a Job."""
        return self.batch.read_namespaced_job(name, "default")

    def pod(self, name: str) -> Any:
        """Read a pod."""
        return self.core.read_namespaced_pod(name, "default")

    def log(self, name: str, **more: Any) -> str:
        """Read a pod's log; as bytes first, for the client spoils texts."""
        raw = self.core.read_namespaced_pod_log(name, "default", _preload_content=False, **more)
        return str(raw.data.decode())

    def messages(self, name: str) -> list[str]:
        """The messages of an object's Events."""
        selector = f"involvedObject.name={name}"
        return [each.message for each in self.core.list_namespaced_event("default", field_selector=selector).items]

    # -- waiting

    def ended(self, name: str) -> Any:
        """Wait until a Job has ended, and return it as it is then."""
        wanted = ("job_complete", "job_failed")
        self.cluster.wait_for(lambda: [each for what in wanted for each in self.cluster.happenings(what, name)])
        return self.job(name)

    def running(self, job: str) -> str:
        """Wait until a Job's container has said its first word, and return the pod's name."""
        self.cluster.wait_for(lambda: self.cluster.pods(job=job, phase="Running"))
        name = str(self.cluster.pods(job=job, phase="Running")[-1]["metadata"]["name"])
        self.wait_for_log(name)
        return name

    def wait_for_log(self, pod: str) -> None:
        """Wait until a pod has written something."""
        until = time.monotonic() + 10
        while not self.cluster.logs(pod):
            assert time.monotonic() < until, f"{pod} wrote nothing"
            time.sleep(0.005)
