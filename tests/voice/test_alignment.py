"""Sounds from characters' times: in order, inside their words, near the truth, whatever the service sends."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.voice import espeak, transcription
from avatar_pipeline.voice.alignment import LEAST_SECONDS, phonemes_of_characters
from avatar_pipeline.voice.types import CharacterTime, Phoneme
from avatar_pipeline.voice.visemes import to_visemes
from benchmarks.viseme_times import SPELT, SPOKEN, even_letters, spelt_letters

TEXTS = (
    "Hello, world!",
    "Don't — you know? — beat about the bush; 42 of the well-known “naïve” boxes.",
    "I",
    "Привет, мир 你好 🙂 ok",
    "$4.50 & 50%… A b c",
)
VOICE = espeak.Settings("gmw/en-US")


def evenly(text: str, seconds: float = 0.07) -> list[CharacterTime]:
    return [CharacterTime(c, i * seconds, (i + 1) * seconds) for i, c in enumerate(text)]


def sounds(phonemes: tuple[Phoneme, ...]) -> list[str]:
    return [phoneme.symbol for phoneme in phonemes if phoneme.symbol]


def errors(texts: tuple[str, ...], *, spelt: bool) -> list[float]:
    found: list[float] = []
    for text in texts:
        plain = text.replace("|", "")
        said = espeak.speak(plain, VOICE)
        characters = spelt_letters(text, said) if spelt else even_letters(plain, said)
        assert characters is not None
        phonemes, words = phonemes_of_characters(plain, characters, "en")
        assert sounds(phonemes) == sounds(said.phonemes)
        assert [word.text for word in words] == [word.text for word in said.words]
        firsts = {word.start for word in said.words}
        pairs = zip(*([p for p in some if p.symbol] for some in (said.phonemes, phonemes)), strict=True)
        found += [abs(a.start - b.start) for a, b in pairs if a.start not in firsts]
    return found


def test_letters_spread_evenly_place_sounds_within_25_ms_of_the_truth() -> None:
    found = errors(SPOKEN[:6], spelt=False)
    assert len(found) >= 200
    assert np.mean(found) < 0.020


def test_letters_timed_as_spoken_place_sounds_within_7_ms_of_the_truth() -> None:
    found = errors(SPELT[:4], spelt=True)
    assert len(found) >= 140
    assert np.mean(found) < 0.007


@st.composite
def spoken(draw: st.DrawFn) -> tuple[str, list[CharacterTime]]:
    """A text and times such as services send, good and bad: pauses, nothing, running backwards, no number."""
    text = draw(st.sampled_from(TEXTS))
    steps = st.sampled_from([0.0, 0.0, 0.01, 0.05, 0.12, 0.4, -0.1, math.nan])
    time, characters = draw(st.floats(0.0, 0.5)), []
    for character in text:
        start = time + draw(st.sampled_from([0.0, 0.0, 0.0, 0.2]))
        step = draw(steps)
        characters.append(CharacterTime(character, start, start + step))
        time = start + (step if step > 0 else 0.0)
    return text, characters


@settings(max_examples=80)
@given(spoken())
def test_sounds_follow_each_other_and_fill_each_word(utterance: tuple[str, list[CharacterTime]]) -> None:
    text, characters = utterance
    phonemes, words = phonemes_of_characters(text, characters, "en")
    last = max((time for c in characters for time in (c.start, c.end) if not math.isnan(time)), default=0.0)
    assert all(phoneme.end > phoneme.start for phoneme in phonemes)
    assert all(one.end == two.start for one, two in itertools.pairwise(phonemes))
    assert all(one.symbol or two.symbol for one, two in itertools.pairwise(phonemes))
    if phonemes:
        assert phonemes[0].start == 0.0
        assert phonemes[-1].end <= last + 1e-9
    assert all(word.end > word.start for word in words)
    assert all(one.end <= two.start for one, two in itertools.pairwise(words))
    for word in words:
        inside = [p for p in phonemes if p.start < word.end - 1e-12 and p.end > word.start + 1e-12]
        assert inside and all(phoneme.symbol for phoneme in inside)
        assert inside[0].start <= word.start and inside[-1].end >= word.end
    assert to_visemes(phonemes, last) is not None


@pytest.mark.parametrize("text", TEXTS)
def test_no_sound_is_lost_where_every_word_has_time(text: str) -> None:
    whole, _ = phonemes_of_characters(text, evenly(text), "en")
    assert sounds(whole) == [symbol for unit in transcription.transcribe(text, "en") for symbol in unit.symbols]


def test_a_pause_is_where_punctuation_has_time_and_a_space_is_none() -> None:
    text = "my boat, my map"
    times = {",": 0.05, " ": 0.06}
    time, characters = 0.0, []
    for character in text:
        characters.append(CharacterTime(character, time, time + times.get(character, 0.08)))
        time = characters[-1].end
    phonemes, words = phonemes_of_characters(text, characters, "en")
    pauses = [phoneme for phoneme in phonemes if not phoneme.symbol]
    assert [(round(p.start, 2), round(p.end, 2)) for p in pauses] == [(0.54, 0.65)]
    my, boat = words[:2]
    assert my.end == boat.start == pytest.approx(0.19)


def test_a_word_without_time_takes_some_of_the_pause_after_it() -> None:
    text = "bye, me"
    characters = [CharacterTime(c, 0.0, 0.0) for c in "bye"]
    characters += [CharacterTime(",", 0.0, 0.5), CharacterTime(" ", 0.5, 0.5)]
    characters += [CharacterTime("m", 0.5, 0.6), CharacterTime("e", 0.6, 0.8)]
    phonemes, words = phonemes_of_characters(text, characters, "en")
    assert (words[0].start, words[0].end) == (0.0, pytest.approx(2 * LEAST_SECONDS))
    assert sounds(phonemes) == ["b", "ˈaɪ", "m", "ˈiː"]


def test_a_word_without_time_or_pause_shares_that_of_its_neighbour() -> None:
    text = "see by me"
    times = [0, 0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.4, 0.6]
    characters = [CharacterTime(c, times[i], times[i + 1]) for i, c in enumerate(text)]
    phonemes, words = phonemes_of_characters(text, characters, "en")
    assert [word.text for word in words] == ["see", "by", "me"]
    assert "b" in sounds(phonemes)


def test_characters_that_differ_from_the_text_are_found_again() -> None:
    said = "it's  A boat".replace("'", "’")
    phonemes, words = phonemes_of_characters("It's a boat!", evenly(said), "en")
    assert [word.text for word in words] == ["It's", "a", "boat"]
    assert words[2].start == pytest.approx(8 * 0.07, abs=0.04)
    assert words[2].end == pytest.approx(12 * 0.07)
    assert phonemes[-1].end == pytest.approx(12 * 0.07)


def test_several_letters_timed_as_one_are_as_good() -> None:
    joined = [CharacterTime("boa", 0.0, 0.3), CharacterTime("t", 0.3, 0.4)]
    assert phonemes_of_characters("boat", joined, "en") == phonemes_of_characters("boat", evenly("boat", 0.1), "en")


def test_nothing_to_say_is_silence() -> None:
    assert phonemes_of_characters("", [], "en") == ((), ())
    assert phonemes_of_characters("… !", evenly("… !", 0.1), "en") == ((Phoneme("", 0.0, pytest.approx(0.3)),), ())
    assert phonemes_of_characters("hello", [], "en") == ((), ())


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("fr", "Bonjour, le peuple a pu lire"),
        ("de", "Übergroße Züge fahren auch nach Köln"),
        ("ru", "Привет, как дела"),
        ("el", "καλημέρα κόσμε"),
        ("hi", "नमस्ते दुनिया"),
        ("ja", "こんにちは世界"),
        ("zh", "你好，世界"),
        ("ko", "안녕하세요"),
        ("ar", "مرحبا بالعالم"),
        ("fil", "Magandang umaga po"),
        ("xx", "bamba popo"),
    ],
)
def test_other_languages_have_sounds_in_all_their_time(language: str, text: str) -> None:
    phonemes, words = phonemes_of_characters(text, evenly(text, 0.15), language)
    assert len(sounds(phonemes)) >= 5
    assert sum(word.end - word.start for word in words) > 0.7 * 0.15 * len(text)
    if language in ("fil", "xx"):
        assert {"m", "p"} & set(sounds(phonemes))


def test_words_that_are_not_said_by_espeak_still_move_the_mouth() -> None:
    text = "hello there"
    phonemes, words = phonemes_of_characters(text, evenly(text), "xex")
    assert len(sounds(phonemes)) >= 2
    assert len(words) == 2


def test_without_espeak_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """A folder that shadows the loader stands for its absence in the worker's process."""
    folder = tmp_path / "espeakng_loader"  # type: ignore[operator]
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('No module named espeakng_loader')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    transcription._voice.cache_clear()
    with pytest.raises(EnvironmentProblem, match="needs eSpeak NG") as problem:
        phonemes_of_characters("never said before", evenly("never said before"), "en")
    assert problem.value.remedy == "pip install avatar-pipeline[local-voice]"
