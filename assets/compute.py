"""Where a step runs: op tags, since job and run tags reach neither step pods nor backfills."""

GPU_POOL = "gpu"

CPU_TAGS = {"avatar/compute": "cpu"}

GPU_TAGS = {
    "avatar/compute": "gpu",
    "dagster-k8s/config": {
        "container_config": {
            "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"nvidia.com/gpu": "1"}},
            # `graphics` is what EGL needs; the default of the NVIDIA runtime leaves it out.
            "env": [{"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,graphics,video,utility"}],
        },
        "pod_spec_config": {
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
        "job_spec_config": {"backoff_limit": 0},
    },
}
"""Steps that draw. On Kubernetes they get a GPU; elsewhere the tags do nothing."""
