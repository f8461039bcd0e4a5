"""A simulated cluster as a context manager: started in a thread, read from any, ended with all its processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import shutil
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from avatar_pipeline.lab.cluster import processes
from avatar_pipeline.lab.cluster.control import control_app
from avatar_pipeline.lab.cluster.faults import Faults, found
from avatar_pipeline.lab.cluster.journal import Happening, Journal
from avatar_pipeline.lab.cluster.launcher import Zygote
from avatar_pipeline.lab.cluster.machinery import Machinery
from avatar_pipeline.lab.cluster.nodes import Node, Offering
from avatar_pipeline.lab.cluster.serving import Port
from avatar_pipeline.lab.cluster.settings import Image, Settings
from avatar_pipeline.lab.cluster.state import State
from avatar_pipeline.lab.cluster.store import Object

T = TypeVar("T")
_PATIENCE = 30.0


class Cluster(Faults):
    """A simulated Kubernetes cluster. See the package's docstring for what it does and how to use it.

    `nodes` are there from the start; `offerings` are what the autoscaler may buy. `images` says what image names stand
    for; any other name stands for this machine's programs. `config_maps` and `secrets` answer `envFrom` and
    `valueFrom`. `preload` or `zygote`: see `Zygote`. `folder` keeps logs and the kubeconfig; by default it is a
    temporary one. Other keywords are the fields of `Settings`. Raises InvalidInput for keywords that are none.
    """

    def __init__(
        self,
        nodes: Sequence[Node] = (Node("node-1", cpu=8, memory="32Gi"),),
        offerings: Sequence[Offering] = (),
        *,
        images: Mapping[str, Image] | None = None,
        config_maps: Mapping[str, Mapping[str, str]] | None = None,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        preload: Sequence[str] = (),
        zygote: Zygote | None = None,
        folder: Path | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings.of(settings)
        self._nodes, self._offerings = tuple(nodes), tuple(offerings)
        self._sources = (images or {}, config_maps or {}, secrets or {})
        self._preload, self._shared_zygote = tuple(preload), zygote
        self._kept_folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="lab cluster", daemon=True)
        self._id = uuid.uuid4().hex

    # -- life

    def start(self) -> Cluster:
        """Start the cluster."""
        self.folder = (self._kept_folder or Path(tempfile.mkdtemp(prefix="avatar-cluster-"))).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._zygote = self._shared_zygote or Zygote(self._preload)
        self._control = Port(control_app(self))
        images, config_maps, secrets = self._sources
        state = State(self._loop, self.settings, self.folder, images, config_maps, secrets)
        self._thread.start()
        try:
            self._zygote.wait_ready()
            asyncio.run_coroutine_threadsafe(self._open(state), self._loop).result(_PATIENCE)
        except BaseException:
            self.stop()
            raise
        return self

    async def _open(self, state: State) -> None:
        self._machinery = Machinery(state, self._nodes, self._offerings, self._zygote, self._id)
        self.kubeconfig = _write_kubeconfig(self.folder, self._machinery.door.url, self.settings.namespaces[0])
        await self._machinery.open(self._control)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def stop(self) -> None:
        """End the cluster and every process that it started."""
        if self._loop.is_closed():
            return
        if hasattr(self, "_machinery"):
            asyncio.run_coroutine_threadsafe(self._machinery.close(), self._loop).result(_PATIENCE)
        self._do(self._control.release)
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        if self._shared_zygote is None:
            self._zygote.close()
        else:
            processes.kill_orphans(self._zygote.pid, processes.CLUSTER_MARK, self._id, set())
        if self._kept_folder is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _do(self, call: Callable[[], T]) -> T:
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def act() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(act)
        return done.result(_PATIENCE)

    # -- reading

    @property
    def url(self) -> str:
        """Where the API is."""
        return self._machinery.door.url

    @property
    def control_url(self) -> str:
        """Where the control door is."""
        return self._control.url

    @property
    def journal(self) -> Journal:
        """What happened, and waiting for it."""
        return self._machinery.state.journal

    @property
    def events(self) -> list[Happening]:
        """What happened, in order; a copy."""
        return list(self.journal.happenings)

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """How often the API was called, by method and path; a copy."""
        return Counter(self._machinery.faulty.requests)

    @property
    def notices(self) -> Mapping[str, Mapping[str, str]]:
        """What the metadata services of nodes tell: `action` and `rebalance` times, by node."""
        return self._machinery.machines.notices

    def happenings(self, what: str, name: str | None = None) -> list[Happening]:
        """Return what happened of one sort, to one object or to any."""
        return [each for each in self.events if each.what == what and name in (None, each.name)]

    def wait_for(self, predicate: Callable[[], T], timeout: float = 10.0) -> T:
        """Return the predicate's first true value; it is asked after every change. Raises TimeoutError."""
        return self.journal.wait_for(predicate, timeout)

    def _all(self, kind: str, labels: Mapping[str, str] | None, namespace: str | None) -> list[Object]:
        wanted = (labels or {}).items()
        return [
            item
            for item in self._machinery.state.store.all(kind, namespace)
            if all(item["metadata"].get("labels", {}).get(key) == value for key, value in wanted)
        ]

    def jobs(self, *, labels: Mapping[str, str] | None = None, namespace: str | None = None) -> list[Object]:
        """Return the Jobs, oldest first."""
        return self._all("Job", labels, namespace)

    def job(self, name: str) -> Object:
        """Return a Job. Raises InvalidInput where there is none."""
        return found(self._machinery, "Job", name)

    def pods(
        self,
        *,
        job: str | None = None,
        phase: str | None = None,
        node: str | None = None,
        labels: Mapping[str, str] | None = None,
        namespace: str | None = None,
    ) -> list[Object]:
        """Return the pods, oldest first: all, or those of a Job, a phase, a node, or with labels."""
        return [
            pod
            for pod in self._all("Pod", labels, namespace)
            if job in (None, pod["metadata"].get("labels", {}).get("job-name"))
            and phase in (None, pod["status"].get("phase"))
            and node in (None, pod["spec"].get("nodeName"))
        ]

    def pod(self, name: str) -> Object:
        """Return a pod. Raises InvalidInput where there is none."""
        return found(self._machinery, "Pod", name)

    def nodes(self, *, labels: Mapping[str, str] | None = None) -> list[Object]:
        """Return the nodes."""
        return self._all("Node", labels, None)

    def node(self, name: str) -> Object:
        """Return a node. Raises InvalidInput where there is none."""
        return found(self._machinery, "Node", name)

    def logs(self, pod: str, container: str = "*") -> str:
        """Return what a pod's containers wrote, also after it is gone."""
        files = sorted(self.folder.glob(f"logs/*_{pod}_*/{container}.*.log"), key=lambda file: file.stat().st_mtime)
        return "".join(file.read_text(errors="replace") for file in files)

    def processes(self) -> list[int]:
        """Return the processes of all containers that run, with all they started."""
        pids = self._do(self._machinery.kubelet.pids)
        return sorted({each for pid in pids for each in processes.family(pid)})


async def _cancel_all() -> None:
    me = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not me]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _write_kubeconfig(folder: Path, url: str, namespace: str) -> Path:
    file = folder / "kubeconfig.yaml"
    file.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "lab", "user": {"token": "lab"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": namespace}}],
    }))  # fmt: skip
    return file
