"""`avatar lab cluster`, as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import psutil
import pytest

from avatar_pipeline.cli.cluster import read_nodes, read_offering
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.cluster import Control

COMMAND = "import typer; from avatar_pipeline.cli.cluster import cluster; typer.run(cluster)"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(ending: int) -> None:
    arguments = ["--json", "--node", "g5.xlarge:spot:us-east-1b:2"]
    with subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        told = json.loads("".join(iter(running.stdout.readline, "}\n")) + "}")
        nodes = Control(told["control"]).report("nodes")
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(ending)
        assert running.wait(10) == 0
    assert [each["metadata"]["labels"]["topology.kubernetes.io/zone"] for each in nodes] == ["us-east-1b"] * 2
    assert children
    assert not any(child.is_running() for child in children)


def test_machines_are_read_from_their_options() -> None:
    (node,) = read_nodes("m7i.xlarge")
    assert (node.cpu, node.memory, node.gpus, node.labels["karpenter.sh/capacity-type"]) == (4, "16Gi", 0, "on-demand")
    offering = read_offering("g5.12xlarge:spot:us-east-1c:3", 2.0)
    assert (offering.capacity_type, offering.zone, offering.count, offering.delay_seconds) == (
        "spot",
        "us-east-1c",
        3,
        2.0,
    )
    assert offering.node().gpus == 4


@pytest.mark.parametrize("text", ["", "g5.xlarge:cheap", "g5.xlarge:spot:a:many", "g5.xlarge:spot:a:1:more", "z9.huge"])
def test_a_machine_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_offering(text, 0)
