"""Verdicts: each passes what is good, and fails what is not."""

import pytest

from avatar_pipeline.stages import checks

CLIP = {
    "frames": 150,
    "seconds": 6.0,
    "audio_seconds": 5.98,
    "sync_r": 0.93,
    "sync_lag_frames": 0,
    "sync_judged_by": "correlation",
    "sync_passed": True,
}
MESH = {"triangles": 1000, "degenerate_triangles": 0, "flipped_uv_triangles": 0, "flipped_normals": 0}
VOICE = {"enrolment": True, "seconds": 8.0, "speech_seconds": 6.0, "snr_db_before": 10.0, "snr_db_after": 18.0}
ENROLMENT = {
    "enrolment": True,
    "second_speaker": False,
    "second_speaker_share": 0.2,
    "second_speaker_confidence": 0.1,
    "second_speaker_times": ["3.0–5.0 s"],
    "music": False,
    "music_share": 0.05,
    "music_times": [],
}
SOURCE = {"seconds": 8.0, "width": 640, "height": 640, "fps": 25.0, "codec": "h264", "container": "mp4"}


@pytest.mark.parametrize(
    ("verdict", "good", "bad"),
    [
        (checks.source_valid, SOURCE, {"seconds": 0.0}),
        (checks.face_coverage, {"found_share": 0.8, "frames": 10}, {"found_share": 0.79}),
        (checks.speech_present, VOICE, {"speech_seconds": 0.0}),
        (checks.speech_present, {"enrolment": False}, VOICE | {"speech_seconds": 0}),
        (checks.one_speaker, ENROLMENT, {"second_speaker": True}),
        (checks.one_speaker, {"enrolment": False}, ENROLMENT | {"second_speaker": True}),
        (checks.no_music, ENROLMENT, {"music": True}),
        (checks.no_music, {"enrolment": False}, ENROLMENT | {"music": True}),
        (checks.mesh_sane, MESH, {"flipped_normals": 1}),
        (checks.mesh_sane, MESH, {"degenerate_triangles": 1}),
        (checks.mesh_sane, MESH, {"flipped_uv_triangles": 1}),
        (checks.clip_duration, CLIP, {"audio_seconds": 5.9}),
        (checks.clip_duration, CLIP | {"audio_seconds": 5.96}, {"audio_seconds": 6.05}),
        (checks.mouth_follows, CLIP, {"sync_r": 0.84}),
        (checks.mouth_follows, CLIP | {"sync_lag_frames": -1}, {"sync_lag_frames": 2}),
        (checks.mouth_follows, CLIP | {"sync_r": None, "sync_judged_by": "stillness"}, {"sync_passed": False}),
    ],
)
def test_a_check_passes_what_is_good_and_fails_what_is_not(verdict, good: dict, bad: dict) -> None:
    assert verdict(good).passed
    assert not verdict(good | bad).passed


def test_a_clip_is_judged_by_its_length_and_its_mouth() -> None:
    assert [verdict.name for verdict in checks.clip_verdicts(CLIP)] == ["clip_duration", "mouth_follows"]


def test_what_is_heard_beside_the_voice_is_a_warning_that_says_when() -> None:
    verdict = checks.one_speaker(ENROLMENT | {"second_speaker": True})
    assert verdict.warns
    assert "3.0–5.0 s" in verdict.description
    assert checks.no_music(ENROLMENT | {"music": True}).warns
    assert not checks.speech_present(VOICE).warns
