import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.media.encode import rgb_to_i420
from avatar_pipeline.render.colour import atlas_to_ycbcr, scale_i420
from avatar_pipeline.render.renderer import split_planes

channel = st.integers(0, 255)


@settings(deadline=None)
@given(channel, channel, channel)
def test_the_atlas_has_the_colours_that_the_encoder_gets(r, g, b):
    flat = np.full((4, 4, 3), (r, g, b), np.uint8)
    planes = [int(plane[0, 0]) for plane in split_planes(rgb_to_i420(flat))]
    assert np.abs(atlas_to_ycbcr(flat)[0, 0].astype(int) - planes).max() <= 1


def test_a_frame_that_fits_is_not_touched():
    frame = np.zeros((12, 8), np.uint8)
    assert scale_i420(frame, (8, 8)) is frame


def test_scaling_keeps_each_plane_its_own():
    frame = np.zeros((24, 16), np.uint8)
    for plane, value in zip(split_planes(frame), (50, 100, 200), strict=True):
        plane[:] = value
    assert [int(p[0, 0]) for p in split_planes(scale_i420(frame, (8, 6)))] == [50, 100, 200]
