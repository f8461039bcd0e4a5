"""`avatar lab cluster`: a simulated Kubernetes in the foreground, for trying executors out by hand."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table

from avatar_pipeline.cli import console
from avatar_pipeline.cli.options import AsJson
from avatar_pipeline.errors import EnvironmentProblem, InvalidInput

if TYPE_CHECKING:
    from avatar_pipeline.lab.cluster import Cluster, Node, Offering

_DEFAULT_NODES = ["m7i.2xlarge", "g5.xlarge:spot"]
_LOOK_SECONDS = 0.5


def cluster(
    node: Annotated[
        list[str] | None,
        typer.Option(help="A node, as TYPE[:spot|on-demand[:ZONE[:COUNT]]]; may be repeated."),
    ] = None,
    offering: Annotated[
        list[str] | None,
        typer.Option(help="What may be bought when a pod fits nowhere, written as a node; may be repeated."),
    ] = None,
    delay: Annotated[float, typer.Option(help="Seconds until a bought node is there.", min=0)] = 5.0,
    folder: Annotated[
        Path | None, typer.Option(help="Where logs and the kubeconfig go; else a temporary folder.")
    ] = None,
    preload: Annotated[
        str, typer.Option(help="Modules to import once, so that Python containers start at once, as a,b,c.")
    ] = "",
    live: Annotated[bool, typer.Option(help="Show nodes and pods.")] = True,
    as_json: AsJson = False,
) -> None:
    """Run a simulated Kubernetes cluster until Ctrl-C. Its containers are processes of this machine."""
    try:
        from avatar_pipeline.lab.cluster import Cluster
    except ImportError as error:
        raise EnvironmentProblem(
            f"The package {error.name!r} cannot be imported.", remedy="Install it: pip install 'avatar-pipeline[lab]'."
        ) from error
    nodes = [each for text in node or _DEFAULT_NODES for each in read_nodes(text)]
    offerings = [read_offering(text, delay) for text in offering or []]
    modules = tuple(filter(None, preload.split(",")))
    # A SIGTERM ends it like Ctrl-C, so that no container outlives it.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = Cluster(nodes, offerings, preload=modules, folder=folder, default_grace_seconds=30)
    try:
        with running:
            _tell(running, as_json=as_json)
            _stay(running, show=live and not as_json and console.out.is_terminal)
    except KeyboardInterrupt:
        if not as_json:
            console.out.print("The cluster has ended, with all its processes.")
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(running: Cluster, *, as_json: bool) -> None:
    told = {"kubeconfig": str(running.kubeconfig), "api": running.url, "control": running.control_url}
    if as_json:
        console.say_json(told)
        sys.stdout.flush()  # who reads it through a pipe waits for it
        return
    console.out.print(f"KUBECONFIG={running.kubeconfig}", soft_wrap=True)
    example = f'curl -d \'{{"node": "..."}}\' {running.control_url}/_control/reclaim'
    console.out.print(f"Disturb it, for example: {example}", soft_wrap=True)


def _stay(running: Cluster, *, show: bool) -> None:
    if not show:
        while True:
            time.sleep(3600)
    with Live(_picture(running), console=console.out, auto_refresh=False) as screen:
        while True:
            time.sleep(_LOOK_SECONDS)
            screen.update(_picture(running), refresh=True)


def _picture(running: Cluster) -> Group:
    nodes = Table("node", "type", "zone", "capacity", "GPUs", "ready", box=None)
    for node in running.nodes():
        labels: dict[str, str] = node["metadata"]["labels"]
        ready = next((each["status"] for each in node["status"]["conditions"] if each["type"] == "Ready"), "")
        nodes.add_row(
            node["metadata"]["name"],
            labels.get("node.kubernetes.io/instance-type", ""),
            labels.get("topology.kubernetes.io/zone", ""),
            labels.get("karpenter.sh/capacity-type", ""),
            node["status"]["allocatable"].get("nvidia.com/gpu", "0"),
            ready,
        )
    pods = Table("pod", "node", "phase", "state", box=None)
    for pod in running.pods():
        pods.add_row(pod["metadata"]["name"], pod["spec"].get("nodeName", ""), pod["status"]["phase"], _state(pod))
    return Group(nodes, "", pods)


def _state(pod: dict[str, Any]) -> str:
    """Return what is most worth knowing of a pod's containers."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for status in pod["status"].get("containerStatuses", ()):
        for state in status["state"].values():
            if reason := state.get("reason"):
                return str(reason)
    return ""


def read_nodes(text: str) -> list[Node]:
    """Return the nodes that an option describes. Raises InvalidInput where it cannot be read."""
    from avatar_pipeline.lab.cluster import Node

    instance_type, capacity_type, zone, count = _parts(text)
    return [Node.of(instance_type, zone=zone, capacity_type=capacity_type) for _ in range(count)]


def read_offering(text: str, delay_seconds: float) -> Offering:
    """Return the offering that an option describes. Raises InvalidInput where it cannot be read."""
    from avatar_pipeline.lab.cluster import Offering
    from avatar_pipeline.lab.cluster.nodes import instance_size

    instance_type, capacity_type, zone, count = _parts(text)
    instance_size(instance_type)
    return Offering(instance_type, zone, capacity_type, count, delay_seconds)


def _parts(text: str) -> tuple[str, str, str, int]:
    instance_type, capacity_type, zone, count, *more = [*text.split(":"), *([""] * (4 - len(text.split(":"))))]
    capacity_type, zone, count = capacity_type or "on-demand", zone or "us-east-1a", count or "1"
    if more or capacity_type not in ("spot", "on-demand") or not count.isdigit() or not instance_type:
        raise InvalidInput(
            f"{text!r} describes no machine.",
            remedy="Write TYPE, TYPE:spot, TYPE:spot:ZONE or TYPE:spot:ZONE:COUNT, as in g5.xlarge:spot:us-east-1a:2.",
        )
    return instance_type, capacity_type, zone, int(count)
