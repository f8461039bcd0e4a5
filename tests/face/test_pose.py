from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from avatar_pipeline.face.pose import (
    IRIS_DISTANCE,
    RIGID,
    HeadPoses,
    fit_poses,
    robust_neutral,
    rotation_angles,
    to_camera,
)

SEEDS = st.integers(0, 2**32 - 1)


def head(rng: np.random.Generator) -> np.ndarray:
    """A made-up head: mirror pairs at ±x, brow above chin, irises 63 mm apart."""
    points = rng.normal(0.0, 40.0, (478, 3))
    for right, left in [(33, 263), (133, 362), (127, 356), (234, 454), (54, 284), (61, 291), (172, 397), (468, 473)]:
        points[right, 0] = -abs(points[right, 0]) - 10
        points[left] = points[right] * [-1, 1, 1]
    points[468] *= [IRIS_DISTANCE / 2 / abs(points[468, 0]), 1, 1]
    points[473] = points[468] * [-1, 1, 1]
    points[[10, 152]] = [[0, 80, 5], [0, -80, 5]]
    return points - points[RIGID].mean(axis=0)


def random_poses(rng: np.random.Generator, frames: int, most_degrees: float = 180.0) -> HeadPoses:
    turns = rng.uniform(-most_degrees, most_degrees, (frames, 3)) / 2
    return HeadPoses(
        scale=rng.uniform(0.1, 20.0, frames),
        rotation=Rotation.from_euler("YXZ", turns, degrees=True).as_matrix(),
        translation=rng.uniform(-2000, 2000, (frames, 3)),
    )


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_similarity_is_recovered_from_its_landmarks(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    neutral, poses = head(rng), random_poses(rng, frames)
    fitted = fit_poses(poses.project(neutral), neutral)
    np.testing.assert_allclose(fitted.scale, poses.scale, rtol=1e-9)
    np.testing.assert_allclose(fitted.rotation, poses.rotation, atol=1e-9)
    np.testing.assert_allclose(fitted.translation, poses.translation, atol=1e-6)


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_unproject_undoes_project(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    poses, points = random_poses(rng, frames), rng.normal(0, 50, (frames, 30, 3))
    np.testing.assert_allclose(poses.unproject(poses.project(points)), points, atol=1e-7)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_fitted_rotations_never_mirror_even_when_the_points_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    neutral = head(rng)
    fitted = fit_poses((neutral * [-1, 1, 1])[None], neutral)
    assert np.linalg.det(fitted.rotation[0]) == pytest.approx(1.0)


@given(st.floats(-85, 85), st.floats(-85, 85), st.floats(-85, 85))
@settings(max_examples=60, deadline=None)
def test_angles_of_a_rotation_built_from_angles_are_those_angles(yaw: float, pitch: float, roll: float) -> None:
    rotation = Rotation.from_euler("YXZ", [yaw, -pitch, roll], degrees=True).as_matrix()
    np.testing.assert_allclose(rotation_angles(rotation), [yaw, pitch, roll], atol=1e-6)


@pytest.mark.parametrize(
    ("axis", "toward", "angle"),
    [("out of the face", (1, 0, 1), 0), ("out of the face", (0, 1, 1), 1), ("top of the head", (-1, 1, 0), 2)],
    ids=["nose to the subject's left is yaw", "nose up is pitch", "top to the right shoulder is roll"],
)
def test_positive_angles_point_where_the_track_says(axis: str, toward: tuple[int, int, int], angle: int) -> None:
    start = [0, 0, 1] if axis == "out of the face" else [0, 1, 0]
    rotation = Rotation.align_vectors([np.array(toward) / np.sqrt(2)], [start])[0].as_matrix()
    angles = rotation_angles(rotation)
    assert angles[angle] == pytest.approx(45.0)
    assert np.delete(angles, angle) == pytest.approx([0, 0], abs=1e-6)


def test_camera_has_y_up_and_z_towards_the_camera_in_pixels() -> None:
    np.testing.assert_allclose(to_camera(np.array([0.5, 0.25, -0.1]), 640, 480), [320, -120, 64])


@given(SEEDS, st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_the_neutral_of_a_rigid_head_is_the_head(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    neutral, poses = head(rng), random_poses(rng, frames, most_degrees=60)
    found, fitted = robust_neutral(poses.project(neutral))
    np.testing.assert_allclose(found, neutral, atol=1e-6)
    np.testing.assert_allclose(fitted.rotation, poses.rotation, atol=1e-7)


def test_the_neutral_has_the_mouth_closed_though_most_frames_have_it_open() -> None:
    rng = np.random.default_rng(3)
    neutral, poses = head(rng), random_poses(rng, 100, most_degrees=30)
    neutral[13], neutral[14] = [0, -30, 20], [0, -30.5, 20]
    shapes = np.repeat(neutral[None], 100, axis=0)
    shapes[:80, 14, 1] -= rng.uniform(5, 20, 80)
    found, _ = robust_neutral(poses.project(shapes))
    assert np.linalg.norm(found[13] - found[14]) == pytest.approx(0.5, abs=0.05)


def test_frames_without_a_face_get_no_pose_and_do_not_disturb_the_others() -> None:
    rng = np.random.default_rng(4)
    neutral, poses = head(rng), random_poses(rng, 6, most_degrees=40)
    camera = poses.project(neutral)
    camera[[0, 3]] = np.nan
    found, fitted = robust_neutral(camera)
    np.testing.assert_allclose(found, neutral, atol=1e-6)
    assert np.isnan(fitted.angles[[0, 3]]).all()
    np.testing.assert_allclose(fitted.rotation[[1, 2, 4, 5]], poses.rotation[[1, 2, 4, 5]], atol=1e-7)


def test_no_face_at_all_has_no_neutral() -> None:
    with pytest.raises(ValueError, match="no frame holds a face"):
        robust_neutral(np.full((3, 478, 3), np.nan))
