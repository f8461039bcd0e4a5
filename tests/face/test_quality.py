from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.errors import FaceNotUsable
from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
from avatar_pipeline.face.people import FaceCount
from avatar_pipeline.face.quality import LEAST_FRAMES, require_usable
from avatar_pipeline.face.tracking import read_track, track_video, write_track
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.media.probe import probe
from avatar_pipeline.store.checkpoints import FolderCheckpoints

ONE = FaceCount(samples=5, with_several=0, brightness=120.0)
TURNS = np.linspace(-25, 25, 125, dtype=np.float32)


def losing(track: LandmarkTrack, rows: np.ndarray | slice) -> LandmarkTrack:
    """The track without the face in some rows."""
    changed = replace(
        track, **{name: getattr(track, name).copy() for name in ("found", "landmarks", "angles", "blur", "face_size")}
    )
    changed.found[rows] = False
    for name in ("landmarks", "angles", "blur", "face_size"):
        getattr(changed, name)[rows] = np.nan
    return changed


def changed(track: LandmarkTrack, landmarks: np.ndarray | None = None, **arrays: object) -> LandmarkTrack:
    angles = track.angles.copy()
    angles[:, 0] = TURNS
    return replace(track, angles=angles, landmarks=track.landmarks if landmarks is None else landmarks, **arrays)


@pytest.fixture
def good(face_track: LandmarkTrack) -> LandmarkTrack:
    """The generated face, as if it had turned, come near, and spoken."""
    landmarks = face_track.landmarks.copy()
    landmarks[:, 14, 1] = landmarks[:, 13, 1] + np.where(np.arange(125) % 10 < 5, 0.002, 0.05).astype(np.float32)
    return changed(face_track, landmarks, width=640, height=640)


def test_a_good_video_gets_no_advice(good: LandmarkTrack) -> None:
    assert require_usable(good, "me.mp4", ONE) == []


def test_no_face_at_all_is_refused(good: LandmarkTrack) -> None:
    with pytest.raises(FaceNotUsable, match=r"me\.mp4: no face was found"):
        require_usable(losing(good, slice(None)), "me.mp4")


def test_a_face_seen_too_rarely_is_refused_with_the_share(good: LandmarkTrack) -> None:
    assert require_usable(losing(good, slice(0, 25)), "me.mp4")
    with pytest.raises(FaceNotUsable, match=r"found in 74% of the frames; 80%"):
        require_usable(losing(good, np.arange(125) % 4 == 0), "me.mp4")


def test_several_people_are_refused(good: LandmarkTrack) -> None:
    with pytest.raises(FaceNotUsable, match=r"several people .*4 of 5"):
        require_usable(good, "me.mp4", replace(ONE, with_several=4))


def test_a_small_face_is_refused_and_a_smallish_one_advised_on(good: LandmarkTrack) -> None:
    with pytest.raises(FaceNotUsable, match=r"too small: \d+ px between the eyes; 40 px"):
        require_usable(replace(good, width=180, height=180), "me.mp4")
    (advice,) = require_usable(replace(good, width=400, height=400), "me.mp4")
    assert advice.startswith("The face is small (")


def test_too_few_frames_are_refused(good: LandmarkTrack) -> None:
    short = replace(
        good,
        **{
            name: getattr(good, name)[: LEAST_FRAMES - 1]
            for name in ("pts", "found", "landmarks", "angles", "blur", "face_size")
        },
    )
    with pytest.raises(FaceNotUsable, match="only 19 frames show the face; 20 are needed"):
        require_usable(short, "me.mp4")


def test_an_empty_track_is_refused(good: LandmarkTrack) -> None:
    names = ("pts", "found", "landmarks", "angles", "blur", "face_size")
    with pytest.raises(FaceNotUsable, match="no face"):
        require_usable(replace(good, **{name: getattr(good, name)[:0] for name in names}), "me.mp4")


