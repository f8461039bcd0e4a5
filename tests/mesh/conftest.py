from __future__ import annotations

from pathlib import Path

import pytest

from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh.build import build_mesh
from avatar_pipeline.mesh.types import AvatarMesh, MeshReport
from tests.mesh.heads import portrait_video


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LandmarkTrack]:
    """A real face as a video, and its track."""
    from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
    from avatar_pipeline.face.tracking import track_video
    from avatar_pipeline.media.probe import probe
    from avatar_pipeline.store.checkpoints import FolderCheckpoints

    folder = tmp_path_factory.mktemp("portrait")
    video = portrait_video(folder / "portrait.mp4")
    return video, track_video(video, probe(video), FaceMeshDetector(), FolderCheckpoints(folder / "chunks"))


@pytest.fixture(scope="session")
def built(portrait: tuple[Path, LandmarkTrack]) -> tuple[AvatarMesh, MeshReport]:
    """The mesh of the real face."""
    video, track = portrait
    return build_mesh(track, video)
