"""One process with Dagster imported, from which the containers of all clusters are forked; a bench for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.spot.executor.harness import PRELOAD, Bench, bench

pytest.importorskip("kubernetes_validate", reason="the `lab` extra brings the simulated cluster")

from avatar_pipeline.lab.cluster import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote(preload=PRELOAD) as ready:
        yield ready


@pytest.fixture
def spot(tmp_path: Path, zygote: Zygote) -> Iterator[Bench]:
    with bench(tmp_path / "bench", zygote=zygote) as opened:
        yield opened
