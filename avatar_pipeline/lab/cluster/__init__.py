"""A simulated Kubernetes over real HTTP, for tests of executors and operators.

The API subset of Batch and Core that such programs use, a Job controller, a scheduler over simulated nodes, a node
autoscaler, and a kubelet that runs each container as a local process with its real environment and real signals.
Any Kubernetes client talks to it through a kubeconfig. Everything can be disturbed on command.

    from avatar_pipeline.lab.cluster import Cluster, Image, Node, Offering, Taint

    with Cluster(
        nodes=[Node("cpu-1", cpu=8, memory="32Gi"), Node.of("g5.xlarge", zone="us-east-1a", capacity_type="spot")],
        offerings=[Offering("g6.xlarge", "us-east-1b", "spot", count=2, delay_seconds=0.2)],
        images={"avatar:1": Image(env={"DAGSTER_HOME": "/tmp/home"}, working_directory="/srv/app")},
        preload=("dagster", "dagster_k8s"),
        default_grace_seconds=5,
    ) as cluster:
        kubernetes.config.load_kube_config(str(cluster.kubeconfig))
        ...
        pod = cluster.wait_for(lambda: cluster.pods(phase="Running"), timeout=10)[0]
        cluster.reclaim(pod["spec"]["nodeName"], notice_seconds=2)
        cluster.wait_for(lambda: cluster.job("step")["status"].get("failed"), timeout=10)

Reading (objects are the API's own JSON, as dictionaries; they never change once handed out):
    `cluster.jobs()`, `job(name)`, `pods(job=..., phase=..., labels=...)`, `pod(name)`, `nodes()`, `node(name)`,
    `logs(pod)`, `events` (what happened: `Happening(at, what, name, detail)`, `at` by `time.monotonic()`),
    `happenings(what, name)`, `wait_for(predicate, timeout)` (the first true value),
    `processes()` (live pids).

Nodes and pods:
    `reclaim(node, notice_seconds)`: a spot interruption: pods are evicted (SIGTERM), and at the end of the notice the
        machine is gone. The node's metadata service tells it too (`AWS_EC2_METADATA_SERVICE_ENDPOINT` in pods).
    `rebalance(node)`: only the rebalance recommendation. `drain(node)`: cordon and evict. `shutdown(node)`: the
        kubelet's graceful shutdown. `kill(node)`: no notice at all. `taint(node, Taint)`: the taint manager deletes who
        does not tolerate it. `add_node(Node)`, `remove_node(node)`, `cordon(node)`, `uncordon(node)`.
    `evict(pod)`, `preempt(pod)`, `press(pod)` (node pressure), `kill_pod(pod)` (SIGKILL, 137), `oom(pod)`,
        `signal_pod(pod, signal)`, and somebody else's kubectl: `delete_pod(pod)`, `delete_job(name, propagation)`.

Capacity and images:
    `withhold(labels)`: offerings and free nodes with these labels give nothing to pending pods; `restore(labels)`.
    `fail_pulls(image_pattern, reason="ErrImagePull")`, `mend_pulls(image_pattern)`,
    `start_delay(image_pattern, seconds)`: how long containers of an image are ContainerCreating.

The API:
    `outage(seconds)`: connections are reset and refused; `end_outage()`. `drop(calls)`: the next calls are cut after
        they were carried out, or before (`before=True`). `delay(calls, seconds)`. `fail(calls, status, retry_after=)`.
        The last three take `method=` and `path=` (a pattern) to choose calls. `requests` counts what was asked. Mind
        that clients repeat calls of themselves: urllib3 repeats a GET that was cut up to three times.

`cluster.control_url` serves the same faults to other processes: `POST {control_url}/_control/reclaim {"node": ...}`, or
`Control(url).command("reclaim", node=...)`. A `Zygote(preload=...)` may be shared by many clusters of a test run:
`Cluster(zygote=zygote)`; containers that run Python of this environment are then forked instead of started.

Not simulated: volumes, network, probes, sidecars, several completions, indexed Jobs, suspended Jobs. Needs `starlette`,
`uvicorn`, `kubernetes-validate`, `psutil` and `pyyaml`. Made for Linux.
"""

from avatar_pipeline.lab.cluster.cluster import Cluster
from avatar_pipeline.lab.cluster.control import Control
from avatar_pipeline.lab.cluster.journal import Happening
from avatar_pipeline.lab.cluster.launcher import Zygote
from avatar_pipeline.lab.cluster.nodes import Node, Offering, Taint
from avatar_pipeline.lab.cluster.settings import Image, Settings

__all__ = ["Cluster", "Control", "Happening", "Image", "Node", "Offering", "Settings", "Taint", "Zygote"]
