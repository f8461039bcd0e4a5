"""From a video's sound to a voice: the enrolment beside the model, and the person who consents."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.consent import ConsentRecord, read_consent
from avatar_pipeline.errors import ConsentMissing
from avatar_pipeline.media.audio import read_wav, write_wav
from avatar_pipeline.media.types import Audio
from avatar_pipeline.stages.checks import no_music, one_speaker, speech_present
from avatar_pipeline.stages.intake import UPLOAD, register_avatar
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.source import make_source_video
from avatar_pipeline.stages.voice import ENROLMENT_FILE, make_isolated_voice, make_voice_model, read_voice
from avatar_pipeline.store.artifacts import Slot
from avatar_pipeline.voice.espeak import Settings, speak
from avatar_pipeline.voice.loudness import PEAK_DB, TARGET_LUFS, TOLERANCE_LU, integrated_loudness, true_peak_db
from tests.stages.benches import make_line

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return make_line(tmp_path, lambda: NOW, isolation="dsp")


def consent_of(upload: Path) -> ConsentRecord:
    return read_consent(upload / "consent.json")


def with_recording(upload: Path, recording: Path) -> ConsentRecord:
    named = {"recording": recording.name, "evidence_sha256": hashlib.sha256(recording.read_bytes()).hexdigest()}
    return ConsentRecord.model_validate(consent_of(upload).model_dump() | named)


def test_the_enrolment_lies_beside_the_voice_as_the_provider_got_it(line: Line, sample_upload: Path) -> None:
    register_avatar(line, "ada", sample_upload / "sample.mp4", consent_of(sample_upload))
    make_source_video(line, "ada")
    isolated = make_isolated_voice(line, "ada")
    assert speech_present(isolated.facts).passed
    assert isolated.facts["isolator"] == "dsp"
    made = make_voice_model(line, "ada")
    artifact, voice = read_voice(line, "ada")
    assert {ENROLMENT_FILE, "voice.json", "preview.jpg"} <= set(artifact.files)
    enrolment = read_wav(line.store.local(artifact, ENROLMENT_FILE))
    samples = np.ascontiguousarray(enrolment.samples, dtype="<f4").tobytes()
    assert voice.enrolment_sha256 == hashlib.sha256(f"{enrolment.rate}:".encode() + samples).hexdigest()
    assert abs(integrated_loudness(enrolment) - TARGET_LUFS) <= TOLERANCE_LU
    assert true_peak_db(enrolment) <= PEAK_DB
    facts = made.facts
    assert facts["enrolment_seconds"] == pytest.approx(enrolment.seconds, abs=0.01)
    assert facts["lufs"] == pytest.approx(TARGET_LUFS, abs=TOLERANCE_LU)
    assert facts["judged_by"] == "recording"
    assert facts["consent_match"] is None
    assert one_speaker(facts).passed
    assert no_music(facts).passed
    json.dumps(facts)
    assert make_voice_model(line, "ada").reused


def test_a_voice_can_be_made_when_the_upload_is_gone(line: Line, sample_upload: Path) -> None:
    register_avatar(line, "ada", sample_upload / "sample.mp4", consent_of(sample_upload))
    make_source_video(line, "ada")
    make_isolated_voice(line, "ada")
    line.store.delete_slot(Slot.avatar("ada", UPLOAD))
    facts = make_voice_model(line, "ada").facts
    assert facts["enrolment_seconds"] > 2
    assert facts["judged_by"] == "isolated voice"


def test_whoever_consents_must_be_who_speaks(line: Line, sample_upload: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "statement.wav"
    write_wav(theirs, read_wav(sample_upload / "clean_speech.wav"))
    register_avatar(line, "ada", sample_upload / "sample.mp4", with_recording(sample_upload, theirs), recording=theirs)
    make_source_video(line, "ada")
    make_isolated_voice(line, "ada")
    assert make_voice_model(line, "ada").facts["consent_match"] > 0

    other = tmp_path / "other.wav"
    spoken = speak("I agree that my voice and my face are used for my avatar.", Settings("gmw/en-US+f3", pitch=70))
    write_wav(other, Audio(spoken.samples.astype(np.float32) / 32768, spoken.rate))
    register_avatar(line, "bob", sample_upload / "sample.mp4", with_recording(sample_upload, other), recording=other)
    make_source_video(line, "bob")
    make_isolated_voice(line, "bob")
    with pytest.raises(ConsentMissing, match=r"recording: the person in other\.wav does not sound like the one in"):
        make_voice_model(line, "bob")
    assert line.store.current(Slot.avatar("bob", "voice_model")) is None


def test_a_stock_voice_needs_no_enrolment(line: Line, sample_upload: Path) -> None:
    register_avatar(line, "ada", sample_upload / "sample.mp4", consent_of(sample_upload), voice="local:en")
    make_source_video(line, "ada")
    make_isolated_voice(line, "ada")
    made = make_voice_model(line, "ada")
    assert ENROLMENT_FILE not in made.artifact.files
    assert one_speaker(made.facts).passed
    assert no_music(made.facts).passed
