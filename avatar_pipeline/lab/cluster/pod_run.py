"""One pod on its node, from ContainerCreating to its end."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import signal
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatar_pipeline.lab.cluster import pod_status, processes
from avatar_pipeline.lab.cluster.containers import ConfigError, command_line, environment, folder, is_image_name
from avatar_pipeline.lab.cluster.images import pull_message
from avatar_pipeline.lab.cluster.launcher import Launch, NotFound
from avatar_pipeline.lab.cluster.quantities import parse_quantity
from avatar_pipeline.lab.cluster.store import Object

if TYPE_CHECKING:
    from avatar_pipeline.lab.cluster.kubelet import Kubelet

Container = dict[str, Any]


@dataclass(slots=True)
class Running:
    """A container's process. `ended` gets its exit code, negative for a signal."""

    identity: str
    started: asyncio.Future[tuple[int | None, str]]
    ended: asyncio.Future[int]
    pid: int | None = None
    out_of_memory: bool = False


@dataclass(slots=True)
class PodRun:
    """A pod that a kubelet runs. `lost` says that its machine is gone: nobody writes its status any more."""

    kubelet: Kubelet
    pod: Object
    statuses: dict[str, Object] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False
    reason: tuple[str, str] = ("", "")
    kill_at: float = float("inf")
    _kill: asyncio.TimerHandle | None = None

    @property
    def uid(self) -> str:
        """The pod's uid."""
        return str(self.pod["metadata"]["uid"])

    @property
    def name(self) -> str:
        """The pod's name."""
        return str(self.pod["metadata"]["name"])

    @property
    def node(self) -> str:
        """The name of its node."""
        return str(self.pod["spec"]["nodeName"])

    def pids(self) -> list[int]:
        """Return the first process of each container that runs."""
        return [each.pid for each in self.running.values() if each.pid is not None and not each.ended.done()]

    async def run(self) -> None:
        """Run the pod to its end."""
        spec = self.pod["spec"]
        inits: list[Container] = spec.get("initContainers") or []
        for container in inits + spec["containers"]:
            first = "PodInitializing" if inits and container not in inits else "ContainerCreating"
            self.statuses[container["name"]] = pod_status.fresh_status(container, first)
        self.write()
        if deadline := spec.get("activeDeadlineSeconds"):
            told = "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
            self.kubelet.state.later(deadline, self.stop, spec["terminationGracePeriodSeconds"], told)
        for container in inits:
            if await self._lead(container, init=True) != 0:
                break
        else:
            await asyncio.gather(*(self._lead(container) for container in spec["containers"]))
        if self._kill:
            self._kill.cancel()
        self.write(over=True)

    def write(self, *, over: bool = False) -> None:
        """Write what the kubelet knows into the pod's status, unless the machine is gone."""
        if self.lost:
            return
        statuses, (reason, message) = copy.deepcopy(self.statuses), self.reason
        self.kubelet.state.store.update(
            self.pod, "Pod", lambda pod: pod_status.apply(pod, statuses, over=over, reason=reason, message=message)
        )

    def stop(self, grace_seconds: float, reason: tuple[str, str] | None = None) -> None:
        """End the pod: SIGTERM now, SIGKILL after the grace period. Asked again, the earlier end counts."""
        if reason and not self.stopping.is_set():
            self.reason = reason
        loop = self.kubelet.state.loop
        if not self.stopping.is_set():
            self.stopping.set()
            for container, each in self.running.items():
                self._terminate(container, each)
        if loop.time() + grace_seconds < self.kill_at:
            self.kill_at = loop.time() + grace_seconds
            if self._kill:
                self._kill.cancel()
            self._kill = self.kubelet.state.later(grace_seconds, self.kill)

    def lose(self) -> None:
        """Go with the machine: the processes are killed by the caller, and nobody writes a status any more."""
        if self.lost:
            return
        self.lost = True
        self.stopping.set()
        for name, each in self.running.items():
            if each.pid is not None and not each.ended.done():
                self._note_signal(name, signal.SIGKILL)

    def kill(self, container: str | None = None, *, out_of_memory: bool = False) -> None:
        """Kill the processes of one container, or of all."""
        for name, each in self.running.items():
            if container in (None, name) and each.pid is not None and not each.ended.done():
                each.out_of_memory |= out_of_memory
                self._note_signal(name, signal.SIGKILL)
                processes.kill_all([each.pid])

    def signal(self, number: int) -> None:
        """Send a signal to the first process of each container."""
        for name, each in self.running.items():
            if each.pid is not None and not each.ended.done():
                self._note_signal(name, number)
                processes.send(each.pid, number)

    def _terminate(self, container: str, running: Running) -> None:
        if running.pid is not None and not running.ended.done() and not self.lost:
            self._event("Killing", f"Stopping container {container}")
            self._note_signal(container, signal.SIGTERM)
            processes.send(running.pid, signal.SIGTERM)

    def _note_signal(self, container: str, number: int) -> None:
        name = signal.Signals(number).name
        self.kubelet.state.journal.add("signal_sent", self.name, container=container, signal=name)

    async def _lead(self, container: Container, *, init: bool = False) -> int | None:
        """Start a container as often as its policy wants. Returns its last exit code, None if it never started."""
        status = self.statuses[container["name"]]
        policy = self.pod["spec"]["restartPolicy"]
        settings = self.kubelet.state.settings
        code: int | None = None
        while not self.stopping.is_set():
            env = await self._prepare(container, status)
            if env is None:
                break
            code = await self._execute(container, status, env)
            again = (policy == "Always" and not init) or (policy != "Never" and code != 0)
            if not again or self.stopping.is_set():
                break
            status["restartCount"] += 1
            pause = min(settings.restart_backoff_seconds * 2 ** (status["restartCount"] - 1), 300.0)
            told = f"back-off {pause:g}s restarting failed container={container['name']} pod={self.name}"
            pod_status.waiting(status, "CrashLoopBackOff", told)
            self.write()
            await self._pause(pause)
        return code

    async def _prepare(self, container: Container, status: Object) -> dict[str, str] | None:
        """Pull the image and put the environment together. Returns None where the pod is ended meanwhile."""
        state, images, name = self.kubelet.state, self.kubelet.images, container["image"]
        if await self._pause(images.seconds(name)):
            return None
        while problem := (None if is_image_name(name) else "InvalidImageName") or images.problem(name):
            message = pull_message(name, problem)
            self._event("Failed", f'Failed to pull image "{name}": {message}', warning=True)
            self._event("Failed", f"Error: {problem}", warning=True)
            self._wait(status, problem, message)
            if await self._pause(state.settings.pull_backoff_seconds):
                return None
            if problem in ("ErrImagePull", "RegistryUnavailable"):
                self._event("BackOff", f'Back-off pulling image "{name}"')
                self._wait(status, "ImagePullBackOff", f'Back-off pulling image "{name}": {problem}: {message}')
                if await self._pause(state.settings.pull_backoff_seconds):
                    return None
        while True:
            try:
                return environment(
                    container, self.pod, images.get(name), given=self.kubelet.given(self.node),
                    config_maps=state.config_maps, secrets=state.secrets,
                )  # fmt: skip
            except ConfigError as error:
                self._event("Failed", f"Error: {error}", warning=True)
                self._wait(status, "CreateContainerConfigError", str(error))
                if await self._pause(state.settings.pull_backoff_seconds):
                    return None

    def _wait(self, status: Object, reason: str, message: str) -> None:
        pod_status.waiting(status, reason, message)
        self.write()

    async def _execute(self, container: Container, status: Object, env: dict[str, str]) -> int:
        """Run a container once. Returns its exit code."""
        name, kubelet = container["name"], self.kubelet
        running = Running(uuid.uuid4().hex, kubelet.state.loop.create_future(), kubelet.state.loop.create_future())
        log = kubelet.log_file(self.pod, name, status["restartCount"])
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        image = kubelet.images.get(container["image"])
        own = kubelet.state.folder / "containers" / running.identity
        launch = Launch(
            command_line(container, image, env), env | {processes.CONTAINER_MARK: running.identity},
            str(folder(container, image, own)), log,
        )  # fmt: skip
        try:
            kubelet.start(launch, running)
            running.pid, problem = await running.started
        except (NotFound, IndexError) as error:
            problem = f'exec: "{error}": executable file not found in $PATH' if launch.argv else "no command specified"
        if running.pid is None:
            message = (
                f"failed to create containerd task: failed to create shim task: OCI runtime create failed: {problem}"
            )
            self._event("Failed", f"Error: {message}", warning=True)
            pod_status.terminated(status, 128, "StartError", message)
            self.write()
            return 128
        self.running[name] = running
        kubelet.state.journal.add("container_started", self.name, container=name, pid=running.pid, node=self.node)
        pod_status.running(status, f"lab://{running.identity}")
        self._event("Started", f"Started container {name}")
        self.write()
        if self.stopping.is_set():  # ended while it was being started
            self._terminate(name, running)
            if self.lost or kubelet.state.loop.time() >= self.kill_at:
                self.kill(name)
        watch = self._memory_watch(container, running)
        code = await running.ended
        if watch:
            watch.cancel()
        self._tidy(running)
        return self._note_end(name, status, running, code)

    def _note_end(self, name: str, status: Object, running: Running, code: int) -> int:
        code = pod_status.exit_code(code)
        reason = "OOMKilled" if running.out_of_memory else "Completed" if code == 0 else "Error"
        pod_status.terminated(status, code, reason)
        self.kubelet.state.journal.add("container_ended", self.name, container=name, exit_code=code, reason=reason)
        self.write()
        return code

    def _tidy(self, running: Running) -> None:
        if running.pid is not None:
            processes.kill_group(running.pid)
            known = self.kubelet.pids()
            processes.kill_orphans(self.kubelet.zygote.pid, processes.CONTAINER_MARK, running.identity, set(known))

    def _memory_watch(self, container: Container, running: Running) -> asyncio.Task[None] | None:
        seconds = self.kubelet.state.settings.memory_watch_seconds
        limit = (container.get("resources") or {}).get("limits", {}).get("memory")
        if seconds is None or limit is None:
            return None
        most = parse_quantity(limit)

        async def watch() -> None:
            while running.pid is not None and processes.memory_of(running.pid) <= most:
                await asyncio.sleep(seconds)
            self.kill(container["name"], out_of_memory=True)

        return self.kubelet.state.loop.create_task(watch())

    async def _pause(self, seconds: float) -> bool:
        """Wait; True where the pod is to end."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        if not self.lost:
            self.kubelet.state.record(self.pod, "Pod", reason, message, by="kubelet", warning=warning)


def log_folder(root: Path, namespace: str, name: str, uid: str) -> Path:
    """Return where a pod's logs are."""
    return root / "logs" / f"{namespace}_{name}_{uid}"
