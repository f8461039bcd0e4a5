from __future__ import annotations

import os
from pathlib import Path

import pytest

from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
from avatar_pipeline.face.tracking import track_video
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.media.probe import probe
from avatar_pipeline.store.checkpoints import FolderCheckpoints
from tests.face.samples import moving_face, write_video


@pytest.fixture(scope="session")
def face_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One face for 5 seconds: two chunks of Face Mesh."""
    return write_video(tmp_path_factory.mktemp("video") / "face.mp4", moving_face(125))


@pytest.fixture(scope="session")
def face_track(face_video: Path, tmp_path_factory: pytest.TempPathFactory) -> LandmarkTrack:
    """The track of `face_video`, by one worker, never interrupted."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return track_video(face_video, probe(face_video), FaceMeshDetector(), FolderCheckpoints(folder), workers=1)


@pytest.fixture(scope="session")
def evaluation_data() -> Path:
    """Real videos and models, where there are any."""
    folder = os.environ.get("AVATAR_EVAL_DATA")
    if not folder:
        pytest.skip("AVATAR_EVAL_DATA is not set: no evaluation data on this machine")
    return Path(folder)
