import numpy as np
import pytest

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.render.renderer import Compositor, Scene, create_context, split_planes

WIDTH, HEIGHT = 96, 80
CROP, CORNER = (48, 40), (24, 20)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
ATLAS = np.full((8, 8, 3), (90, 110, 150), np.uint8)


@pytest.fixture(scope="module")
def compositor():
    with Compositor(crop=CROP, triangles=TRIANGLES, vertices=4, atlas=ATLAS) as compositor:
        yield compositor


@pytest.fixture
def frame():
    return np.random.default_rng(7).integers(16, 236, (HEIGHT * 3 // 2, WIDTH), dtype=np.uint8)


def quad(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def skin(where, source):
    depth, flag = np.full((4, 1), 0.3), np.full((4, 1), -1.0)
    return Scene(np.hstack([where, depth]).astype(np.float32), np.hstack([source, flag]).astype(np.float32), 1.0)


def test_what_does_not_move_keeps_its_exact_bits(compositor, frame):
    still = quad(0, 0, *CROP)
    assert (compositor.draw(frame, CORNER, skin(still, still)) == frame).all()


def test_nothing_outside_the_crop_changes(compositor, frame):
    out = compositor.draw(frame, CORNER, skin(quad(0, 0, *CROP), quad(5, 5, 40, 30)))
    x, y = CORNER
    for before, after, step in zip(split_planes(frame), split_planes(out), (1, 2, 2), strict=True):
        changed = np.argwhere(before != after)
        assert len(changed)
        low, high = changed.min(axis=0) * step, (changed.max(axis=0) + 1) * step
        assert (low >= [y, x]).all() and (high <= [y + CROP[1], x + CROP[0]]).all()


def test_a_shift_by_whole_pixels_copies_luma_and_chroma_alike(compositor):
    frame = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
    luma, cb, cr = split_planes(frame)
    luma[:] = np.arange(WIDTH)[None] + 60
    cb[:] = np.arange(WIDTH // 2)[None] * 2 + 60
    cr[:] = np.arange(HEIGHT // 2)[:, None] * 2 + 60
    out = compositor.draw(frame, CORNER, skin(quad(8, 8, 40, 32), quad(12, 10, 44, 34)))
    inner = np.s_[36:44, 40:56]
    half = np.s_[18:22, 20:28]
    difference = [a.astype(int) - b for a, b in zip(split_planes(out), split_planes(frame), strict=True)]
    assert np.abs(difference[0][inner] - 4).max() <= 1
    assert np.abs(difference[1][half] - 4).max() <= 1
    assert np.abs(difference[2][half] - 2).max() <= 1


def test_the_interior_has_the_atlas_colour_in_the_light_asked_for(compositor, frame):
    where = np.hstack([quad(8, 8, 40, 32), np.full((4, 1), 0.7)]).astype(np.float32)
    source = np.hstack([np.full((4, 2), 0.5), np.full((4, 1), 0.5)]).astype(np.float32)
    out = compositor.draw(frame, CORNER, Scene(where, source, 0.8))
    values = [int(plane[18 * s, 24 * s]) for plane, s in zip(split_planes(out), (2, 1, 1), strict=True)]
    expected = np.array([16, 128, 128]) + 0.4 * (np.array([90, 110, 150]) - [16, 128, 128])
    assert np.abs(values - expected).max() <= 1


def test_drawing_twice_gives_the_same_bits(compositor, frame):
    scene = skin(quad(0, 0, *CROP), quad(3.3, 2.2, 44.4, 36.6))
    assert (compositor.draw(frame, CORNER, scene) == compositor.draw(frame, CORNER, scene)).all()


def test_a_machine_without_opengl_is_told_what_to_install(monkeypatch):
    monkeypatch.setenv("GLCONTEXT_LINUX_LIBEGL", "libEGL-that-is-not-there.so")
    with pytest.raises(EnvironmentProblem) as problem:
        create_context()
    assert "libegl1" in problem.value.remedy
