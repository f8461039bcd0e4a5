import numpy as np
import pytest

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.render.renderer import Compositor, Scene, create_context, split_planes

WIDTH, HEIGHT = 96, 80
CROP, CORNER = (48, 40), (24, 20)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
ATLAS = np.full((8, 8, 3), (90, 110, 150), np.uint8)
ATLAS[4:] = (210, 90, 170)


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
    return Scene(np.hstack([where, depth]), np.hstack([source, flag]), np.zeros((4, 3), np.float32), 1.0)


def interior(light, share=0.0):
    where = np.hstack([quad(8, 8, 40, 32), np.full((4, 1), 0.7)])
    first = np.hstack([np.full((4, 2), 0.25), np.full((4, 1), light)])
    return Scene(where, first, np.hstack([np.full((4, 2), 0.75), np.full((4, 1), share)]), 0.8)


def colour_at_centre(out):
    return np.array([int(plane[18 * s, 24 * s]) for plane, s in zip(split_planes(out), (2, 1, 1), strict=True)])


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


def test_the_interior_has_the_atlas_colour_with_its_luma_in_the_plates_light(compositor, frame):
    values = colour_at_centre(compositor.draw(frame, CORNER, interior(light=1.0)))
    assert np.abs(values - [16 + 0.8 * (90 - 16), 110, 150]).max() <= 1


def test_two_pictures_of_the_interior_are_mixed_by_their_share(compositor, frame):
    values = colour_at_centre(compositor.draw(frame, CORNER, interior(light=1.0, share=0.5)))
    assert np.abs(values - [16 + 0.8 * (150 - 16), 100, 160]).max() <= 1


def test_a_shaded_interior_is_darker_and_redder(compositor, frame):
    lit = colour_at_centre(compositor.draw(frame, CORNER, interior(light=1.0)))
    shaded = colour_at_centre(compositor.draw(frame, CORNER, interior(light=0.5)))
    assert shaded[0] < lit[0]
    assert (shaded[2] - 128) / (shaded[0] - 16) > (lit[2] - 128) / (lit[0] - 16)


def test_skin_hides_the_interior_behind_it(frame):
    triangles = np.concatenate([TRIANGLES + 4, TRIANGLES])
    behind = interior(light=1.0)
    front = skin(quad(0, 0, *CROP), quad(0, 0, *CROP))
    both = [
        np.concatenate([getattr(front, name), getattr(behind, name)]) for name in ("positions", "sources", "seconds")
    ]
    with Compositor(crop=CROP, triangles=triangles, vertices=8, atlas=ATLAS) as compositor:
        assert (compositor.draw(frame, CORNER, Scene(*both, 0.8)) == frame).all()


def test_drawing_twice_gives_the_same_bits(compositor, frame):
    scene = skin(quad(0, 0, *CROP), quad(3.3, 2.2, 44.4, 36.6))
    assert (compositor.draw(frame, CORNER, scene) == compositor.draw(frame, CORNER, scene)).all()


def test_a_machine_without_opengl_is_told_what_to_install(monkeypatch):
    monkeypatch.setenv("GLCONTEXT_LINUX_LIBEGL", "libEGL-that-is-not-there.so")
    with pytest.raises(EnvironmentProblem) as problem:
        create_context()
    assert "libegl1" in problem.value.remedy
