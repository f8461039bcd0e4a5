from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.face.people import FaceCount, count_faces
from avatar_pipeline.media.probe import probe
from tests.face.samples import blank, moving_face, write_video


def count(path: Path) -> FaceCount:
    return count_faces(path, probe(path))


def test_two_faces_side_by_side_are_several_people(tmp_path: Path) -> None:
    images = (np.hstack([image, image[:, ::-1]]) for image in moving_face(50))
    counted = count(write_video(tmp_path / "two.mp4", images))
    assert counted.samples == 2 and counted.with_several == 2 and counted.several


def test_one_face_is_one_person_and_its_light_is_measured(face_video: Path, tmp_path: Path) -> None:
    counted = count(face_video)
    assert counted.samples == 5 and not counted.with_several and not counted.several
    dark = write_video(tmp_path / "dark.mp4", (image // 4 for image in moving_face(50)))
    assert count(dark).brightness == pytest.approx(counted.brightness / 4, rel=0.15)


def test_a_small_face_in_the_background_is_nobody(tmp_path: Path) -> None:
    def with_picture(image: np.ndarray) -> np.ndarray:
        wide = np.hstack([image, np.full_like(image, 120)])
        wide[20:84, 400:464] = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
        return wide

    assert not count(write_video(tmp_path / "poster.mp4", map(with_picture, moving_face(50)))).several


def test_somebody_who_walks_through_for_a_moment_is_nobody(tmp_path: Path) -> None:
    images = list(moving_face(125))
    images = [
        np.hstack([image, image if 50 <= index < 62 else np.zeros_like(image)]) for index, image in enumerate(images)
    ]
    assert not count(write_video(tmp_path / "visit.mp4", images)).several


def test_a_wall_has_no_faces(tmp_path: Path) -> None:
    counted = count(write_video(tmp_path / "wall.mp4", blank(50)))
    assert counted.with_several == 0 and np.isnan(counted.brightness)


def test_a_video_with_a_single_keyframe_is_sampled_all_over(tmp_path: Path) -> None:
    images = (
        np.hstack([image, image]) if index > 20 else np.hstack([image, np.zeros_like(image)])
        for index, image in enumerate(moving_face(100))
    )
    counted = count(write_video(tmp_path / "long_gop.mp4", images, keyframe_every=250))
    assert counted.samples == 4 and counted.with_several == 3


@given(st.integers(1, 20))
def test_a_single_sample_does_not_convict_where_there_are_more(samples: int) -> None:
    assert FaceCount(samples, 1, 100.0).several == (samples == 1)
    assert FaceCount(samples, samples, 100.0).several
    assert not FaceCount(samples, 0, 100.0).several
