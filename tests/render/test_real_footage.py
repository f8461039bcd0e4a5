"""On footage of a real speaker, which is not part of the project."""

import os
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.media.types import Audio
from avatar_pipeline.render.clip import render_clip
from avatar_pipeline.render.curves import lip_gap, morph_weights
from avatar_pipeline.render.plate import build_plate
from avatar_pipeline.render.verify import verify_clip
from avatar_pipeline.store.checkpoints import FolderCheckpoints
from avatar_pipeline.voice.visemes import VISEMES

DATA = os.environ.get("AVATAR_EVAL_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="AVATAR_EVAL_DATA does not name the evaluation data")


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
    from avatar_pipeline.face.tracking import track_video
    from avatar_pipeline.media.probe import probe
    from avatar_pipeline.mesh.build import build_mesh

    folder = tmp_path_factory.mktemp("head")
    video = Path(DATA or "") / "video" / "hdtf_wda_k.mp4"
    track = track_video(video, probe(video), FaceMeshDetector(), FolderCheckpoints(folder / "track"))
    mesh, _ = build_mesh(track, video)
    return mesh, build_plate(video, track, mesh, folder, checkpoints=FolderCheckpoints(folder / "plate"))


def speak(head, openness, folder):
    mesh, plate = head
    curves = np.zeros((len(openness), len(VISEMES)), np.float32)
    curves[:, VISEMES.index("aa")] = openness
    curves[:, VISEMES.index("sil")] = 1 - curves[:, VISEMES.index("aa")]
    weights = morph_weights(curves, mesh)
    render_clip(
        mesh=mesh,
        plate=plate,
        weights=weights,
        audio=Audio(np.zeros(len(openness) * 640, np.float32), 16_000),
        out=folder / "clip.mp4",
        checkpoints=FolderCheckpoints(folder / "segments"),
    )
    return verify_clip(folder / "clip.mp4", mesh, lip_gap(mesh, weights))


def test_the_lips_of_a_talking_plate_follow_the_command(head, tmp_path):
    report = speak(head, 0.5 - 0.5 * np.cos(2 * np.pi * 2.0 * np.arange(100) / 25), tmp_path)
    assert report.passed and report.lag_frames in (-1, 0, 1)


def test_the_lips_of_a_talking_plate_are_still_in_silence(head, tmp_path):
    report = speak(head, np.zeros(100), tmp_path)
    assert report.judged_by == "stillness" and report.passed
