"""The control door: the cluster's commands for other processes, and the instance metadata service of its nodes.

`POST /_control/<command>` with a JSON object of arguments; `GET /_control/<what>` with what: jobs, pods, nodes, events.
`/_metadata/<node>/latest/...` answers as EC2's metadata service: spot/instance-action, recommendations/rebalance, ...
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from avatar_pipeline.errors import AvatarError, EnvironmentProblem, InvalidInput
from avatar_pipeline.lab.cluster.nodes import CAPACITY_TYPE, INSTANCE_TYPE, ZONE, Node, Taint

if TYPE_CHECKING:
    from avatar_pipeline.lab.cluster.cluster import Cluster

COMMANDS = frozenset({
    "reclaim", "rebalance", "drain", "shutdown", "kill", "cordon", "uncordon", "taint", "add_node", "remove_node",
    "evict", "preempt", "press", "kill_pod", "oom", "signal_pod", "delete_pod", "delete_job", "withhold", "restore",
    "fail_pulls", "mend_pulls", "start_delay", "outage", "end_outage", "drop", "delay", "fail",
})  # fmt: skip
_LABELS = {"meta-data/instance-type": INSTANCE_TYPE, "meta-data/placement/availability-zone": ZONE}


def control_app(cluster: Cluster) -> Starlette:
    """Return the application of the control door."""
    from starlette.concurrency import run_in_threadpool

    async def command(request: Request) -> Response:
        name = request.path_params["command"]
        try:
            arguments = json.loads(await request.body() or b"{}")
            if name not in COMMANDS:
                raise InvalidInput(
                    f"There is no command {name!r}.", remedy=f"Commands are {', '.join(sorted(COMMANDS))}."
                )
            # In a thread: commands wait for the loop that serves this call.
            await run_in_threadpool(lambda: getattr(cluster, name)(**_read(name, arguments)))
        except (AvatarError, TypeError, ValueError) as error:
            told = error.as_dict() if isinstance(error, AvatarError) else {"message": str(error)}
            return JSONResponse(told, 400)
        return JSONResponse({"done": name})

    async def report(request: Request) -> Response:
        what = request.path_params["command"]
        if what == "events":
            found: list[Any] = [
                {"at": each.at, "time": each.time.isoformat(), "what": each.what, "name": each.name, **each.detail}
                for each in cluster.events
            ]
        elif what in ("jobs", "pods", "nodes"):
            found = getattr(cluster, what)()
        else:
            return JSONResponse({"message": f"There is no report {what!r}."}, 404)
        return JSONResponse(found)

    async def metadata(request: Request) -> Response:
        return _metadata(cluster, request.path_params["node"], request.path_params["path"])

    return Starlette(routes=[
        Route("/_control/{command}", command, methods=["POST"]), Route("/_control/{command}", report),
        Route("/_metadata/{node}/latest/{path:path}", metadata, methods=["GET", "PUT"]),
    ])  # fmt: skip


def _read(command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Turn the JSON of nodes and taints into what the commands take."""
    if command == "add_node" and isinstance(arguments.get("node"), dict):
        arguments["node"] = Node(**arguments["node"])
    if command == "taint" and isinstance(arguments.get("taint"), dict):
        arguments["taint"] = Taint(**arguments["taint"])
    return arguments


def _metadata(cluster: Cluster, name: str, path: str) -> Response:
    """Answer for a node's metadata service; what it does not know, and a notice that was not given, is a 404."""
    notice = cluster.notices.get(name, {})
    told = {"api/token": "lab-token"}
    if "action" in notice:
        told["meta-data/spot/instance-action"] = json.dumps({"action": "terminate", "time": notice["action"]})
        told["meta-data/spot/termination-time"] = notice["action"]
    if "rebalance" in notice:
        told["meta-data/events/recommendations/rebalance"] = json.dumps({"noticeTime": notice["rebalance"]})
    for node in cluster.nodes():
        if node["metadata"]["name"] == name:
            labels = node["metadata"]["labels"]
            told |= {where: labels.get(label, "") for where, label in _LABELS.items()}
            told["meta-data/instance-life-cycle"] = "spot" if labels.get(CAPACITY_TYPE) == "spot" else "on-demand"
            told["meta-data/instance-id"] = node["spec"]["providerID"].rpartition("/")[2]
    return PlainTextResponse(told.get(path, ""), 200 if path in told else 404)


class Control:
    """The control door of a cluster in another process, as in `Control(url).command("reclaim", node="gpu-1")`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def command(self, name: str, **arguments: Any) -> None:
        """Give a command. Raises InvalidInput where it is refused."""
        self._ask(name, json.dumps(arguments).encode())

    def report(self, what: str) -> list[dict[str, Any]]:
        """Return `jobs`, `pods`, `nodes` or `events`. Raises InvalidInput for anything else."""
        found: list[dict[str, Any]] = self._ask(what, None)
        return found

    def _ask(self, name: str, body: bytes | None) -> Any:
        request = urllib.request.Request(f"{self.url}/_control/{name}", data=body)  # noqa: S310 (a url of ours)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            told = json.load(error)
            raise InvalidInput(
                f"The cluster refused {name!r}: {told.get('message')}", remedy=told.get("remedy", "Mend the call.")
            ) from error
        except urllib.error.URLError as error:
            raise EnvironmentProblem(
                f"No cluster answers at {self.url}: {error.reason}.", remedy="Start one with `avatar lab cluster`."
            ) from error
