import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.media.encode import rgb_to_i420
from avatar_pipeline.mesh.topology import MOUTH
from avatar_pipeline.render.mouth import GAPS, PHOTO_SIZE, choose_photos, collect_photos, cut_photo, photo_triangles
from avatar_pipeline.render.renderer import split_planes

ANGLE = np.pi - np.arange(20) * (2 * np.pi / 20)
LIPS = np.stack([32 + 20 * np.cos(ANGLE), 24 - 9 * np.sin(ANGLE)], axis=1)


def picture_of_a_mouth():
    rgb = np.full((48, 64, 3), (200, 60, 70), np.uint8)
    y, x = np.mgrid[:48, :64]
    rgb[((x - 32) / 20) ** 2 + ((y - 24) / 9) ** 2 < 1] = (230, 230, 230)
    return split_planes(rgb_to_i420(rgb))


def photos_with_gaps(gaps):
    cuts = {k: cut_photo(picture_of_a_mouth(), LIPS) for k in range(len(gaps))}
    return collect_photos(cuts, np.array(gaps), np.ones(len(gaps)))


def test_a_mouth_that_never_opens_gives_no_photo():
    gap = np.abs(np.sin(np.arange(100))) * 2.9
    assert len(choose_photos(gap, np.full(100, 50.0), np.zeros(100), 50.0)) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 25), st.floats(-40, 40)), min_size=1, max_size=60))
def test_photos_look_ahead_and_are_of_different_openings(frames):
    gap, yaw = np.array(frames).T
    chosen = choose_photos(gap, np.full(len(gap), 50.0), yaw, 50.0)
    assert len(set(chosen.tolist())) == len(chosen) <= len(GAPS)
    assert (np.abs(yaw[chosen]) <= 20).all()
    assert (np.diff(gap[chosen]) >= 0).all()


def test_a_mouth_as_wide_as_at_rest_is_taken_before_a_smile():
    width = np.array([62.0, 50.0, 62.0])
    assert choose_photos(np.full(3, 9.0), width, np.zeros(3), 50.0).tolist() == [1]


def test_the_edge_of_a_photo_keeps_inside_the_lips():
    picture, edge = cut_photo(picture_of_a_mouth(), LIPS)
    assert picture.shape == (PHOTO_SIZE[1], PHOTO_SIZE[0], 3)
    at = np.clip((edge * PHOTO_SIZE).astype(int), 0, np.array(PHOTO_SIZE) - 1)
    inside = picture[at[:, 1], at[:, 0], 0] > 150
    assert inside.mean() >= 0.8 and inside[3:8].all() and inside[13:18].all()


@settings(deadline=None)
@given(st.floats(0, 40))
def test_the_two_photos_next_to_a_gap_are_mixed(gap):
    photos = photos_with_gaps([3.0, 6.0, 12.0])
    first, second, share = photos.sources(gap)
    low, high = (int(edge[:, 1].mean() * 3) for edge in (first, second))
    clipped = np.clip(gap, 3, 12)
    assert photos.gaps[low] <= clipped <= photos.gaps[high]
    nearest = high if share > 0.5 else low
    assert abs(photos.gaps[nearest] - clipped) <= np.abs(photos.gaps - clipped).min() + 1e-3


def test_one_photo_serves_all_gaps():
    photos = photos_with_gaps([5.0])
    for gap in (0.0, 5.0, 20.0):
        first, second, share = photos.sources(gap)
        assert (first == second).all() and share == 0


def test_photos_are_brought_to_one_brightness():
    cuts = {0: cut_photo(picture_of_a_mouth(), LIPS), 1: cut_photo(picture_of_a_mouth(), LIPS)}
    dark, bright = collect_photos(cuts, np.array([4.0, 8.0]), np.array([1.0, 0.5])).pictures[:, 48, 96, 0].astype(int)
    assert bright == min(255, 16 + 2 * (dark - 16))


def test_the_triangles_span_the_lips():
    triangles = photo_triangles()
    assert set(triangles.ravel().tolist()) == set(range(len(MOUTH)))
    assert len(triangles) == len(MOUTH) - 2


def test_a_photo_that_would_flash_between_its_neighbours_is_left_out() -> None:
    """Real footage has frames whose open mouth shows no teeth: they turned grey for a frame whenever lips passed by."""
    lips = np.stack(
        [np.cos(np.arange(20) * np.pi / 10) * 30 + 50, np.sin(np.arange(20) * np.pi / 10) * 15 + 50], axis=1
    )

    def photo(level: int) -> tuple[np.ndarray, np.ndarray]:
        planes = tuple(np.full(size, level, np.uint8) for size in ((100, 100), (50, 50), (50, 50)))
        return cut_photo(planes, lips)

    gaps = np.array([3.0, 5.0, 8.0, 12.0])
    for levels, kept in (
        ([170, 49, 140, 150], [0, 2, 3]),
        ([60, 170, 70, 80], [0, 2, 3]),
        ([150, 120, 90, 60], [0, 1, 2, 3]),
    ):
        cuts = {frame: photo(level) for frame, level in enumerate(levels)}
        assert collect_photos(cuts, gaps, np.ones(4)).frames.tolist() == kept
