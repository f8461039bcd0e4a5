"""Two people are told apart, and one is not taken for two, with voices of eSpeak NG and real ones."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.errors import SpeechNotUsable
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.second_speaker import find_second_speaker
from avatar_pipeline.voice.speaker_space import speaker_space
from avatar_pipeline.voice.speakers import same_speaker, voice_print
from tests.voice.conftest import join, load


def test_one_voice_saying_two_things_is_one_speaker(man: Audio, man_again: Audio) -> None:
    assert same_speaker(man, man_again).same


def test_two_voices_are_two_speakers(man: Audio, woman: Audio) -> None:
    match = same_speaker(man, woman)
    assert not match.same
    assert match.score < same_speaker(man, man).score


def test_the_order_does_not_matter(man: Audio, woman: Audio) -> None:
    assert same_speaker(man, woman).score == pytest.approx(same_speaker(woman, man).score)


def test_level_does_not_matter(man: Audio, man_again: Audio) -> None:
    quiet = Audio(man_again.samples * np.float32(0.05), man_again.rate)
    assert same_speaker(man, quiet).score == pytest.approx(same_speaker(man, man_again).score, rel=0.1)


def test_too_little_speech_to_compare_says_of_which_recording(man: Audio) -> None:
    silence = Audio(np.zeros(man.rate * 5, np.float32), man.rate)
    with pytest.raises(SpeechNotUsable, match=r"statement\.wav holds 0\.0 s of speech; to compare voices, 2 s"):
        same_speaker(man, silence, names=("video.mp4", "statement.wav"))


def test_a_second_voice_is_found_and_told_when(man: Audio, man_again: Audio, woman: Audio) -> None:
    found = find_second_speaker(voice_print(join(man, woman, man_again)))
    assert found.present
    assert found.share == pytest.approx(woman.seconds / (man.seconds + woman.seconds + man_again.seconds), abs=0.05)
    ((start, end),) = found.times
    assert start == pytest.approx(man.seconds, abs=1.5)
    assert end == pytest.approx(man.seconds + woman.seconds, abs=1.5)


def test_one_voice_has_no_second_speaker(man: Audio, man_again: Audio, woman: Audio) -> None:
    assert not find_second_speaker(voice_print(join(man, man_again))).present
    assert not find_second_speaker(voice_print(woman)).present


def test_of_a_few_words_nothing_is_said(man: Audio) -> None:
    found = find_second_speaker(voice_print(Audio(man.samples[: 4 * man.rate], man.rate)))
    assert not found.present
    assert found.share == 0


def test_the_space_holds_numbers_that_can_be_used() -> None:
    space = speaker_space()
    assert space.mixture.weights.sum() == pytest.approx(1, abs=1e-4)
    assert (space.mixture.variances > 0).all()
    assert (space.between > 0).all()
    assert np.isfinite(space.projection).all()
    here = np.zeros(len(space.between))
    assert space.likelihood_ratio(here, here) > 0 > space.likelihood_ratio(here + 3, here - 3)


def test_real_people_are_told_apart(recordings: Path) -> None:
    people = {
        folder.name: [load(path) for path in sorted(folder.glob("*.flac"))]
        for folder in sorted((recordings / "librispeech").iterdir())
        if folder.is_dir()
    }
    halves = {name: (join(*own[::2]), join(*own[1::2])) for name, own in people.items()}
    for one, other in halves.values():
        assert same_speaker(one, other).same
        assert not find_second_speaker(voice_print(join(one, other))).present
    for a, b in combinations(halves, 2):
        assert not same_speaker(halves[a][0], halves[b][0]).same, (a, b)
        assert find_second_speaker(voice_print(join(halves[a][0], halves[b][0], halves[a][1]))).present, (a, b)
