"""eSpeak NG in its own process: times, words, languages, and every way it can fail."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from avatar_pipeline.errors import EnvironmentProblem, InvalidInput, InvalidText
from avatar_pipeline.voice.espeak import SLOWEST, EspeakVoice, Settings, at_speed, list_voices, resolve_voice, speak

ENGLISH = Settings("gmw/en-US")


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.fixture(scope="module")
def voices() -> tuple[EspeakVoice, ...]:
    return list_voices()


def test_phonemes_cover_the_audio_without_gaps() -> None:
    spoken = speak("Hello world, my phone number is 42. Please bring the queue of judges!", ENGLISH)
    assert spoken.rate == 22_050
    assert spoken.phonemes[0].start == 0
    assert spoken.phonemes[-1].end == len(spoken.samples) / spoken.rate
    assert all(one.end == two.start for one, two in itertools.pairwise(spoken.phonemes))
    assert all(phoneme.end > phoneme.start for phoneme in spoken.phonemes)


def test_pauses_are_quiet_and_vowels_are_loud() -> None:
    spoken = speak("Far away. Over there, we saw a big boat.", ENGLISH)
    level = {"pause": [], "vowel": []}
    for phoneme in spoken.phonemes:
        part = spoken.samples[int(phoneme.start * spoken.rate) : int(phoneme.end * spoken.rate)].astype(float)
        if phoneme.symbol == "" and phoneme.end - phoneme.start > 0.1:
            level["pause"].append(np.sqrt(np.mean(part[200:-200] ** 2)))
        elif "ˈ" in phoneme.symbol:
            level["vowel"].append(np.sqrt(np.mean(part**2)))
    assert max(level["pause"]) < 0.1 * min(level["vowel"])


def test_a_voiceless_stop_begins_with_its_closure_not_its_burst() -> None:
    spoken = speak("A happy puppy stopped upon the open paper.", ENGLISH)
    stops = [phoneme for phoneme in spoken.phonemes if phoneme.symbol == "p"]
    assert len(stops) > 5
    for stop in stops:
        start = int(stop.start * spoken.rate)
        assert np.abs(spoken.samples[start : start + 500]).max() < 100


def test_words_are_the_words_of_the_text_in_order() -> None:
    spoken = speak("“Naïve” 😀 people pay $4.50, or 1,234 euros;\nwell-known — really & 50%!", ENGLISH)
    assert [word.text for word in spoken.words] == [
        "Naïve", "😀", "people", "pay", "$4.50", "or", "1,234", "euros", "well-known", "really", "&", "50%",
    ]  # fmt: skip
    assert all(word.end > word.start for word in spoken.words)
    assert all(one.end <= two.start for one, two in itertools.pairwise(spoken.words))


def test_a_words_last_sound_is_its_own_and_not_the_next_words_first() -> None:
    """eSpeak NG announces a word as early as the last sound of the one before: l of 'tell', m of 'name'."""
    spoken = speak("Tell me, my name is Ann, and I call at dawn. Could what?", ENGLISH)
    sounds = {
        word.text: [p.symbol for p in spoken.phonemes if p.symbol and word.start <= p.start < word.end]
        for word in spoken.words
    }
    assert (sounds["Tell"], sounds["me"]) == (["t", "ˈɛ", "l"], ["m", "ˌiː"])
    assert (sounds["name"], sounds["is"]) == (["n", "ˈeɪ", "m"], ["ɪ", "z"])
    assert (sounds["call"], sounds["at"]) == (["k", "ˈɔː", "l"], ["æ", "t"])
    assert sounds["and"][-1] == "d"
    assert sounds["Could"] == ["k", "ʊ", "d"]


def test_words_that_are_spoken_as_one_share_its_time() -> None:
    spoken = speak("The end of the road, out of the light.", ENGLISH)
    assert " ".join(word.text for word in spoken.words) == "The end of the road out of the light"
    assert all(word.end > word.start for word in spoken.words)


def test_every_word_of_a_long_text_is_timed() -> None:
    text = ("The quick brown fox jumps over the lazy dog near the river bank. " * 80)[:5000].strip()
    spoken = speak(text, ENGLISH)
    assert [word.text for word in spoken.words] == text.replace(".", "").split()


def test_the_same_call_gives_the_same_samples() -> None:
    one, two = (speak("One subprocess for each utterance.", ENGLISH) for _ in range(2))
    assert one.samples.tobytes() == two.samples.tobytes()
    assert (one.phonemes, one.words) == (two.phonemes, two.words)


@pytest.mark.parametrize(
    ("language", "identifier"),
    [
        ("en", "gmw/en-US"),
        ("en-us", "gmw/en-US"),
        ("en-GB", "gmw/en"),
        ("en-au", "gmw/en-US"),
        ("fr", "roa/fr"),
        ("fr-fr", "roa/fr"),
        ("fr_CA", "roa/fr"),
        ("pt-br", "roa/pt-BR"),
        ("de-CH", "gmw/de"),
        ("zh", "sit/cmn"),
    ],
)
def test_languages_find_their_voice(voices: tuple[EspeakVoice, ...], language: str, identifier: str) -> None:
    voice = resolve_voice(language, voices)
    assert voice.identifier == identifier
    assert speak("1", Settings(voice.identifier)).phonemes


@pytest.mark.parametrize("language", ["tlh-klingon", "xx", "", "-", "english"])
def test_unknown_languages_are_refused_with_some_that_are_known(voices: tuple[EspeakVoice, ...], language: str) -> None:
    with pytest.raises(InvalidInput, match="does not speak the language") as refusal:
        resolve_voice(language, voices)
    assert "en, es, fr" in refusal.value.remedy


@pytest.mark.parametrize("speed", [0.5, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("rate", [121, 165, 223])
def test_a_speed_is_reached_by_the_rate_and_the_rest_by_playing_slower(rate: int, speed: float) -> None:
    """121 to 223 words a minute are what matched voices ask for."""
    settings, slower = at_speed(Settings("gmw/en-US", rate=rate), speed)
    assert settings.rate * slower == pytest.approx(rate * speed, abs=0.5)
    assert slower == 1.0 or settings.rate == SLOWEST
    assert at_speed(settings, 1.0) == (settings, 1.0)


def test_text_that_makes_no_sound_is_refused() -> None:
    with pytest.raises(InvalidText, match="nothing that eSpeak NG can speak"):
        speak("hello", Settings("art/xex"))


def test_a_missing_loader_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['espeakng_loader'] = None;"
        "from avatar_pipeline.voice.espeak_worker import main; sys.exit(main())"
    )
    with pytest.raises(EnvironmentProblem, match="needs eSpeak NG") as problem:
        speak("hello", ENGLISH, worker=python(code))
    assert problem.value.remedy == "pip install avatar-pipeline[local-voice]"


def test_an_unknown_voice_is_a_problem_that_names_it() -> None:
    with pytest.raises(EnvironmentProblem, match="no voice 'none/such'"):
        speak("hello", Settings("none/such"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "ended with signal 6"),
        ("raise SystemExit(7)", "ended with status 7"),
        ("print('no json')", "not JSON"),
    ],
)
def test_a_crash_is_reported_not_raised_as_is(code: str, message: str) -> None:
    with pytest.raises(EnvironmentProblem, match=message):
        speak("hello", ENGLISH, worker=python(code))


def test_a_process_that_hangs_is_ended() -> None:
    with pytest.raises(EnvironmentProblem, match=r"longer than 0\.3 s"):
        speak("hello", ENGLISH, worker=python("import signal; signal.pause()"), time_limit=0.3)


def test_a_command_that_does_not_exist_is_reported() -> None:
    with pytest.raises(EnvironmentProblem, match="cannot start"):
        list_voices(worker=("/nonexistent/python",))
