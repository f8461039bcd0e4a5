"""The enrolment: cut in pauses, of one speaker, at the level that cloning wants."""

from __future__ import annotations

import numpy as np
import pytest

from avatar_pipeline.errors import SpeechNotUsable
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.enrolment import choose_enrolment
from avatar_pipeline.voice.espeak import Settings, speak
from avatar_pipeline.voice.loudness import PEAK_DB, TARGET_LUFS, TOLERANCE_LU, integrated_loudness, true_peak_db
from tests.voice.conftest import PASSAGE, join


def noisy(audio: Audio, snr_db: float, seed: int = 0) -> Audio:
    level = np.sqrt(np.mean(audio.samples**2)) / 10 ** (snr_db / 20)
    noise = np.random.default_rng(seed).standard_normal(len(audio.samples)) * level
    return Audio((audio.samples + noise).astype(np.float32), audio.rate)


def test_a_short_recording_gives_what_it_has_at_the_level_wanted(man: Audio) -> None:
    enrolment = choose_enrolment(man)
    report = enrolment.report
    assert report.seconds == pytest.approx(man.seconds, abs=1.5)
    assert enrolment.audio.rate == man.rate
    assert report.speech_seconds <= report.seconds == enrolment.audio.seconds
    assert abs(integrated_loudness(enrolment.audio) - TARGET_LUFS) <= TOLERANCE_LU
    assert true_peak_db(enrolment.audio) <= PEAK_DB
    assert not report.second_speaker.present
    assert not report.music.present
    assert report.facts()["lufs"] == pytest.approx(TARGET_LUFS, abs=TOLERANCE_LU)


def test_the_same_recording_gives_the_same_enrolment(man: Audio) -> None:
    one, other = choose_enrolment(man), choose_enrolment(man)
    assert one.report == other.report
    assert np.array_equal(one.audio.samples, other.audio.samples)


def test_two_minutes_are_enough_and_the_clean_part_is_taken(man: Audio, man_again: Audio) -> None:
    both = join(man, man_again)
    clean = join(*[both] * 3)
    recording = join(noisy(clean, 6), clean)
    report = choose_enrolment(recording).report
    assert 60 <= report.seconds <= 120
    assert all(stretch.start >= clean.seconds - 1 for stretch in report.stretches)
    assert [s.start for s in report.stretches] == sorted(s.start for s in report.stretches)
    assert all(0 <= s.start < s.end <= recording.seconds and s.why for s in report.stretches)


def test_no_word_is_cut(man: Audio, woman: Audio) -> None:
    # The other voice makes it cut; and with words' true times it is known where it must not.
    words, at = [], 0.0
    parts = []
    for voice, pitch in (("gmw/en-US", 40), ("gmw/en-US+f3", 60), ("gmw/en-US", 40)):
        spoken = speak(PASSAGE, Settings(voice, pitch=pitch))
        parts.append(Audio(spoken.samples.astype(np.float32) / 32768, spoken.rate))
        words += [(at + word.start, at + word.end) for word in spoken.words]
        at += parts[-1].seconds
    recording = join(*parts)
    stretches = choose_enrolment(recording).report.stretches
    assert len(stretches) >= 2
    for cut in [edge for s in stretches for edge in (s.start, s.end) if 0.1 < edge < recording.seconds - 0.1]:
        # eSpeak's word times are of the commanded sounds: their ends fade by some hundredths of a second.
        assert not any(start + 0.03 < cut < end - 0.03 for start, end in words), cut


def test_cuts_make_no_click(man: Audio, woman: Audio, man_again: Audio) -> None:
    hissing = noisy(join(man, woman, man_again), 25)
    enrolment = choose_enrolment(hissing)
    assert len(enrolment.report.stretches) >= 2
    at = 0.0
    for stretch in enrolment.report.stretches[:-1]:
        at += stretch.end - stretch.start
        sample = round(at * hissing.rate)
        assert np.abs(enrolment.audio.samples[sample - 2 : sample + 2]).max() < 1e-3


def test_only_the_one_who_speaks_more_is_kept(man: Audio, man_again: Audio, woman: Audio) -> None:
    report = choose_enrolment(join(man, woman, man_again)).report
    assert report.second_speaker.present
    hers = (man.seconds, man.seconds + woman.seconds)
    assert sum(max(0.0, min(s.end, hers[1]) - max(s.start, hers[0])) for s in report.stretches) < 0.5
    assert report.facts()["second_speaker_times"]


def test_noise_and_clipping_are_judged_by_the_recording_before_isolation(man: Audio, man_again: Audio) -> None:
    both = join(man, man_again)
    voice = join(*[both] * 4)
    loud = Audio(np.clip(both.samples * 30, -1, 1), both.rate)
    original = join(both, loud, both, both)
    report = choose_enrolment(voice, original).report
    bad = (both.seconds, 2 * both.seconds)
    taken = sum(max(0.0, min(s.end, bad[1]) - max(s.start, bad[0])) for s in report.stretches)
    assert taken < 0.2 * both.seconds
    assert report.seconds >= 60


def test_a_recording_without_speech_is_refused_by_name() -> None:
    silence = Audio(np.zeros(16_000 * 5, np.float32), 16_000)
    with pytest.raises(SpeechNotUsable, match=r"ada\.mp4 holds no speech"):
        choose_enrolment(silence, name="ada.mp4")
