"""How a kubelet writes a pod's status: container states, phase, conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avatar_pipeline.lab.cluster.defaults import now
from avatar_pipeline.lab.cluster.state import set_condition
from avatar_pipeline.lab.cluster.store import Object

UNKNOWN = {
    "exitCode": 137, "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}  # fmt: skip


def exit_code(code: int) -> int:
    """Return an exit code as containers have it: 128 + the signal that ended the process."""
    return 128 - code if code < 0 else code


def fresh_status(container: Mapping[str, Any], waiting: str) -> Object:
    """Return the status of a container that has not started."""
    return {
        "name": container["name"], "image": container["image"], "imageID": "", "ready": False, "started": False,
        "restartCount": 0, "state": {"waiting": {"reason": waiting}}, "lastState": {},
    }  # fmt: skip


def waiting(status: Object, reason: str, message: str = "") -> None:
    """Let a container wait, in place."""
    ended = status["state"].get("terminated")
    if ended:
        status["lastState"] = {"terminated": ended}
    status["state"] = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
    status["ready"] = status["started"] = False


def running(status: Object, container_id: str) -> None:
    """Let a container run, in place."""
    ended = status["state"].get("terminated")
    if ended:
        status["lastState"] = {"terminated": ended}
    status["state"] = {"running": {"startedAt": now()}}
    status |= {"ready": True, "started": True, "containerID": container_id, "imageID": f"lab://{status['image']}"}


def terminated(status: Object, code: int, reason: str, message: str = "") -> None:
    """Let a container have ended, in place."""
    began = status["state"].get("running", {}).get("startedAt")
    ended: Object = {"exitCode": code, "reason": reason, "finishedAt": now(), "startedAt": began or now()}
    if code > 128:
        ended["signal"] = code - 128
    if message:
        ended["message"] = message
    if "containerID" in status:
        ended["containerID"] = status["containerID"]
    status["state"] = {"terminated": ended}
    status["ready"] = status["started"] = False


def apply(pod: Object, statuses: Mapping[str, Object], *, over: bool, reason: str = "", message: str = "") -> None:
    """Write container statuses, phase and conditions into a pod, in place.

    `over` says that the kubelet is done with it: then the phase is final. With a `reason` it is Failed in any case.
    """
    status = pod["status"]
    names = {
        "initContainerStatuses": [each["name"] for each in pod["spec"].get("initContainers") or ()],
        "containerStatuses": [each["name"] for each in pod["spec"]["containers"]],
    }
    for field, members in names.items():
        if members:
            status[field] = [statuses[name] for name in members]
    mains = [statuses[name] for name in names["containerStatuses"]]
    status.setdefault("startTime", now())
    status |= {"hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    inits = [statuses[name] for name in names["initContainerStatuses"]]
    initialized = all(each["state"].get("terminated", {}).get("exitCode") == 0 for each in inits)
    set_condition(pod, "Initialized", "True" if initialized else "False")
    if over:
        _finish(pod, mains, reason, message)
        return
    if any("running" in each["state"] or "terminated" in each["state"] for each in mains):
        status["phase"] = "Running"
    ready = all("running" in each["state"] for each in mains)
    why = (
        {}
        if ready
        else {"reason": "ContainersNotReady", "message": f"containers with unready status: {_unready(mains)}"}
    )
    for condition in ("Ready", "ContainersReady"):
        set_condition(pod, condition, "True" if ready else "False", **why)


def _unready(mains: list[Object]) -> str:
    return f"[{' '.join(each['name'] for each in mains if 'running' not in each['state'])}]"


def _finish(pod: Object, mains: list[Object], reason: str, message: str) -> None:
    status = pod["status"]
    for each in [*status.get("initContainerStatuses", ()), *mains]:
        if "terminated" not in each["state"]:
            each["state"] = {"terminated": dict(UNKNOWN)}
            each["ready"] = each["started"] = False
    fine = all(each["state"]["terminated"]["exitCode"] == 0 for each in mains) and not reason
    status["phase"] = "Succeeded" if fine else "Failed"
    if reason:
        status["reason"], status["message"] = reason, message
    for condition in ("Ready", "ContainersReady"):
        set_condition(pod, condition, "False", "PodCompleted" if fine else "PodFailed")
