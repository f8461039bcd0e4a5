"""What the stand-in says, and when it says which letter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.voice.espeak import Settings
from avatar_pipeline.voice.espeak import speak as espeak
from avatar_pipeline.voice.types import Phoneme, Word
from tests.elevenlabs.letters import Times, pair, spread
from tests.elevenlabs.normal import normalised
from tests.elevenlabs.speech import Sound, paced, say, sound_of

TEXT = "The box of 42 apples is heavy."
VOICE = Sound()


def _starts(times: Times, text: str, words: str) -> list[float]:
    starts = []
    cursor = 0
    for word in words.split():
        cursor = text.index(word, cursor)
        starts.append(times.starts[cursor])
    return starts


def test_words_start_when_espeak_starts_them() -> None:
    said = say(TEXT, VOICE, 24_000, beeps=False)
    spoken = espeak(TEXT, Settings("gmw/en-US"))
    words = [word for word in spoken.words if word.text.isalpha()]

    expected = [word.start for word in words]
    assert _starts(said.times, TEXT, " ".join(word.text for word in words)) == pytest.approx(expected, abs=0.001)
    assert said.times.ends[-1] == pytest.approx(len(spoken.samples) / spoken.rate)
    assert said.seconds == pytest.approx(len(spoken.samples) / spoken.rate, abs=0.001)


def test_a_letter_starts_with_its_sound() -> None:
    said = say(TEXT, VOICE, 24_000, beeps=False)
    spoken = espeak(TEXT, Settings("gmw/en-US"))
    [p] = [phoneme for phoneme in spoken.phonemes if phoneme.symbol.lstrip("ˈˌ").startswith("p")]

    assert said.times.starts[TEXT.index("pp")] == pytest.approx(p.start, abs=0.001)


def test_same_text_voice_and_seed_give_the_same_samples() -> None:
    first, again = (say(TEXT, paced(VOICE, 1.0, 7, "en"), 24_000, beeps=False) for _ in range(2))
    other_seed = say(TEXT, paced(VOICE, 1.0, 8, "en"), 24_000, beeps=False)
    other_voice = say(TEXT, paced(sound_of(b"another"), 1.0, 7, "en"), 24_000, beeps=False)

    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other_seed.samples)
    assert not np.array_equal(first.samples, other_voice.samples)


def test_voice_made_again_from_the_same_samples_sounds_the_same() -> None:
    assert sound_of(b"recording") == sound_of(b"recording")


def test_faster_speech_is_shorter() -> None:
    slow, fast = (say(TEXT, paced(VOICE, speed, None, None), 16_000, beeps=False).seconds for speed in (0.8, 1.2))

    assert fast < 0.8 * slow


def test_language_that_espeak_lacks_is_read_as_english() -> None:
    unknown = say(TEXT, paced(VOICE, 1.0, None, "xx"), 24_000, beeps=False)

    assert np.array_equal(unknown.samples, say(TEXT, VOICE, 24_000, beeps=False).samples)


def test_text_that_espeak_cannot_speak_is_beeped() -> None:
    assert say("…", VOICE, 24_000, beeps=False).times.characters == ("…",)


@given(st.text(min_size=1, max_size=40))
def test_beeps_last_as_long_as_their_letters(text: str) -> None:
    said = say(text, VOICE, 8_000, beeps=True)

    assert said.times.characters == tuple(text)
    assert said.times.ends[-1] == pytest.approx(said.seconds)
    assert said.seconds == pytest.approx(0.06 * len(text))


@pytest.mark.parametrize(
    ("sounds", "letters", "expected"),
    [
        ("b ˈɑː k s", "box", [0, 1, 2, None]),
        ("n ˈuː", "knew", [1, 2]),
        ("ð ə", "the", [0, 2]),
        ("ˈæ p əl z", "apples", [0, 1, 4, 5]),
        ("f ˈoʊ t oʊ", "photo", [0, 2, 3, 4]),
        ("", "a", []),
        ("ˈeɪ", "", [None]),
    ],
)
def test_sounds_are_paired_with_the_letters_that_write_them(
    sounds: str, letters: str, expected: list[int | None]
) -> None:
    assert pair(sounds.split(), letters) == expected


@st.composite
def _talk(draw: st.DrawFn) -> tuple[str, list[Word], list[Phoneme], float]:
    tokens = draw(st.lists(st.text("abckpth", min_size=1, max_size=6), min_size=1, max_size=6))
    words, phonemes, now = [], [], 0.0
    for token in tokens:
        start = now = now + draw(st.floats(0, 0.3))
        for symbol in draw(st.lists(st.sampled_from(["k", "ˈæ", "p", "tʃ", "ð"]), max_size=7)):
            phonemes.append(Phoneme(symbol, now, now := now + draw(st.floats(0.01, 0.2))))
        words.append(Word(token, start, now))
    shown = draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    known = [word for word, show in zip(words, shown, strict=True) if show]
    return " ".join(tokens) + ".", known, phonemes, now + draw(st.floats(0, 0.5))


@given(_talk())
def test_times_run_forward_through_the_whole_text(talk: tuple[str, list[Word], list[Phoneme], float]) -> None:
    text, words, phonemes, seconds = talk
    times = spread(text, words, phonemes, seconds)

    assert times.characters == tuple(text)
    assert list(times.starts) == sorted(times.starts)
    assert times.starts[1:] == times.ends[:-1]
    assert times.ends[-1] == pytest.approx(seconds)


def test_spelled_out_text_takes_the_time_of_what_it_stands_for() -> None:
    spelled = normalised(Times(("a", "5", "!"), (0.0, 1.0, 3.0), (1.0, 3.0, 4.0)))

    assert "".join(spelled.characters) == "afive!"
    assert spelled.starts == (0.0, 1.0, 1.5, 2.0, 2.5, 3.0)
    assert spelled.ends[-1] == 4.0
