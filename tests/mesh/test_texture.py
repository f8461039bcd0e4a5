from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.face.pose import robust_neutral, to_camera
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.atlas import atlas_triangles, interpolate, push_pull, rasterise
from avatar_pipeline.mesh.texture import build_texture, choose_frames, read_frames
from avatar_pipeline.mesh.types import AvatarMesh, MeshReport
from tests.mesh.heads import HEIGHT, WIDTH, template_head, track_of


def test_each_texel_lies_in_the_triangle_it_is_given() -> None:
    atlas = rasterise(512)
    inside = atlas.triangle >= 0
    assert 0.6 < inside.mean() < 0.75, "an ellipse of 0.44 by 0.48"
    assert set(np.unique(atlas.triangle[inside])) >= set(range(0, 880, 11))
    place = interpolate(topology.UV.astype(float), atlas) * 512 - 0.5
    y, x = np.mgrid[:512, :512]
    np.testing.assert_allclose(place[inside], np.stack([x, y], axis=-1)[inside], atol=0.05)
    np.testing.assert_allclose(atlas.barycentric[inside].sum(axis=-1), 1, atol=1e-5)
    assert len(atlas_triangles()) == 880


def test_filling_keeps_what_is_known_and_invents_nothing_brighter() -> None:
    rng = np.random.default_rng(3)
    image = rng.uniform(50, 200, (64, 64, 3)).astype(np.float32)
    weight = np.zeros((64, 64), np.float32)
    weight[20:40, 10:30] = 1
    filled = push_pull(np.where(weight[..., None] > 0, image, 0), weight)
    np.testing.assert_allclose(filled[weight > 0], image[weight > 0], rtol=1e-5)
    known = image[weight > 0]
    assert filled.min() >= known.min() - 1e-3
    assert filled.max() <= known.max() + 1e-3


def still_head(yaws: np.ndarray, blur: np.ndarray | None = None) -> LandmarkTrack:
    return track_of(np.repeat(template_head()[None], len(yaws), axis=0), yaws, blur=blur)


def test_the_first_chosen_frame_is_frontal_sharp_and_has_the_mouth_closed_and_eyes_open() -> None:
    heads = np.repeat(template_head()[None], 6, axis=0)
    heads[0, [14, 17, 87, 317], 1] -= 15
    for upper, lower in (*topology.LEFT_LID_PAIRS, *topology.RIGHT_LID_PAIRS):
        heads[1, upper] = heads[1, lower]
    yaws = np.array([0, 0, 0, 12, 0, 0.0])
    track = track_of(heads, yaws, blur=np.array([100, 100, 5, 100, 100, 40.0]))
    neutral, poses = robust_neutral(to_camera(track.landmarks[4:5], WIDTH, HEIGHT))
    _, poses = robust_neutral(to_camera(track.landmarks, WIDTH, HEIGHT))
    assert choose_frames(track, poses, neutral)[0] == 4


def test_frames_turned_to_either_side_join_the_frontal_one() -> None:
    yaws = np.linspace(-30, 30, 61)
    track = still_head(yaws)
    neutral, poses = robust_neutral(to_camera(track.landmarks, WIDTH, HEIGHT))
    turned = poses.angles[list(choose_frames(track, poses, neutral)), 0]
    assert abs(turned[0]) < 3
    assert turned.min() < -18
    assert turned.max() > 18
    assert len(turned) <= 5


def test_a_head_that_never_turns_gives_one_frame() -> None:
    track = still_head(np.zeros(10))
    neutral, poses = robust_neutral(to_camera(track.landmarks, WIDTH, HEIGHT))
    assert len(choose_frames(track, poses, neutral)) == 1


def test_colours_come_from_where_the_landmarks_are(tmp_path: Path) -> None:
    """A head in front of a picture whose red tells x and whose green tells y."""
    from avatar_pipeline.media.encode import encode_segment, rgb_to_i420

    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([40 + 160 * x / WIDTH, 40 + 160 * y / HEIGHT, np.full(x.shape, 120.0)], axis=-1).astype(np.uint8)
    video = tmp_path / "ramp.mp4"
    encode_segment(video, [rgb_to_i420(picture)] * 4, width=WIDTH, height=HEIGHT, fps=Fraction(25), crf=8)
    track = still_head(np.zeros(4))
    neutral, poses = robust_neutral(to_camera(track.landmarks, WIDTH, HEIGHT))
    texture = build_texture(track, video, poses, neutral, size=256)
    inner = np.setdiff1d(np.flatnonzero(np.abs(topology.TEMPLATE[:, 0]) < 25), [*topology.OVAL, *topology.MOUTH])
    texel = np.round(topology.UV[inner] * 256 - 0.5).astype(int)
    expected = 40 + 160 * track.landmarks[0, inner, :2]
    np.testing.assert_allclose(texture.image[texel[:, 1], texel[:, 0], :2], expected, atol=6)
    assert texture.frames == (0,)
    assert 0.6 < texture.coverage < 1


def test_a_video_that_is_not_the_tracked_one_is_refused(portrait: tuple[Path, LandmarkTrack]) -> None:
    video, _ = portrait
    late = still_head(np.zeros(400))
    with pytest.raises(InvalidMedia, match=r"portrait\.mp4.*no frame at 15\.9"):
        list(read_frames(late, video, (398,)))


def test_the_texture_shows_the_persons_own_pixels(
    portrait: tuple[Path, LandmarkTrack], built: tuple[AvatarMesh, MeshReport]
) -> None:
    video, track = portrait
    mesh = built[0]
    (frame,) = read_frames(track, video, (0,))
    cheeks_brows_nose = [50, 280, 205, 425, 107, 336, 1, 4, 9, 8, 0, 17, 199]
    place = np.round(track.landmarks[0, cheeks_brows_nose, :2] * [track.width, track.height]).astype(int)
    texel = np.round(mesh.uv[cheeks_brows_nose] * len(mesh.texture)).astype(int)
    seen, shown = frame[place[:, 1], place[:, 0]].astype(int), mesh.texture[texel[:, 1], texel[:, 0]].astype(int)
    assert np.abs(seen - shown).mean() < 15