@pytest.mark.parametrize(
    ("scale", "sides"), [(0.1, "your left or your right"), ((1, 0), "your left"), ((0, 1), "your right")]
)
def test_a_head_that_does_not_turn_is_told_to_which_side(good: LandmarkTrack, scale, sides: str) -> None:
    right, left = scale if isinstance(scale, tuple) else (scale, scale)
    angles = good.angles.copy()
    angles[:, 0] = np.where(TURNS < 0, TURNS * right, TURNS * left)
    (advice,) = require_usable(replace(good, angles=angles), "me.mp4")
    assert advice.startswith(f"The head is never turned far to {sides} (")


def lips(good: LandmarkTrack, gap: float) -> LandmarkTrack:
    landmarks = good.landmarks.copy()
    landmarks[:, 14] = landmarks[:, 13] + np.array([0, gap, 0], np.float32)
    return replace(good, landmarks=landmarks)


def chin_outside(good: LandmarkTrack) -> LandmarkTrack:
    lowered = good.landmarks.copy()
    lowered[..., 1] += 1.02 - lowered[:, 152:153, 1]
    return replace(good, landmarks=lowered)


def eyes_closed(good: LandmarkTrack) -> LandmarkTrack:
    landmarks = good.landmarks.copy()
    landmarks[:, [159, 386]] = landmarks[:, [145, 374]]
    return replace(good, landmarks=landmarks)


@pytest.mark.parametrize(
    ("change", "starts"),
    [
        (lambda good: replace(good, blur=good.blur * 0 + 10), ["The face is blurred"]),
        (lambda good: lips(good, 0.05), ["The mouth is never closed", "The mouth hardly moves"]),
        (lambda good: lips(good, 0.001), ["The mouth hardly moves"]),
        (eyes_closed, ["The eyes are mostly closed"]),
        (lambda good: losing(good, slice(0, 10)), ["The face is lost in 8% of the frames"]),
        (chin_outside, ["The face is cut off"]),
    ],
    ids=["blurred", "mouth open", "mouth shut", "eyes shut", "lost", "cut off"],
)
def test_what_could_be_better_is_said(good: LandmarkTrack, change, starts: list[str]) -> None:
    advice = require_usable(change(good), "me.mp4", ONE)
    assert [any(line.startswith(start) for line in advice) for start in starts] == [True] * len(starts)
    assert len(advice) == len(starts)


def test_a_dark_face_is_told_to_find_light(good: LandmarkTrack) -> None:
    (advice,) = require_usable(good, "me.mp4", replace(ONE, brightness=30.0))
    assert advice.startswith("The face is dark")


@pytest.mark.parametrize("name", ["hdtf_wda_k", "lp_d13_phone_noaudio", "lp_d19_glasses", "lp_d3", "lp_s18_720p"])
def test_real_videos_are_tracked_in_every_frame_and_usable(evaluation_data: Path, tmp_path: Path, name: str) -> None:
    path = evaluation_data / f"video/{name}.mp4"
    track = track_video(path, probe(path), FaceMeshDetector(), FolderCheckpoints(tmp_path))
    assert track.found.all()
    require_usable(track, path.name)
    write_track(tmp_path / "track.parquet", track)
    assert read_track(tmp_path / "track.parquet").landmarks.tobytes() == track.landmarks.tobytes()


def test_a_mouth_outside_the_picture_is_refused_and_a_chin_is_not(good: LandmarkTrack) -> None:
    """Landmarks outside the picture are made up: such footage went through the whole line, and failed at its end."""
    cut = chin_outside(good)
    assert require_usable(cut, "me.mp4", ONE), "a cut chin is only advised on"
    with pytest.raises(FaceNotUsable, match=r"the mouth is outside the picture in 100% of the frames"):
        require_usable(replace(cut, landmarks=cut.landmarks + np.float32(0.2)), "me.mp4", ONE)


def test_few_pictures_a_second_are_advised_on(good: LandmarkTrack) -> None:
    slow = changed(good, pts=np.arange(125, dtype=np.int64) * 2 * (good.pts[1] - good.pts[0]), width=640, height=640)
    assert any("pictures a second" in sentence for sentence in require_usable(slow, "me.mp4", ONE))
