"""Mouth shapes cover the time, curves are weights, lips meet, and silence is silent."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avatar_pipeline.voice.espeak import Settings, speak
from avatar_pipeline.voice.types import Phoneme, Viseme
from avatar_pipeline.voice.visemes import VISEMES, split_ipa, to_visemes, unknown_letters, viseme_curves
from tests.voice.conftest import PASSAGE

SYMBOLS = ["", "p", "b", "m", "f", "ˈaɪ", "h", "s", "tʃ", "uː", "ə", "ʔ", "ɹ", "ɔ̃", "?", "Ж", "əl", "aɪə"]
FPS = [24, 25, 30000 / 1001, 50, 60]


@st.composite
def utterances(draw: st.DrawFn) -> tuple[list[Phoneme], float]:
    time, phonemes = draw(st.floats(0, 0.3)), []
    for symbol in draw(st.lists(st.sampled_from(SYMBOLS), max_size=25)):
        length = draw(st.floats(0.0, 0.4))
        phonemes.append(Phoneme(symbol, time, time + length))
        time += length + draw(st.sampled_from([0.0, 0.0, 0.05]))
    return phonemes, time + draw(st.floats(0, 0.5))


@pytest.mark.parametrize(
    ("symbol", "shapes"),
    [
        ("p", ("PP",)),
        ("ˈaɪ", ("aa", "I")),
        ("tʃ", ("CH",)),
        ("ɔ̃", ("O",)),
        ("ˌoʊ", ("O", "U")),
        ("uː", ("U",)),
        ("h", (None,)),
        ("əl", ("E", "nn")),
        ("", ()),
        ("ˈ", ()),
    ],
)
def test_ipa_symbols_have_the_shapes_a_phonetician_expects(symbol: str, shapes: tuple[str | None, ...]) -> None:
    assert split_ipa(symbol) == shapes


@pytest.mark.parametrize(
    ("voice", "text"),
    [
        (
            "gmw/en-US",
            PASSAGE + " Judge the church, genre, vision, thing, this, oil, ouch, fire, hour, uh-oh, loch. 42!",
        ),
        ("gmw/en", PASSAGE),
        ("roa/fr", "Bonjour, un bon vin blanc, où est la nuit? Le peuple a pu lire, œuf, feuille, agneau."),
        ("gmw/de", "Übergroße Züge fahren auch nach Köln, ich möchte zwei Pferde, bitte."),
        ("roa/es", "El perro corrió rápido; niño, llave, guitarra, jamón, ciudad."),
        ("sit/cmn", "你好，世界。我是学生，今天天气很好。"),
        ("inc/hi", "नमस्ते दुनिया, आप कैसे हैं?"),
    ],
)
def test_every_sound_of_the_language_has_a_shape(voice: str, text: str) -> None:
    symbols = [phoneme.symbol for phoneme in speak(text, Settings(voice)).phonemes]
    assert len(symbols) > 20
    assert "".join(unknown_letters(symbol) for symbol in symbols) == ""


def test_diphthongs_spend_sixty_percent_in_their_first_shape() -> None:
    first, second = to_visemes([Phoneme("aɪ", 0.0, 1.0)], 1.0)
    assert (first, second) == (Viseme("aa", 0.0, 0.6), Viseme("I", 0.6, 1.0))


def test_h_takes_the_shape_of_what_follows_or_else_of_what_came_before() -> None:
    assert [v.name for v in to_visemes([Phoneme("h", 0, 0.1), Phoneme("uː", 0.1, 0.3)], 0.3)] == ["U"]
    assert [v.name for v in to_visemes([Phoneme("a", 0, 0.1), Phoneme("h", 0.1, 0.3)], 0.3)] == ["aa"]


def test_lips_of_p_open_before_the_vowel_sounds() -> None:
    closed, _ = to_visemes([Phoneme("p", 0.0, 0.1), Phoneme("a", 0.1, 0.3)], 0.3)
    assert closed == Viseme("PP", 0.0, pytest.approx(0.06))


@given(utterances())
@example(([Phoneme("", 0.0, 1.0), Phoneme("ˈaɪ", 1.0, 1.0000000000000002)], 1.0000000000000002))
def test_visemes_cover_the_time_without_gaps(utterance: tuple[list[Phoneme], float]) -> None:
    phonemes, seconds = utterance
    visemes = to_visemes(phonemes, seconds)
    assert {viseme.name for viseme in visemes} <= set(VISEMES)
    assert all(viseme.end > viseme.start for viseme in visemes)
    assert all(one.end == two.start and one.name != two.name for one, two in itertools.pairwise(visemes))
    if seconds > 0:
        assert (visemes[0].start, visemes[-1].end) == (0.0, seconds)


@settings(max_examples=60, deadline=None)
@given(utterances(), st.sampled_from(FPS))
def test_curves_are_weights_for_every_frame(utterance: tuple[list[Phoneme], float], fps: float) -> None:
    phonemes, seconds = utterance
    curves = viseme_curves(to_visemes(phonemes, seconds), seconds, fps)
    assert curves.shape == (math.ceil(round(seconds * fps, 6)), 15)
    assert curves.dtype == np.float32
    assert (curves >= 0).all()
    np.testing.assert_allclose(curves.sum(axis=1), 1.0, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["p", "b", "m", "f"]), st.floats(0.02, 0.2)), max_size=8), st.sampled_from(FPS)
)
def test_lips_meet_at_the_frame_nearest_to_every_closure(sounds: list[tuple[str, float]], fps: float) -> None:
    time, phonemes = 0.0, []
    for symbol, length in sounds:
        phonemes += [Phoneme("a", time, time + 0.09), Phoneme(symbol, time + 0.09, time + 0.09 + length)]
        time += 0.09 + length
    visemes = to_visemes(phonemes, time)
    curves = viseme_curves(visemes, time, fps)
    times = np.arange(len(curves)) / fps
    for viseme in visemes:
        if viseme.name in ("PP", "FF"):
            nearest = np.argmin(np.abs(times - (viseme.start + viseme.end) / 2))
            assert curves[nearest, VISEMES.index(viseme.name)] >= 0.97


@given(st.floats(0.2, 1.0), st.sampled_from(FPS))
def test_long_pauses_are_exactly_silent_inside(pause: float, fps: float) -> None:
    visemes = to_visemes([Phoneme("p", 0.3, 0.4), Phoneme("p", 0.4 + pause, 0.5 + pause)], 0.5 + pause)
    curves = viseme_curves(visemes, 0.5 + pause, fps)
    times = np.arange(len(curves)) / fps
    inside = (times >= 0.481) & (times <= 0.319 + pause)
    assert (curves[inside, 0] == 1.0).all()
    assert (curves[times < 0.219, 0] == 1.0).all()


def test_no_speech_is_silence_and_no_time_is_no_frames() -> None:
    assert (viseme_curves((), 1.0, 25)[:, 0] == 1.0).all()
    assert viseme_curves((), 0.0, 25).shape == (0, 15)
    assert to_visemes([], 0.0) == ()


def test_vowels_reach_their_shape_and_move_smoothly() -> None:
    spoken = speak(PASSAGE, Settings("gmw/en-US"))
    seconds = len(spoken.samples) / spoken.rate
    visemes = to_visemes(spoken.phonemes, seconds)
    curves = viseme_curves(visemes, seconds, 60)
    for viseme in visemes:
        if viseme.name in ("aa", "O", "U") and viseme.end - viseme.start > 0.08:
            centre = round((viseme.start + viseme.end) / 2 * 60)
            assert curves[centre, VISEMES.index(viseme.name)] > 0.6
    assert np.abs(np.diff(curves, axis=0)).max() < 0.65


def test_curves_at_two_frame_rates_agree_where_lips_are_open() -> None:
    visemes = to_visemes([Phoneme("a", 0.0, 0.5), Phoneme("iː", 0.5, 1.0), Phoneme("s", 1.0, 1.4)], 1.4)
    np.testing.assert_allclose(viseme_curves(visemes, 1.4, 25), viseme_curves(visemes, 1.4, 50)[::2], atol=1e-6)
