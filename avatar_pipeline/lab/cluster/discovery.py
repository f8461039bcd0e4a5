"""What the API server says about itself: version, groups, resources, health."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from avatar_pipeline.lab.cluster.validation import server_version

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", *_READ]


def routes(kubernetes_version: str) -> list[Route]:
    """Return the routes of discovery and health."""

    async def version(request: Request) -> Response:
        full = server_version(kubernetes_version)
        major, minor, *_ = full.split(".")
        told = {"major": major, "minor": minor, "gitVersion": f"v{full}+lab", "platform": "linux/amd64"}
        empty = dict.fromkeys(("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler"), "")
        return JSONResponse(told | empty)

    documents: dict[str, dict[str, Any]] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group("batch"), _group("events.k8s.io")]},
        "/apis/batch": {"kind": "APIGroup", "apiVersion": "v1", **_group("batch")},
        "/apis/events.k8s.io": {"kind": "APIGroup", "apiVersion": "v1", **_group("events.k8s.io")},
        "/api/v1": _resources("v1", [
            ("pods", "Pod", True, _WRITE), ("pods/status", "Pod", True, ["get"]), ("pods/log", "Pod", True, ["get"]),
            ("pods/eviction", "Eviction", True, ["create"]), ("nodes", "Node", False, _READ),
            ("namespaces", "Namespace", False, _READ), ("events", "Event", True, _READ),
        ]),
        "/apis/batch/v1": _resources("batch/v1", [
            ("jobs", "Job", True, _WRITE), ("jobs/status", "Job", True, ["get"]),
        ]),
        "/apis/events.k8s.io/v1": _resources("events.k8s.io/v1", [("events", "Event", True, _READ)]),
    }  # fmt: skip
    found = [Route(path, _always(document)) for path, document in documents.items()]
    found += [Route(path, _healthy) for path in ("/healthz", "/livez", "/readyz")]
    return [*found, Route("/version", version)]


def _always(document: dict[str, Any]) -> Any:
    async def answer(request: Request) -> Response:
        return JSONResponse(document)

    return answer


async def _healthy(request: Request) -> Response:
    return PlainTextResponse("ok")


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group_version: str, rows: list[tuple[str, str, bool, list[str]]]) -> dict[str, Any]:
    return {
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": [
            {"name": name, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": verbs}
            for name, kind, namespaced, verbs in rows
        ],
    }  # fmt: skip
