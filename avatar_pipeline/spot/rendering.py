"""Every manifest that profiles can lead to, for a person to read and a validator to check, as `helm template` does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from avatar_pipeline.spot.labels import step_labels
from avatar_pipeline.spot.manifests import Manifest, amend
from avatar_pipeline.spot.offerings import suitable
from avatar_pipeline.spot.profiles import ComputeProfile
from avatar_pipeline.spot.types import CapacityType, Placement


def render_manifests(step_job: Mapping[str, Any], profiles: Iterable[ComputeProfile]) -> Iterator[Manifest]:
    """Yield the Job of a step for each profile on each capacity type, made from the stock executor's Job."""
    for profile in profiles:
        for capacity_type in CapacityType:
            placement = Placement(
                capacity_type=capacity_type,
                offerings=suitable(profile, capacity_type),
                profile=profile.name,
                reason="Rendered to be read.",
            )
            labels = step_labels(
                run_id="00000000-0000-0000-0000-000000000000",
                step_key="rendered_clips",
                asset="rendered_clips",
                partition="a-batch",
                tenant="a-tenant",
                capacity_type=capacity_type,
                profile=profile.name,
                attempt=0,
            )
            job = amend(step_job, profile=profile, placement=placement, labels=labels, env={"AVATAR_SPOT_ATTEMPT": "0"})
            name = f"{job['metadata']['name']}-{profile.name}-{capacity_type.value}"
            yield {**job, "metadata": {**job["metadata"], "name": name}}
