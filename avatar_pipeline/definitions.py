"""The composition root: which assets, jobs and resources make up the project. Only wiring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.avatars import avatar_assets
from assets.clips import clip_assets
from assets.jobs import jobs
from resources.line import LineResource


def default_resources() -> dict[str, Any]:
    """Return the doors to the outside world, as they are outside of tests."""
    return {"line": LineResource()}


def build_defs(*, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Wire the project; a test puts other doors in by name."""
    return dg.Definitions(
        assets=[*avatar_assets, *clip_assets],
        jobs=jobs,
        resources=default_resources() | dict(resource_overrides or {}),
        # A step's process costs seconds to start and these steps share a machine; pods are for GPU steps, later.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev`, `dg dev` and the daemon load."""
    return build_defs()
