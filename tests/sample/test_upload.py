from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.consent import read_consent
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
from avatar_pipeline.face.pose import robust_neutral, to_camera
from avatar_pipeline.face.tracking import track_video
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.media.audio import read_audio, read_wav
from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.media.probe import probe
from avatar_pipeline.sample.sound import LEAD, active_power
from avatar_pipeline.sample.upload import SampleUpload, Truth, make_sample_upload, read_truth
from avatar_pipeline.store.checkpoints import FolderCheckpoints

SETTINGS = {"seconds": 3.0, "size": 320, "snr_db": 10.0, "seed": 3}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleUpload:
    return make_sample_upload(tmp_path_factory.mktemp("sample"), **SETTINGS)


@pytest.fixture(scope="module")
def truth(sample: SampleUpload) -> Truth:
    return read_truth(sample.truth)


@pytest.fixture(scope="module")
def track(sample: SampleUpload, tmp_path_factory: pytest.TempPathFactory) -> LandmarkTrack:
    chunks = FolderCheckpoints(tmp_path_factory.mktemp("chunks"))
    return track_video(sample.video, probe(sample.video), FaceMeshDetector(), chunks)


def correlation(a, b) -> float:
    return float(np.corrcoef(np.asarray(a), np.asarray(b))[0, 1])


def test_the_same_arguments_give_the_same_bytes(sample, tmp_path):
    again = make_sample_upload(tmp_path, **SETTINGS)
    for name in ("video", "clean_speech", "truth", "consent"):
        assert getattr(again, name).read_bytes() == getattr(sample, name).read_bytes(), name


def test_nothing_but_the_four_files_is_left_in_the_folder(sample):
    names = {path.name for path in sample.video.parent.iterdir()}
    assert names == {"sample.mp4", "clean_speech.wav", "truth.json", "consent.json"}


def test_the_video_is_an_upload_that_the_probe_accepts(sample):
    info = probe(sample.video)
    assert (info.width, info.height, info.fps, info.codec) == (320, 320, Fraction(25), "h264")
    assert info.seconds == pytest.approx(3.0)
    assert info.audio is not None
    assert info.audio.codec == "aac"


def test_the_consent_covers_likeness_and_voice(sample):
    consent = read_consent(sample.consent)
    for scope in ("likeness", "voice"):
        consent.require(scope, datetime(2026, 6, 1, tzinfo=UTC))


def test_the_face_is_found_in_every_frame_where_the_truth_has_it(track, truth):
    assert track.found.all()
    assert len(track) == len(truth.yaw) == 75
    assert correlation(truth.yaw, track.angles[:, 0]) > 0.95
    assert correlation(truth.roll, track.angles[:, 2]) > 0.8


def test_the_head_turns_to_both_sides(truth):
    assert min(truth.yaw) < -14
    assert max(truth.yaw) > 14


def test_the_tracked_lips_open_as_told_and_when_told(track, truth):
    camera = to_camera(track.landmarks, track.width, track.height)
    _, poses = robust_neutral(camera)
    shapes = poses.unproject(camera)
    seen = np.linalg.norm(shapes[:, 13] - shapes[:, 14], axis=1)
    told = np.asarray(truth.lip_gap)
    by_lag = {lag: correlation(told[4:-4], np.roll(seen, -lag)[4:-4]) for lag in range(-3, 4)}
    assert by_lag[0] >= 0.85
    assert max(by_lag, key=by_lag.__getitem__) == 0


def test_the_eyes_are_seen_to_shut_in_a_blink(track, truth):
    camera = to_camera(track.landmarks, track.width, track.height)
    opening = np.linalg.norm(camera[:, 159] - camera[:, 145], axis=1)
    blink = np.asarray(truth.blink)
    assert (blink > 0.9).any()
    assert opening[blink > 0.9].mean() < 0.6 * opening[blink == 0].mean()


def test_the_edge_of_the_picture_never_moves(sample):
    frames = np.stack([frame.image for frame in decode_frames(sample.video)]).astype(int)
    for edge in (frames[:, :8], frames[:, -8:], frames[:, :, :8], frames[:, :, -8:]):
        assert np.abs(edge - edge[0]).mean() < 1.5


def test_the_mix_has_the_stated_signal_to_noise_ratio(sample):
    clean = read_wav(sample.clean_speech)
    mixed = read_audio(sample.video, rate=clean.rate)
    n = min(len(clean.samples), len(mixed.samples))
    noise = (mixed.samples[:n] - clean.samples[:n]).astype(float)
    ratio = 10 * np.log10(active_power(clean.samples, clean.rate) / np.mean(noise**2))
    assert ratio == pytest.approx(SETTINGS["snr_db"], abs=0.5)


def test_the_room_is_heard_before_the_first_word(sample):
    clean = read_wav(sample.clean_speech)
    mixed = read_audio(sample.video, rate=clean.rate)
    lead = round((LEAD - 0.05) * clean.rate)
    assert not clean.samples[:lead].any()
    assert np.sqrt(np.mean(mixed.samples[lead // 2 : lead] ** 2)) > 1e-3


def test_the_words_of_a_short_sample_are_the_first_of_the_text(truth):
    assert truth.text.startswith("Hello, this is")
    assert truth.viseme[0] == "sil"
    assert len(set(truth.viseme)) >= 5


@pytest.mark.parametrize(
    ("field", "value"), [("seconds", 0.5), ("seconds", 60.0), ("size", 64), ("size", 321), ("fps", 200)]
)
def test_an_argument_out_of_range_is_named(tmp_path: Path, field: str, value: float):
    with pytest.raises(InvalidInput, match=field):
        make_sample_upload(tmp_path, **{field: value})
    assert not list(tmp_path.iterdir())
