"""A cluster from its start to its end; its control door; and waiting for what happens."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from avatar_pipeline.errors import EnvironmentProblem, InvalidInput
from avatar_pipeline.lab.cluster import Cluster, Control, Node, Offering, Zygote
from tests.lab.cluster.client import Client
from tests.lab.cluster.conftest import Start
from tests.lab.cluster.manifests import DEAF, UNTIL_TERM, job


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if not any(psutil.pid_exists(pid) for pid in pids):
            return True
        time.sleep(0.005)
    return False


@pytest.mark.parametrize("own", [True, False])
def test_the_end_of_a_cluster_is_the_end_of_all_its_processes(zygote: Zygote, own: bool) -> None:
    with Cluster(zygote=None if own else zygote) as cluster:
        k8s = Client(cluster)
        k8s.create(job("deaf", f"setsid sleep 60 & {DEAF}"))
        k8s.running("deaf")
        pids = cluster.processes()
        folder = cluster.folder
        assert len(pids) >= 2
    assert gone(pids)
    assert not folder.exists()
    assert cluster.stop() is None


def test_clusters_that_share_a_zygote_do_not_see_each_other(start: Start) -> None:
    (one, in_one), (other, _) = start(), start()
    in_one.create(job("only", UNTIL_TERM))
    in_one.running("only")
    assert one.processes()
    assert not other.processes()
    assert not other.jobs()


def test_the_kubeconfig_and_logs_stay_where_a_folder_is_given(zygote: Zygote, tmp_path: Path) -> None:
    with Cluster(zygote=zygote, folder=tmp_path / "kept") as cluster:
        k8s = Client(cluster)
        k8s.create(job("talks", "echo hello"))
        k8s.ended("talks")
        name = cluster.pods()[0]["metadata"]["name"]
        cluster.delete_job("talks")
        cluster.wait_for(lambda: not cluster.pods())
        assert cluster.logs(name) == "hello\n"
    assert cluster.logs(name) == "hello\n"
    assert (tmp_path / "kept" / "kubeconfig.yaml").exists()


def test_waiting_is_woken_by_a_change_and_not_by_time(start: Start) -> None:
    cluster, k8s = start()
    asked: list[float] = []
    found: list[Any] = []

    def wait() -> None:
        def predicate() -> list[Any]:
            asked.append(time.monotonic())
            return cluster.happenings("job_complete")

        found.append(cluster.wait_for(predicate))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    quiet = len(asked)
    k8s.create(job("wakes"))
    waiter.join(5)
    assert quiet <= 2
    assert found[0][0].name == "wakes"
    assert asked[-1] - found[0][0].at < 0.5


def test_waiting_in_vain_tells_what_happened_last(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("unrelated"))
    k8s.ended("unrelated")
    with pytest.raises(TimeoutError, match="job_complete unrelated"):
        cluster.wait_for(lambda: cluster.happenings("job_failed"), 0.02)


def test_another_process_commands_through_the_control_door(start: Start) -> None:
    cluster, k8s = start([Node("a")], [Offering("g5.xlarge")])
    control = Control(cluster.control_url)
    k8s.create(job("step", UNTIL_TERM))
    name = k8s.running("step")
    control.command("outage")
    assert [each["metadata"]["name"] for each in control.report("pods")] == [name]
    control.command("kill_pod", pod=name)
    cluster.wait_for(lambda: cluster.happenings("job_failed"))
    control.command("end_outage")
    assert k8s.job("step").status.failed == 1
    control.command("add_node", node={"name": "b", "cpu": 2})
    control.command("taint", node="b", taint={"key": "x"})
    assert cluster.node("b")["spec"]["taints"] == [{"key": "x", "effect": "NoSchedule"}]
    whats = [each["what"] for each in control.report("events")]
    assert whats.index("fault") < whats.index("job_failed")


@pytest.mark.parametrize(("command", "arguments"), [
    ("destroy", {}), ("_do", {}), ("kill", {"node": "nobody"}), ("kill", {}), ("kill", {"colour": "red"}),
])  # fmt: skip
def test_a_command_that_makes_no_sense_is_refused(start: Start, command: str, arguments: dict[str, str]) -> None:
    cluster, _ = start()
    with pytest.raises(InvalidInput, match=command):
        Control(cluster.control_url).command(command, **arguments)


def test_a_control_door_that_nobody_answers_is_told() -> None:
    with pytest.raises(EnvironmentProblem, match="No cluster answers"):
        Control("http://127.0.0.1:9").report("pods")
