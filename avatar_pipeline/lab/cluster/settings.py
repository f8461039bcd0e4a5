"""How the simulated cluster behaves. The times are short, for tests; Kubernetes' own values stand beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from avatar_pipeline.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Image:
    """What an image name stands for: the host's own programs, with this environment.

    `env` is under the container's own; `path` comes before the folder of this Python on the PATH.
    `working_directory` is where containers start that name none; by default each has an empty folder of its own.
    `entrypoint` is what `args` without a `command` are given to. `pull_seconds` is how long a container of it is
    ContainerCreating.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    working_directory: Path | str | None = None
    path: tuple[Path | str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    pull_seconds: float = 0.0

    def search_path(self) -> str:
        """Return the PATH of its containers."""
        folders = [*map(str, self.path), str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        return os.pathsep.join(folders)


@dataclass(frozen=True, slots=True)
class Settings:
    """The cluster's times and habits."""

    namespaces: tuple[str, ...] = ("default", "kube-system")
    """Namespaces that exist. The first is that of the kubeconfig."""
    kubernetes_version: str = ""
    """Version whose types bodies are checked against, such as `1.37`; the newest known where empty."""
    default_grace_seconds: int = 30
    """`terminationGracePeriodSeconds` of pods that state none (30, as the API server has it)."""
    job_backoff_seconds: float = 0.05
    """Wait before a failed pod of a Job is replaced; doubles with each failure (10 s)."""
    job_backoff_limit_seconds: float = 2.0
    """Longest such wait (6 min)."""
    restart_backoff_seconds: float = 0.1
    """Wait before a container is restarted in place (10 s, doubling to 5 min)."""
    pull_backoff_seconds: float = 0.1
    """Time between two attempts to pull an image that cannot be pulled (10 s, doubling to 5 min)."""
    scheduling_seconds: float = 0.0
    """Time between a pod's creation and the scheduler's first look at it."""
    autoscaler_seconds: float = 0.05
    """Time until the autoscaler looks at a pod that fits nowhere; then the offering's own delay (10 s)."""
    node_monitor_grace_seconds: float = 0.3
    """Time until a node that went silent is told to be NotReady (40 s)."""
    unreachable_toleration_seconds: float = 0.2
    """How long pods without a toleration of their own stay on such a node (300 s)."""
    node_removal_seconds: float = 0.5
    """Time from NotReady until the cloud controller removes the node of a machine that is gone (5 s)."""
    pod_gc_seconds: float = 0.1
    """Time from a node's removal until the pods on it are failed and removed (40 s)."""
    eviction_seconds: float = 0.0
    """Time from a drain or reclaim until its pods are evicted."""
    instance_metadata: bool = True
    """Whether pods are told of their node's instance metadata service, as on EC2."""
    memory_watch_seconds: float | None = None
    """How often memory limits are looked at; where None they are not enforced. Over it: OOMKilled."""
    idle_node_seconds: float | None = None
    """How long an autoscaled node may be empty before it is removed; where None it stays."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Settings:
        """Return settings from keywords. Raises InvalidInput for a name that is no setting."""
        known = {each.name for each in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidInput(
                f"The cluster has no setting {unknown[0]!r}.", remedy=f"Settings are {', '.join(sorted(known))}."
            )
        return cls(**values)  # type: ignore[arg-type]
