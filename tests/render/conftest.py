"""A second of film with a real face in it (scikit-image's astronaut, NASA, public domain), and a plain mesh for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh.types import AvatarMesh
from avatar_pipeline.render.plate import Plate, build_plate
from avatar_pipeline.store.checkpoints import FolderCheckpoints
from tests.render.plain_mesh import plain_mesh

SIDE = 288
FRAMES = 42
FPS = Fraction(30)


@dataclass(frozen=True)
class Footage:
    video: Path
    track: LandmarkTrack
    mesh: AvatarMesh


def astronaut_frames(side: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """The portrait, panned by a few pixels over time, as I420."""
    import cv2
    from skimage.data import astronaut

    from avatar_pipeline.media.encode import rgb_to_i420

    face = np.ascontiguousarray(astronaut()[0:280, 90:370])
    for i in range(count):
        shift = 4.0 * np.sin(2 * np.pi * i / 40)
        matrix = np.array([[side / 280, 0, shift], [0, side / 280, 0.5 * shift]], np.float32)
        moved = cv2.warpAffine(face, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        yield rgb_to_i420(np.asarray(moved, np.uint8))


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
    from avatar_pipeline.face.tracking import track_video
    from avatar_pipeline.media.encode import encode_segment
    from avatar_pipeline.media.probe import probe
    from avatar_pipeline.media.types import MediaLimits

    folder = tmp_path_factory.mktemp("footage")
    video = folder / "astronaut.mp4"
    encode_segment(video, astronaut_frames(SIDE, FRAMES), width=SIDE, height=SIDE, fps=FPS)
    info = probe(video, MediaLimits(min_seconds=1.0))
    track = track_video(video, info, FaceMeshDetector(), FolderCheckpoints(folder / "chunks"), workers=1)
    return Footage(video, track, plain_mesh(track))


@pytest.fixture(scope="session")
def plate(footage: Footage, tmp_path_factory: pytest.TempPathFactory) -> Plate:
    folder = tmp_path_factory.mktemp("plate")
    checkpoints = FolderCheckpoints(tmp_path_factory.mktemp("plate-chunks"))
    return build_plate(footage.video, footage.track, footage.mesh, folder, checkpoints=checkpoints)
