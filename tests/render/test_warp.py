import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.mesh.topology import LEFT_EYE, MOUTH, RIGHT_EYE
from avatar_pipeline.render.mouth import collect_photos
from avatar_pipeline.render.renderer import split_planes
from avatar_pipeline.render.warp import (
    OUTER_LIPS,
    Tracked,
    Warp,
    crop_boxes,
    interior_light,
    moving_share,
    own_expression,
    ring_points,
    shutting,
    skin_source,
)

seeds = st.integers(0, 2**31)
NO_PHOTOS = collect_photos({}, np.zeros(0), np.zeros(0))


@settings(deadline=None)
@given(seeds)
def test_lips_go_where_they_are_told_whatever_the_plate_does(footage, seed):
    random = np.random.default_rng(seed)
    mesh = footage.mesh
    shape = mesh.vertices[:468] + random.normal(0, 3, (468, 3))
    asked = random.normal(0, 2, mesh.vertices.shape)
    moved = Warp(mesh, NO_PHOTOS).target(Tracked(shape, shape, np.zeros((468, 3))), asked)
    lips = list(MOUTH + OUTER_LIPS)
    np.testing.assert_allclose(moved[lips], (mesh.vertices + asked)[lips], atol=1e-6)


@settings(deadline=None)
@given(seeds)
def test_the_eyes_and_brows_are_the_footage(footage, seed):
    random = np.random.default_rng(seed)
    shape = footage.mesh.vertices[:468] + random.normal(0, 3, (468, 3))
    asked = random.normal(0, 2, footage.mesh.vertices.shape)
    moved = Warp(footage.mesh, NO_PHOTOS).target(Tracked(shape, shape, random.normal(0, 1, (468, 3))), asked)
    upper = list(LEFT_EYE + RIGHT_EYE + (10, 151, 9, 105, 334))
    assert (moved[upper] == shape[upper]).all()


def test_the_plates_own_open_jaw_is_recognised_and_noise_is_not(footage):
    mesh = footage.mesh
    opened = mesh.morph("jawOpen")[:468].astype(np.float64)
    shapes = np.stack([mesh.vertices[:468] + opened, mesh.vertices[:468] + np.array([0.0, 0.0, 1.0])])
    own = own_expression(mesh, shapes.astype(np.float64))
    assert np.linalg.norm(own[0] - opened) < 0.1 * np.linalg.norm(opened)
    assert np.abs(own[1]).max() < 0.3


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.2, 3.0), st.floats(-300, 300), st.floats(-300, 300))
def test_crops_are_even_and_inside_the_picture(footage, seed, scale, x, y):
    random = np.random.default_rng(seed)
    face = footage.mesh.vertices[:468].astype(np.float64) * scale + [x + 160, y - 120, 0]
    landmarks = face + random.normal(0, 20, (5, 1, 3))
    corners, (width, height) = crop_boxes(landmarks, landmarks, moving_share(footage.mesh.vertices), (320, 240))
    assert width % 2 == height % 2 == 0 and (corners % 2 == 0).all()
    assert 2 <= width <= 320 and 2 <= height <= 240
    assert (corners >= 0).all() and (corners + np.array([width, height]) <= [320, 240]).all()


def test_the_ring_encloses_the_face(footage):
    face = footage.mesh.vertices[:468, :2].astype(np.float64)
    ring = ring_points(face)
    assert ring.min() < face.min() and ring.max() > face.max()


def test_parted_lips_show_their_flesh_and_closed_lips_all_of_themselves(footage):
    face = footage.mesh.vertices[:468, :2].astype(np.float64)
    assert (skin_source(face, 0.0, 0.0) == face).all()
    parted = skin_source(face, 8.0, 0.0)
    changed = np.flatnonzero((parted != face).any(axis=1))
    assert set(changed.tolist()) <= set(MOUTH)
    assert parted[13, 1] > face[13, 1] and parted[14, 1] < face[14, 1]


def test_a_silent_frame_of_closed_lips_is_the_footage(footage, plate):
    """The lips are told to be where the mesh has them at rest; nothing else may move."""
    tracked = plate.tracked(0)
    rest = Tracked(tracked.landmarks, footage.mesh.vertices[:468].astype(np.float64), np.zeros((468, 3)))
    moved = Warp(footage.mesh, NO_PHOTOS).target(rest, np.zeros(footage.mesh.vertices.shape))
    np.testing.assert_allclose(moved, rest.shape)


def test_only_open_lips_that_are_drawn_shut_are_treated_as_such():
    assert shutting(0.0, 8.0) == 1.0
    assert shutting(0.0, 0.0) == shutting(8.0, 8.0) == shutting(8.0, 0.0) == 0.0


def test_less_light_falls_through_a_narrower_gap():
    light = [interior_light(gap, 14.0) for gap in (0.0, 4.0, 8.0, 20.0)]
    assert light == sorted(light) and light[0] < 0.5 and light[-1] == 1.0


def test_scenes_fit_the_triangles_with_photos_and_without(footage, plate):
    for photos in (NO_PHOTOS, plate.photos):
        warp = Warp(footage.mesh, photos)
        scene = warp.scene(
            plate.tracked(3), plate.pose(3), footage.mesh.morph("jawOpen").astype(np.float64), corner=(0, 0), gain=1.0
        )
        assert scene.positions.shape == scene.sources.shape == scene.seconds.shape == (warp.vertices, 3)
        assert warp.triangles.max() < warp.vertices
        assert scene.positions[:, 2].min() >= 0 and scene.positions[:, 2].max() <= 1
        skin, inside = scene.sources[:, 2] < 0, scene.sources[:, 2] >= 0
        assert scene.positions[skin, 2].max() < scene.positions[inside, 2].min()


def test_split_planes_gives_views_of_the_frame():
    frame = np.zeros((12, 8), np.uint8)
    for value, plane in enumerate(split_planes(frame), 1):
        plane[:] = value
    assert (frame == np.repeat([1, 2, 3], [64, 16, 16]).reshape(12, 8)).all()
