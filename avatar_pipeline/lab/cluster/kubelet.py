"""The kubelets of all nodes: they run what is bound to them, and end what is deleted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avatar_pipeline.lab.cluster import processes
from avatar_pipeline.lab.cluster.deletion import TERMINAL, Deletion
from avatar_pipeline.lab.cluster.images import Images
from avatar_pipeline.lab.cluster.launcher import Launch, Zygote
from avatar_pipeline.lab.cluster.pod_run import PodRun, Running, log_folder
from avatar_pipeline.lab.cluster.refusals import bad_request
from avatar_pipeline.lab.cluster.state import State
from avatar_pipeline.lab.cluster.store import Change, Object


class Kubelet:
    """Runs the pods of all nodes. `dead` names the nodes whose machine is gone."""

    def __init__(
        self, state: State, deletion: Deletion, images: Images, zygote: Zygote, given: Mapping[str, str]
    ) -> None:
        self.state = state
        self.images = images
        self.zygote = zygote
        self.dead: set[str] = set()
        self.runs: dict[str, PodRun] = {}
        self.metadata_url = ""
        self._given = dict(given)
        self._deletion = deletion
        self._closed = False
        self._alive: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        state.store.listeners.append(self._on_change)

    def given(self, node: str) -> dict[str, str]:
        """Return what every container of a node finds in its environment beside its own."""
        if not self.metadata_url:
            return self._given
        return self._given | {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.metadata_url}/_metadata/{node}"}

    def _on_change(self, change: Change) -> None:
        if change.kind != "Pod":
            return
        pod = change.after
        run = self.runs.get(pod["metadata"]["uid"])
        if change.what == "DELETED":
            if run is not None:
                self.state.soon(run.stop, 0)
        elif run is not None:
            if "deletionTimestamp" in pod["metadata"]:
                self.state.soon(run.stop, pod["metadata"]["deletionGracePeriodSeconds"])
        elif pod["spec"].get("nodeName") and pod["status"].get("phase") == "Pending":
            self.state.soon(self._begin, pod)

    def _begin(self, pod: Object) -> None:
        metadata = pod["metadata"]
        current = self.state.store.find("Pod", metadata["namespace"], metadata["name"], metadata["uid"])
        if current is None or metadata["uid"] in self.runs or current["spec"]["nodeName"] in self.dead:
            return
        if current["status"].get("phase") != "Pending":
            return
        run = self.runs[metadata["uid"]] = PodRun(self, current)
        if "deletionTimestamp" in current["metadata"]:
            run.stop(0)
        task = self.state.loop.create_task(self._run(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, run: PodRun) -> None:
        try:
            await run.run()
        finally:
            self.runs.pop(run.uid, None)
        if not run.lost:
            self._deletion.kubelet_is_done(run.pod)

    def start(self, launch: Launch, running: Running) -> None:
        """Start a container's process; its futures are set in the loop."""
        loop = self.state.loop

        # Called by the zygote's thread; the loop may be closed by then, for the zygote may outlive this cluster.
        pids: list[int] = []

        def started(pid: int | None, problem: str) -> None:
            if pid is not None:
                pids.append(pid)
                self._alive.add(pid)
                if self._closed:
                    processes.kill_all([pid])
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, running.started, (pid, problem))

        def ended(code: int) -> None:
            self._alive.difference_update(pids)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, running.ended, code)

        self.zygote.launch(launch, started, ended)

    def on_node(self, node: str) -> list[PodRun]:
        """Return the pods that run on a node."""
        return [run for run in self.runs.values() if run.node == node]

    def of(self, pod: Object) -> PodRun | None:
        """Return the run of a pod, where it runs."""
        return self.runs.get(pod["metadata"]["uid"])

    def pids(self) -> list[int]:
        """Return the first process of every container that runs."""
        return [pid for run in self.runs.values() for pid in run.pids()]

    def lose(self, node: str) -> None:
        """Kill all processes of a node at once, and say nothing more from there."""
        self.dead.add(node)
        runs = self.on_node(node)
        for run in runs:
            run.lose()
        processes.kill_all(pid for run in runs for pid in run.pids())

    def kill_everything(self) -> None:
        """Kill every process of every container."""
        self._closed = True
        for run in self.runs.values():
            run.lose()
        processes.kill_all(list(self._alive))

    def log_file(self, pod: Object, container: str, restarts: int) -> Path:
        """Return where a container's output goes."""
        metadata = pod["metadata"]
        folder = log_folder(self.state.folder, metadata["namespace"], metadata["name"], metadata["uid"])
        return folder / f"{container}.{restarts}.log"

    def log_for(self, pod: Object, container: str | None, *, previous: bool) -> Path:
        """Return the log that the API gives. Raises Refusal (400) where there is no such container, or nothing yet."""
        names = [each["name"] for each in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]]
        if container is None and len(pod["spec"]["containers"]) > 1:
            raise bad_request(
                f"a container name must be specified for pod {pod['metadata']['name']}, "
                f"choose one of: [{' '.join(names)}]"
            )
        container = container or names[0]
        if container not in names:
            raise bad_request(f"container {container} is not valid for pod {pod['metadata']['name']}")
        status = pod["status"]
        known = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
        found: dict[str, Any] = next((each for each in known if each["name"] == container), {})
        restarts = found.get("restartCount", 0) - previous
        file = self.log_file(pod, container, restarts)
        if restarts < 0:
            raise bad_request(
                f'previous terminated container "{container}" in pod "{pod["metadata"]["name"]}" not found'
            )
        if not file.exists():
            why = found.get("state", {}).get("waiting", {}).get("reason", "ContainerCreating")
            raise bad_request(f'container "{container}" in pod "{pod["metadata"]["name"]}" is waiting to start: {why}')
        return file

    def is_over(self, pod: Object) -> bool:
        """Tell whether a pod will write no more."""
        return pod["metadata"]["uid"] not in self.runs or pod["status"].get("phase") in TERMINAL

    async def close(self) -> None:
        """Kill everything and forget it."""
        self.kill_everything()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)
