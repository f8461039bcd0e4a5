from __future__ import annotations

import hashlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
from avatar_pipeline.face.mediapipe_tasks import BLENDSHAPES, FaceLandmarkerDetector
from avatar_pipeline.face.types import LandmarkDetector
from avatar_pipeline.media.types import Frame
from tests.face.samples import moving_face

BUNDLE_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"


def frames(count: int) -> list[Frame]:
    return [Frame(index, Fraction(1, 25), image) for index, image in enumerate(moving_face(count))]


@pytest.fixture
def landmarker(evaluation_data: Path) -> FaceLandmarkerDetector:
    return FaceLandmarkerDetector(evaluation_data / "models/face_landmarker.task", BUNDLE_SHA256)


def test_face_mesh_finds_478_landmarks_in_a_real_face() -> None:
    detector: LandmarkDetector = FaceMeshDetector()
    (detection,) = detector.detect(frames(1))
    assert detection is not None and detection.blendshapes is None and detector.blendshape_names == ()
    assert detection.landmarks.shape == (478, 3) and detection.landmarks.dtype == np.float32
    right_eye, left_eye, chin = detection.landmarks[[468, 473, 152], :2]
    assert right_eye[0] < left_eye[0]
    assert chin[1] > left_eye[1]
    assert detection.landmarks[1, 2] < detection.landmarks[234, 2]


def test_landmarks_read_from_the_wire_are_those_of_the_message() -> None:
    from mediapipe.framework.formats.landmark_pb2 import NormalizedLandmarkList

    from avatar_pipeline.face.mediapipe_mesh import _to_array

    values = np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32)
    values[0] = 0
    message = NormalizedLandmarkList()
    for x, y, z in values.tolist():
        message.landmark.add(x=x, y=y, z=z)
    np.testing.assert_array_equal(_to_array(message), values)
    message.landmark[7].visibility = 0.5
    np.testing.assert_array_equal(_to_array(message), values)


def test_every_call_starts_from_a_fresh_state() -> None:
    detector = FaceMeshDetector()
    images = frames(6)
    one, two = ([detection.landmarks for detection in detector.detect(images) if detection] for _ in range(2))
    assert np.array(one).tobytes() == np.array(two).tobytes() and len(one) == 6


@pytest.mark.parametrize("detect", [FaceMeshDetector().detect], ids=["face mesh"])
def test_no_frames_give_no_detections(detect) -> None:
    assert list(detect([])) == []


def test_images_that_are_not_contiguous_are_taken() -> None:
    (frame,) = frames(1)
    wide = np.zeros((frame.image.shape[0], frame.image.shape[1] + 8, 3), np.uint8)
    wide[:, :-8] = frame.image
    (straight,) = FaceMeshDetector().detect([frame])
    (strided,) = FaceMeshDetector().detect([Frame(0, Fraction(1, 25), wide[:, :-8])])
    np.testing.assert_array_equal(straight.landmarks, strided.landmarks)


def test_starting_a_detector_says_nothing_on_the_terminal() -> None:
    code = (
        "from tests.face.test_detectors import FaceMeshDetector, frames\n"
        "assert all(FaceMeshDetector().detect(frames(3)))\n"
        "import sys; print('still here', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "still here\n"


def test_a_missing_bundle_is_a_problem_of_the_machine_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"nowhere\.task cannot be read") as problem:
        FaceLandmarkerDetector(tmp_path / "nowhere.task", BUNDLE_SHA256)
    assert "Face Mesh" in problem.value.remedy


def test_a_bundle_with_another_hash_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "face_landmarker.task"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(EnvironmentProblem, match=f"not {BUNDLE_SHA256}") as problem:
        FaceLandmarkerDetector(path, BUNDLE_SHA256.upper())
    assert hashlib.sha256(path.read_bytes()).hexdigest() in problem.value.message


def test_a_bundle_that_is_trusted_but_broken_is_a_problem_of_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "face_landmarker.task"
    path.write_bytes(b"PK not a bundle")
    detector = FaceLandmarkerDetector(path, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(EnvironmentProblem, match="cannot load"):
        next(detector.detect(frames(1)))


def test_there_are_51_blendshapes_and_the_neutral_is_none_of_them() -> None:
    assert len(set(BLENDSHAPES)) == 51 and "_neutral" not in BLENDSHAPES and "jawOpen" in BLENDSHAPES


def test_the_landmarker_gives_scores_and_a_head_transform(landmarker: FaceLandmarkerDetector) -> None:
    detections = list(landmarker.detect(frames(3)))
    assert len(detections) == 3
    for detection in detections:
        assert detection is not None
        assert detection.landmarks.shape == (478, 3)
        assert detection.blendshapes is not None and detection.blendshapes.shape == (51,)
        assert detection.transform is not None and detection.transform.shape == (4, 4)
    smile = detections[-1].blendshapes[landmarker.blendshape_names.index("mouthSmileLeft")]
    assert smile > 0.5


def test_the_landmarker_takes_frames_closer_than_a_millisecond(landmarker: FaceLandmarkerDetector) -> None:
    close = [Frame(index, Fraction(1, 10_000), frame.image) for index, frame in enumerate(frames(4))]
    assert all(landmarker.detect(close))
