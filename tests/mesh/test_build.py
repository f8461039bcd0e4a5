from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.errors import FaceNotUsable
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.build import build_mesh
from avatar_pipeline.mesh.morphs import MORPH_NAMES
from avatar_pipeline.mesh.types import FACE_VERTICES, AvatarMesh, MeshReport


def test_a_real_face_becomes_a_sane_mesh(built: tuple[AvatarMesh, MeshReport]) -> None:
    mesh, report = built
    assert report.sane
    assert report.vertices == len(mesh.vertices) == len(mesh.uv)
    assert report.triangles == len(mesh.faces)
    assert report.morph_targets == 67
    assert mesh.morph_names == MORPH_NAMES
    assert report.texture_coverage > 0.7
    assert report.reprojection_error < 0.05
    assert mesh.texture.shape == (1024, 1024, 3)
    assert len(mesh.skin) == 852
    assert mesh.faces.max() == len(mesh.vertices) - 1
    assert mesh.mouth.min() >= FACE_VERTICES


def test_the_face_has_human_measures_in_millimetres(built: tuple[AvatarMesh, MeshReport]) -> None:
    vertices = built[0].vertices
    eyes = [vertices[list(loop)].mean(axis=0) for loop in (topology.LEFT_EYE, topology.RIGHT_EYE)]
    assert 55 < eyes[0][0] - eyes[1][0] < 70
    assert 140 < vertices[10, 1] - vertices[152, 1] < 210
    assert 100 < np.ptp(vertices[:FACE_VERTICES, 0]) < 180


def test_building_twice_gives_the_same_mesh(
    portrait: tuple[Path, LandmarkTrack], built: tuple[AvatarMesh, MeshReport]
) -> None:
    video, track = portrait
    again, report = build_mesh(track, video)
    assert report == built[1]
    for name in ("vertices", "uv", "morphs", "texture", "mouth"):
        np.testing.assert_array_equal(getattr(again, name), getattr(built[0], name))


def test_stages_are_reported_to_their_end(portrait: tuple[Path, LandmarkTrack]) -> None:
    video, track = portrait
    heard: list[tuple[str, float, float | None]] = []
    build_mesh(track, video, progress=lambda *args: heard.append(args))
    assert [stage for stage, done, total in heard if done == total] == ["shape", "morphs", "texture"]


def test_a_track_without_a_face_is_refused(portrait: tuple[Path, LandmarkTrack]) -> None:
    video, track = portrait
    nobody = replace(track, found=np.zeros(len(track), bool), landmarks=np.full_like(track.landmarks, np.nan))
    with pytest.raises(FaceNotUsable, match=r"portrait\.mp4"):
        build_mesh(nobody, video)


@pytest.mark.skipif("AVATAR_EVAL_DATA" not in os.environ, reason="AVATAR_EVAL_DATA names no folder of real videos")
def test_a_real_talking_head_becomes_a_sane_mesh_with_scores(tmp_path: Path) -> None:
    from avatar_pipeline.face.mediapipe_tasks import FaceLandmarkerDetector
    from avatar_pipeline.face.tracking import track_video
    from avatar_pipeline.media.probe import probe
    from avatar_pipeline.store.checkpoints import FolderCheckpoints
    from training.blendshapes.fit import BUNDLE_SHA256

    folder = Path(os.environ["AVATAR_EVAL_DATA"])
    video = folder / "video" / "hdtf_wda_k.mp4"
    detector = FaceLandmarkerDetector(folder / "models" / "face_landmarker.task", BUNDLE_SHA256)
    track = track_video(video, probe(video), detector, FolderCheckpoints(tmp_path))
    mesh, report = build_mesh(track, video)
    assert report.sane
    assert report.texture_coverage > 0.95, "this head turns by 20° to both sides"
    opened = mesh.vertices + mesh.morph("jawOpen")
    assert 24 <= np.linalg.norm(opened[13] - opened[14]) <= 36.1
