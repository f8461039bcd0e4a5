"""Pod failure policies: which rule a failed pod meets (kubernetes: pkg/controller/job/pod_failure_policy.go)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Match:
    """The rule that a pod met: its action (`FailJob`, `Ignore`, `Count`), and the message of a failed Job."""

    action: str
    message: str


def match_failure(policy: Mapping[str, Any] | None, pod: Mapping[str, Any]) -> Match | None:
    """Return the first rule that a failed pod meets, or None: then it just counts."""
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for index, rule in enumerate((policy or {}).get("rules") or ()):
        action = rule["action"]
        if codes := rule.get("onExitCodes"):
            if found := _exit_code(codes, pod):
                container, code = found
                return Match(
                    action,
                    f"Container {container} for pod {name} failed with exit code {code} matching {action} rule at "
                    f"index {index}",
                )
        elif condition := _condition(rule.get("onPodConditions") or (), pod):
            return Match(action, f"Pod {name} has condition {condition} matching {action} rule at index {index}")
    return None


def _exit_code(codes: Mapping[str, Any], pod: Mapping[str, Any]) -> tuple[str, int] | None:
    status = pod["status"]
    for container in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        ended = container.get("state", {}).get("terminated")
        if ended is None or ended["exitCode"] == 0 or codes.get("containerName") not in (None, container["name"]):
            continue
        if (ended["exitCode"] in codes["values"]) == (codes["operator"] == "In"):
            return container["name"], ended["exitCode"]
    return None


def _condition(patterns: Any, pod: Mapping[str, Any]) -> str | None:
    for condition in pod["status"].get("conditions", ()):
        for pattern in patterns:
            if pattern["type"] == condition["type"] and pattern.get("status", "True") == condition["status"]:
                return str(condition["type"])
    return None
