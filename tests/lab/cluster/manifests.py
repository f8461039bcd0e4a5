"""Bodies of Jobs and pods for these tests, as small as they can be."""

from __future__ import annotations

from typing import Any

FAIL_ON_DISRUPTION = {"rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
LOSE_NO_TRY = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}

UNTIL_TERM = "trap 'echo told to end; exit 9' TERM; echo up; while :; do sleep 0.02; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.02; done"


def pod_spec(script: str = "exit 0", **more: Any) -> dict[str, Any]:
    """A pod of one container that runs a shell script. `container` holds more of the container."""
    container = {"name": "main", "image": "shell:1", "command": ["/bin/sh", "-c", script], **more.pop("container", {})}
    return {"restartPolicy": "Never", "containers": [container], **more}


def job(name: str, script: str = "exit 0", *, spec: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    """A Job that is tried once unless `spec` says otherwise."""
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": {"test": name}},
        "spec": {"backoffLimit": 0, "template": {"spec": pod_spec(script, **pod)}, **(spec or {})},
    }  # fmt: skip


def pod(name: str, script: str = "exit 0", *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of its own."""
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(script, **spec)}
