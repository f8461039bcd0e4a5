"""All parts of the cluster, put together in its loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from avatar_pipeline.lab.cluster.api import Api
from avatar_pipeline.lab.cluster.api_faults import FaultyApi
from avatar_pipeline.lab.cluster.autoscaler import Autoscaler, Withheld, ready_node
from avatar_pipeline.lab.cluster.defaults import now
from avatar_pipeline.lab.cluster.deletion import Deletion
from avatar_pipeline.lab.cluster.images import Images
from avatar_pipeline.lab.cluster.jobs import JobController
from avatar_pipeline.lab.cluster.kubelet import Kubelet
from avatar_pipeline.lab.cluster.launcher import Zygote
from avatar_pipeline.lab.cluster.machines import Machines
from avatar_pipeline.lab.cluster.nodes import Node, Offering
from avatar_pipeline.lab.cluster.processes import CLUSTER_MARK
from avatar_pipeline.lab.cluster.scheduler import Scheduler
from avatar_pipeline.lab.cluster.serving import Port
from avatar_pipeline.lab.cluster.state import State


@dataclass
class Machinery:
    """The parts. Made, opened and closed in the cluster's loop."""

    state: State
    nodes: Sequence[Node]
    offerings: Sequence[Offering]
    zygote: Zygote
    mark: str
    _opening: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        state = self.state
        state.store.listeners.append(state.journal.narrate)
        self.withheld = Withheld()
        self.images = Images(state.images)
        self.deletion = Deletion(state)
        given = {CLUSTER_MARK: self.mark, "KUBECONFIG": str(state.folder / "kubeconfig.yaml")}
        self.kubelet = Kubelet(state, self.deletion, self.images, self.zygote, given)
        self.machines = Machines(state, self.deletion, self.kubelet)
        self.jobs = JobController(state, self.deletion)
        self.scheduler = Scheduler(state, Autoscaler(state, tuple(self.offerings), self.withheld), self.withheld)
        api: Any = Api(state, self.deletion, self.kubelet, self.machines).app
        self.faulty = FaultyApi(api)
        self.door = Port(self.faulty)
        self.faulty.cut = self.door.cut

    async def open(self, control: Port) -> None:
        """Listen, and let the first nodes and namespaces be."""
        store = self.state.store
        for name in self.state.settings.namespaces:
            metadata = {"name": name, "creationTimestamp": now(), "labels": {"kubernetes.io/metadata.name": name}}
            status = {"phase": "Active"}
            store.create("Namespace", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "status": status})
        for node in self.nodes:
            ready_node(self.state, node.as_json())
        if self.state.settings.instance_metadata:
            self.kubelet.metadata_url = control.url
        await self.door.open()
        await control.open()

    def reopen(self) -> None:
        """Serve the API again, soon."""
        task = self.state.loop.create_task(self.door.open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def reopened(self) -> None:
        """Serve the API again, and return when it does. For other threads."""
        asyncio.run_coroutine_threadsafe(self.door.open(), self.state.loop).result(10)

    async def close(self) -> None:
        """End every process, and let go of the port."""
        await self.kubelet.close()
        self.door.release()
