"""The project's own clips on spot: a batch whose machine is taken while it renders goes on within the clip."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository

from avatar_pipeline.settings import read_settings
from avatar_pipeline.spot.types import CapacityType, Ending
from avatar_pipeline.stages.batches import render_batch
from avatar_pipeline.stages.line import open_line
from tests.spot.executor.harness import FAST, PRELOAD, Bench, bench

TEXT = "The machine that draws me is taken away, and I go on talking as if nothing at all had happened."
ENGINE = ("avatar_pipeline.definitions", "av", "cv2", "numpy", "pandas", "pyarrow", "scipy.ndimage", "sqlalchemy")


@pytest.fixture
def spot(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("AVATAR_EXECUTOR", "k8s_spot")
    told = {name: value for name, value in os.environ.items() if name.startswith("AVATAR_")}
    with bench(tmp_path / "bench", preload=(*PRELOAD, *ENGINE), environment=told) as opened:
        yield opened


def test_a_batch_whose_machine_is_taken_while_it_renders_makes_the_same_clip(spot: Bench, own_home: Path) -> None:
    with open_line(read_settings()) as line:
        message = {"version": 1, "request_id": "clip-1", "avatar_id": "ada", "text": TEXT}
        line.queues.clips.send([json.dumps(message)])
    spot.instance.add_dynamic_partitions("clip_batches", ["batch-1"])
    here = ReconstructableRepository.for_module("avatar_pipeline.definitions", "defs", str(Path.cwd()))
    config = {
        "spot": FAST,
        "load_incluster_config": False,
        "kubeconfig_file": str(spot.cluster.kubeconfig),
        "job_image": "gpu:1",
    }
    run = spot.begin(
        here.get_reconstructable_job("make_clip_batch"),
        tags={"dagster/partition": "batch-1"},
        run_config={"execution": {"config": config}},
    )
    # Its first segment is saved, and others are not drawn yet.
    spot.until(lambda: any("Checkpoint:" in said for said in spot.messages(run)), seconds=90, what="a checkpoint")
    spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    assert spot.wait(run, seconds=90) is dg.DagsterRunStatus.SUCCESS, spot.story()
    attempts = spot.attempts(run, "rendered_clips")
    assert [attempt.ending for attempt in attempts] == [Ending.INTERRUPTED, Ending.SUCCEEDED]
    assert len(spot.step_jobs()) == 2, "only the step that draws is a Job"
    labels = spot.step_jobs()[0]["metadata"]["labels"]
    assert labels["avatar-pipeline/partition"] == "batch-1"
    assert labels["avatar-pipeline/asset"] == "rendered_clips"
    assert labels["avatar-pipeline/capacity-type"] == CapacityType.SPOT

    with open_line(read_settings()) as line:
        assert (line.requests.get("clip-1").state, line.requests.get("clip-1").attempts) == ("done", 1)
        clips = own_home / "store/avatars/ada/clips"
        seen = _digests(clips)
        assert any(name.endswith("clip.mp4") for name in seen)
        shutil.rmtree(clips)
        shutil.rmtree(own_home / "store/clip-batches/batch-1/rendered_clips")
        render_batch(line, "batch-1")
        assert _digests(clips) == seen, "the same bytes as without an interruption"


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
