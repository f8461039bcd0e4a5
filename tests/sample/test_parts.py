from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.mesh.topology import LIP_PAIRS, RIGHT_LID_PAIRS
from avatar_pipeline.sample.head import Head, build_head, lip_gap
from avatar_pipeline.sample.motion import YAW_REACH, make_motion
from avatar_pipeline.sample.portrait import Portrait, load_portrait
from avatar_pipeline.sample.sound import RATE, active_power, room_noise


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(320)


@pytest.fixture(scope="module")
def head(portrait: Portrait) -> Head:
    return build_head(portrait)


def weights(head: Head, **named: float) -> np.ndarray:
    values = np.zeros(len(head.morph_names))
    for name, value in named.items():
        values[head.morph_names.index(name)] = value
    return values


def test_the_eyes_of_the_portrait_are_far_enough_apart_at_full_size(portrait):
    irises = portrait.landmarks[[468, 473], :2] * 640
    assert np.linalg.norm(irises[0] - irises[1]) > 100


def test_the_face_belongs_to_the_head_and_the_picture_edge_does_not(portrait):
    nose = (portrait.landmarks[4, :2] * portrait.size).astype(int)
    assert portrait.head_alpha[nose[1], nose[0]] == pytest.approx(1, abs=0.01)
    for edge in (portrait.head_alpha[0], portrait.head_alpha[:, 0], portrait.head_alpha[:, -1]):
        assert edge.max() < 0.01


def test_the_plate_is_the_photograph_where_the_head_is_not(portrait):
    far = portrait.head_alpha[-60:] == 0
    difference = np.abs(portrait.plate[-60:].astype(int) - portrait.image[-60:])[far]
    assert difference.max() <= 1


def test_at_rest_the_lips_meet_and_pp_keeps_them_so(head):
    for shape in (head.shape(weights(head)), head.shape(weights(head, PP=1))):
        for upper, lower in LIP_PAIRS:
            assert np.linalg.norm(shape[upper] - shape[lower]) < 0.5


def test_aa_opens_the_mouth_wider_than_i(head):
    assert lip_gap(head.shape(weights(head, aa=1))) > lip_gap(head.shape(weights(head, I=1))) > 1


def test_a_blink_puts_lid_on_lid(head):
    shape = head.shape(weights(head, eyeBlinkRight=1))
    for upper, lower in RIGHT_LID_PAIRS:
        assert np.linalg.norm(shape[upper] - shape[lower]) < 0.5


def test_every_triangle_of_the_photographed_head_faces_the_camera_or_is_hidden(head):
    camera = head.pose.project(head.vertices)[0]
    a, b, c = (camera[head.triangles[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    assert area[area < 0].sum() > -0.005 * area.sum()


@given(seed=st.integers(0, 2**31), frames=st.integers(50, 300), fps=st.sampled_from([25, 30]))
@settings(max_examples=40, deadline=None)
def test_the_head_turns_smoothly_to_both_sides_and_lids_stay_between_open_and_shut(seed, frames, fps):
    motion = make_motion(frames, fps, seed)
    yaw = motion.turn[:, 0]
    assert yaw.max() > 0.75 * YAW_REACH
    assert yaw.min() < -0.75 * YAW_REACH
    assert np.abs(np.diff(yaw)).max() < 250 * 2 / frames
    assert motion.blink.min() >= 0
    assert motion.blink.max() <= 1


def test_the_same_seed_moves_the_same_way_and_another_differs():
    first, again, other = (make_motion(100, 25, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.turn, again.turn)
    assert not np.allclose(first.turn, other.turn)


def test_the_noise_is_of_unit_power_hums_at_the_mains_and_falls_with_frequency():
    noise = room_noise(4 * RATE, 5)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)

    def band(low: float, high: float) -> float:
        return float(power[(hertz >= low) & (hertz < high)].mean())

    assert np.std(noise) == pytest.approx(1, abs=0.01)
    assert band(49.5, 50.5) > 20 * band(55, 95)
    assert band(100.5, 300) > 10 * band(1000, 3000) > 100 * band(12000, 20000) / 10


def test_pauses_do_not_count_in_the_level_of_speech():
    tone = (0.5 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)).astype(np.float32)
    with_pause = np.concatenate([tone, np.zeros(RATE, np.float32)])
    assert active_power(with_pause) == pytest.approx(active_power(tone), rel=0.01)
