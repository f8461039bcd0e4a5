"""The spot executor for Dagster: `k8s.k8s_spot_executor` for jobs, `worker.preemption_guard` for ops.

The one place of `spot` that knows Dagster. `worker` is importable without the Kubernetes client: it runs in the pods.
"""
