"""The API server: the Batch/Core subset that executors and operators use, as a Starlette application."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from avatar_pipeline.lab.cluster import discovery
from avatar_pipeline.lab.cluster.defaults import default_job, default_pod, name_it, without_nulls
from avatar_pipeline.lab.cluster.deletion import Deletion
from avatar_pipeline.lab.cluster.kubelet import Kubelet
from avatar_pipeline.lab.cluster.machines import EVICTION, Machines
from avatar_pipeline.lab.cluster.pod_logs import pod_log
from avatar_pipeline.lab.cluster.refusals import Refusal, bad_request
from avatar_pipeline.lab.cluster.selecting import field_selector, label_selector
from avatar_pipeline.lab.cluster.state import State, as_events_v1
from avatar_pipeline.lab.cluster.store import Object
from avatar_pipeline.lab.cluster.validation import check_types, check_values
from avatar_pipeline.lab.cluster.watching import watch

ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)
_PROPAGATIONS = ("Orphan", "Background", "Foreground")
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of the API: its name in paths, its group and version, and whether it lives in namespaces."""

    kind: str
    plural: str
    api_version: str
    namespaced: bool = True

    @property
    def prefix(self) -> str:
        """The path of its group and version."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"


JOBS = Resource("Job", "jobs", "batch/v1")
PODS = Resource("Pod", "pods", "v1")
NODES = Resource("Node", "nodes", "v1", namespaced=False)
NAMESPACES = Resource("Namespace", "namespaces", "v1", namespaced=False)
EVENTS = Resource("Event", "events", "v1")
EVENTS_V1 = Resource("Event", "events", "events.k8s.io/v1")
RESOURCES = (JOBS, PODS, NODES, NAMESPACES, EVENTS, EVENTS_V1)


class Api:
    """The handlers. `app` is the application."""

    def __init__(self, state: State, deletion: Deletion, kubelet: Kubelet, machines: Machines) -> None:
        self._state = state
        self._store = state.store
        self._deletion = deletion
        self._kubelet = kubelet
        self._machines = machines
        self.app = Starlette(routes=list(self._routes()), exception_handlers={Refusal: _refused, HTTPException: _lost})

    def _routes(self) -> list[Route]:
        routes = discovery.routes(self._state.settings.kubernetes_version)
        for resource in RESOURCES:
            every = f"{resource.prefix}/{resource.plural}"
            inside = f"{resource.prefix}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else every
            one = f"{inside}/{{name}}"
            routes.append(Route(one, self._for(resource, self._read)))
            routes.append(Route(inside, self._for(resource, self._list)))
            if resource.namespaced:
                routes.append(Route(every, self._for(resource, self._list)))
            if resource in (JOBS, PODS):
                routes.append(Route(inside, self._for(resource, self._create), methods=["POST"]))
                routes.append(Route(inside, self._for(resource, self._delete_collection), methods=["DELETE"]))
                routes.append(Route(one, self._for(resource, self._delete), methods=["DELETE"]))
            if resource in (JOBS, PODS, NODES):
                routes.append(Route(f"{one}/status", self._for(resource, self._read)))
        pod = "/api/v1/namespaces/{namespace}/pods/{name}"
        routes.append(Route(f"{pod}/log", self._log))
        routes.append(Route(f"{pod}/eviction", self._evict, methods=["POST"]))
        return routes

    def _for(self, resource: Resource, handler: Callable[[Resource, Request], Awaitable[Response]]) -> Handler:
        async def handle(request: Request) -> Response:
            return await handler(resource, request)

        return handle

    def _get(self, resource: Resource, request: Request) -> Object:
        return self._store.get(resource.kind, request.path_params.get("namespace", ""), request.path_params["name"])

    async def _read(self, resource: Resource, request: Request) -> Response:
        return JSONResponse(_shown(resource, self._get(resource, request)))

    async def _list(self, resource: Resource, request: Request) -> Response:
        query = request.query_params
        labels, fields = (
            label_selector(query.get("labelSelector")),
            field_selector(resource.kind, query.get("fieldSelector")),
        )
        namespace = request.path_params.get("namespace")

        def chosen(item: Object) -> bool:
            inside = namespace in (None, item["metadata"].get("namespace"))
            return inside and labels(item["metadata"].get("labels", {})) and fields(item)

        if _truth(query.get("watch")):
            return watch(self._store, resource.kind, query, chosen, lambda item: _shown(resource, item))
        items = [_shown(resource, item) for item in self._store.all(resource.kind) if chosen(item)]
        items.sort(key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))
        metadata: Object = {"resourceVersion": str(self._store.version)}
        if limit := int(query.get("limit") or 0):
            start = int(query.get("continue") or 0)
            left = len(items) - start - limit
            items = items[start : start + limit]
            if left > 0:
                metadata |= {"continue": str(start + limit), "remainingItemCount": left}
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
        return JSONResponse(head | {"items": items})

    async def _create(self, resource: Resource, request: Request) -> Response:
        namespace = request.path_params["namespace"]
        self._store.get("Namespace", "", namespace)
        body = await _body(request)
        check_types(body, resource.kind, resource.api_version, self._state.settings.kubernetes_version)
        body = without_nulls(body)
        stated = body.get("metadata", {}).get("namespace")
        if stated not in (None, "", namespace):
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request "
                f"({stated}, {namespace})"
            )
        body |= {"apiVersion": resource.api_version, "kind": resource.kind}
        name_it(body, namespace)
        if not body["metadata"].get("name"):
            raise Refusal(422, "Invalid", "resource name may not be empty: name or generateName is required")
        check_values(body, resource.kind)
        grace = self._state.settings.default_grace_seconds
        if resource is JOBS:
            default_job(body, str(uuid.uuid4()), grace)
        else:
            default_pod(body, grace)
        if request.query_params.get("dryRun"):
            return JSONResponse(body, 201)
        return JSONResponse(self._store.create(resource.kind, body), 201)

    async def _delete(self, resource: Resource, request: Request) -> Response:
        item = self._get(resource, request)
        options = await self._options(request)
        if uid := options.get("preconditions", {}).get("uid"):
            found = item["metadata"]["uid"]
            if uid != found:
                told = f"the UID in the precondition ({uid}) does not match the UID in record ({found})"
                raise Refusal(
                    409, "Conflict", f"Precondition failed: {told}. The object might have been deleted and recreated"
                )
        return self._delete_one(resource, item, options)

    async def _delete_collection(self, resource: Resource, request: Request) -> Response:
        query, options = request.query_params, await self._options(request)
        labels, fields = (
            label_selector(query.get("labelSelector")),
            field_selector(resource.kind, query.get("fieldSelector")),
        )
        gone = [
            item
            for item in self._store.all(resource.kind, request.path_params["namespace"])
            if labels(item["metadata"].get("labels", {})) and fields(item)
        ]
        for item in gone:
            self._delete_one(resource, item, options)
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
        return JSONResponse(head | {"metadata": {"resourceVersion": str(self._store.version)}, "items": gone})

    def _delete_one(self, resource: Resource, item: Object, options: Object) -> Response:
        if resource is PODS:
            return JSONResponse(self._deletion.pod(item, options.get("gracePeriodSeconds")))
        # Jobs of batch/v1 leave their pods behind where nothing else is asked for, for the sake of old clients.
        propagation = options.get("propagationPolicy") or (
            "Orphan" if options.get("orphanDependents", True) else "Background"
        )
        if propagation not in _PROPAGATIONS:
            raise bad_request(f'invalid propagationPolicy: "{propagation}"')
        warned = "propagationPolicy" not in options and "orphanDependents" not in options
        headers = {"Warning": f'299 - "{ORPHANS}"'} if warned else {}
        left = self._deletion.job(item, propagation)
        if propagation == "Foreground" and self._store.find(
            "Job", item["metadata"]["namespace"], item["metadata"]["name"]
        ):
            return JSONResponse(left)
        details = {"name": item["metadata"]["name"], "group": "batch", "kind": "jobs", "uid": item["metadata"]["uid"]}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return JSONResponse(status, headers=headers)

    async def _options(self, request: Request) -> Object:
        options = without_nulls(await _body(request)) if await request.body() else {}
        query = request.query_params
        if grace := query.get("gracePeriodSeconds"):
            options["gracePeriodSeconds"] = int(grace)
        if propagation := query.get("propagationPolicy"):
            options["propagationPolicy"] = propagation
        return options

    async def _log(self, request: Request) -> Response:
        pod = self._get(PODS, request)
        return pod_log(self._kubelet, pod, request.query_params)

    async def _evict(self, request: Request) -> Response:
        pod = self._get(PODS, request)
        options = without_nulls(await _body(request)).get("deleteOptions", {})
        self._machines.disrupt(pod, EVICTION, grace_seconds=options.get("gracePeriodSeconds"))
        return JSONResponse(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201
        )


async def _body(request: Request) -> Any:
    try:
        return await request.json()
    except ValueError as error:
        raise bad_request(f"the body is not JSON: {error}") from error


def _truth(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1")


def _shown(resource: Resource, item: Object) -> Object:
    return as_events_v1(item) if resource is EVENTS_V1 else item


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return JSONResponse(error.as_status(), error.code)


async def _lost(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        refusal = Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    else:
        refusal = Refusal(404, "NotFound", "the server could not find the requested resource")
    return JSONResponse(refusal.as_status(), refusal.code)
