"""eSpeak NG from the outside: which voices it has, and an utterance with its phonemes and words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_pipeline.errors import EnvironmentProblem, InvalidInput, InvalidText
from avatar_pipeline.voice.espeak_worker import NOT_INSTALLED, REFUSED
from avatar_pipeline.voice.types import Phoneme, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORKER = (sys.executable, "-m", "avatar_pipeline.voice.espeak_worker")
TIME_LIMIT_SECONDS = 60.0
SLOWEST, FASTEST = 85, 450
"""Words a minute. eSpeak NG takes 80 for an answer, and speaks no slower than at about 84."""
PREFERRED = {"en": "en-us"}
"""Languages spoken in many countries get one accent, the one that matched voices are made from."""

VOICELESS_STOPS = frozenset("ptkcqʈ")
CLOSURE_SECONDS = 0.05
CLOSURE_LEVEL = 60
SPOKEN_SIGNS = frozenset("&%@#")


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """A voice of eSpeak NG: its identifier, its name, and the languages it speaks, best first."""

    identifier: str
    name: str
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """How eSpeak NG is asked to speak: `rate` in words a minute (85..450), `pitch` and `range` in its units (0..99)."""

    voice: str
    rate: int = 165
    pitch: int = 50
    range: int = 50


def at_speed(settings: Settings, speed: float) -> tuple[Settings, float]:
    """Return settings that speak `speed` times as fast, and the speed (at most 1) at which to play what they say.

    That is 1, but where eSpeak NG cannot speak so slowly.
    """
    wanted = settings.rate * speed
    return replace(settings, rate=min(max(round(wanted), SLOWEST), FASTEST)), min(1.0, wanted / SLOWEST)


@dataclass(frozen=True, slots=True)
class Utterance:
    """What eSpeak NG said: int16 samples, and gapless phonemes and words in seconds."""

    samples: NDArray[np.int16]
    rate: int
    phonemes: tuple[Phoneme, ...]
    words: tuple[Word, ...]


def _ask(request: dict[str, Any], worker: Sequence[str], time_limit: float) -> tuple[dict[str, Any], bytes]:
    """Run the worker once; return its JSON line and the bytes after it.

    Raises:
        EnvironmentProblem: eSpeak NG is missing, crashed, refused, answered nonsense or took too long.
    """
    remedy = "Try again; if it stays, reinstall: pip install --force-reinstall avatar-pipeline[local-voice]"
    try:
        done = subprocess.run(
            worker, input=json.dumps(request).encode(), capture_output=True, timeout=time_limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(f"eSpeak NG took longer than {time_limit:g} s.", remedy=remedy) from error
    except OSError as error:
        raise EnvironmentProblem(f"The speech process cannot start: {error}.", remedy=remedy) from error
    line, _, body = done.stdout.partition(b"\n")
    if done.returncode not in (0, NOT_INSTALLED, REFUSED):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise EnvironmentProblem(f"The eSpeak NG process ended with {how}.", remedy=remedy)
    try:
        header = json.loads(line)
    except ValueError as error:
        raise EnvironmentProblem("The eSpeak NG process gave an answer that is not JSON.", remedy=remedy) from error
    if done.returncode == NOT_INSTALLED:
        raise EnvironmentProblem(
            f"The embedded voice needs eSpeak NG, which cannot be loaded: {header['error']}.",
            remedy="pip install avatar-pipeline[local-voice]",
        )
    if done.returncode == REFUSED:
        raise EnvironmentProblem(f"eSpeak NG cannot do it: {header['error']}.", remedy=remedy)
    return header, body


def list_voices(worker: Sequence[str] = WORKER, time_limit: float = TIME_LIMIT_SECONDS) -> tuple[EspeakVoice, ...]:
    """Return the voices that the installed eSpeak NG has.

    Raises:
        EnvironmentProblem: eSpeak NG is not installed or does not work.
    """
    header, _ = _ask({"do": "voices"}, worker, time_limit)
    return tuple(
        EspeakVoice(voice["identifier"], voice["name"], tuple(voice["languages"])) for voice in header["voices"]
    )


def resolve_voice(language: str, voices: Sequence[EspeakVoice]) -> EspeakVoice:
    """Choose the voice for a BCP 47 `language` such as 'en', 'en-gb', 'fr-FR' or 'pt_BR'.

    An exact tag wins; among several, the voice that lists it earliest and has the shortest identifier. Without one,
    the tag is shortened from the right, so 'de-ch' is spoken by 'de'.

    Raises:
        InvalidInput: no voice speaks the language; the message lists some that are spoken.
    """
    tag = language.strip().lower().replace("_", "-")
    while tag:
        wanted = PREFERRED.get(tag, tag)
        matching = [voice for voice in voices if wanted in voice.languages]
        if matching:
            return min(matching, key=lambda v: (v.languages.index(wanted), len(v.identifier), v.identifier))
        tag = tag.rpartition("-")[0]
    known = {tag for voice in voices for tag in voice.languages if len(tag) == 2}
    common = [tag for tag in ("en", "es", "fr", "de", "it", "pt", "ru", "hi", "ja", "zh", "ar") if tag in known]
    raise InvalidInput(
        f"The embedded voice does not speak the language {language!r}.",
        remedy=f"Use one of {', '.join(common or sorted(known)[:10])}, ... ({len(known)} languages).",
    )


def speak(
    text: str, settings: Settings, worker: Sequence[str] = WORKER, time_limit: float = TIME_LIMIT_SECONDS
) -> Utterance:
    """Speak checked `text` in a fresh process; the same call gives the same samples.

    Raises:
        InvalidText: eSpeak NG found nothing in it to speak.
        EnvironmentProblem: eSpeak NG is not installed, crashed or took too long.
    """
    request = {"do": "speak", "text": text, "voice": settings.voice, "rate": settings.rate}
    header, body = _ask(request | {"pitch": settings.pitch, "range": settings.range}, worker, time_limit)
    samples = np.frombuffer(body, dtype=np.int16)
    phonemes = _phonemes(header["phonemes"], samples, header["rate"])
    if not any(phoneme.symbol for phoneme in phonemes):
        remedy = "Write words in the script of the voice's language, or choose another language."
        raise InvalidText("The text has nothing that eSpeak NG can speak.", remedy=remedy)
    words = _words(header["words"], text, phonemes, header["rate"])
    return Utterance(samples, header["rate"], phonemes, words)


def _closure(samples: NDArray[np.int16], sample: int, rate: int) -> int:
    """Return how many samples before the release of a voiceless stop at `sample` its closure begins.

    eSpeak NG announces these stops at the burst; the silence before it, up to 50 ms, is when the mouth is closed.
    """
    before = samples[max(0, sample - int(CLOSURE_SECONDS * rate)) : sample]
    sounding = np.flatnonzero(np.abs(before) > CLOSURE_LEVEL)
    return len(before) - (int(sounding[-1]) + 1 if len(sounding) else 0)


def _phonemes(events: list[tuple[int, str]], samples: NDArray[np.int16], rate: int) -> tuple[Phoneme, ...]:
    """Turn (sample, IPA) starts into gapless phonemes from 0 to the end; neighbouring pauses become one.

    Switches of language, as in '(en)', are no sounds and are taken out of the symbols.
    """
    starts = [(0, "")]
    for event, ipa in sorted(events, key=lambda event: event[0]):
        symbol = re.sub(r"\([^)]*\)?", "", ipa)
        sample = min(max(event, 0), len(samples))
        if symbol.lstrip("ˈˌ")[:1] in VOICELESS_STOPS:
            sample = max(starts[-1][0], sample - _closure(samples, sample, rate))
        starts.append((sample, symbol))
    ends = [sample for sample, _ in starts[1:]] + [len(samples)]
    phonemes: list[Phoneme] = []
    for (start, symbol), end in zip(starts, ends, strict=True):
        if end <= start:
            continue
        if phonemes and not symbol and not phonemes[-1].symbol:
            phonemes[-1] = Phoneme("", phonemes[-1].start, end / rate)
        else:
            phonemes.append(Phoneme(symbol, start / rate, end / rate))
    return tuple(phonemes)


def _strip(word: str) -> str:
    """Drop punctuation around a word, but for the signs that are spoken."""
    spoken = [
        index
        for index, character in enumerate(word)
        if unicodedata.category(character)[0] not in "PZ" or character in SPOKEN_SIGNS
    ]
    return word[spoken[0] : spoken[-1] + 1] if spoken else ""


def _continues(text: str, begin: int, position: int) -> bool:
    """Tell whether an announcement at `position` is of the word that began at `begin`.

    eSpeak NG announces '$4.50' and '1,234' in parts, and some parts at one place. Scripts without spaces between words
    (letters of category Lo) have no other border than the announcement.
    """
    if position <= begin:
        return True
    return re.search(r"[\s—–…]", text[begin:position]) is None and unicodedata.category(text[position]) != "Lo"


def _words(
    events: list[tuple[int, int, int, int]], text: str, phonemes: tuple[Phoneme, ...], rate: int
) -> tuple[Word, ...]:
    """Turn (sample, position, length, last sound before) word starts into words that end where their last sound ends.

    A word's announcement lies where the last sound of the word before begins, or later: its own sounds are those that
    are announced after it. eSpeak NG speaks some pairs, such as 'of the', as one; they share its time by their letters.
    """
    starts: list[tuple[int, int]] = []
    for _, position, _, last in events:
        if position < len(text) and not (starts and _continues(text, starts[-1][1], position)):
            starts.append((last, position))
    sounds = [phoneme for phoneme in phonemes if phoneme.symbol]
    onsets = [phoneme.start for phoneme in sounds]
    words: list[Word] = []
    for index, (last, position) in enumerate(starts):
        following = starts[index + 1] if index + 1 < len(starts) else (None, len(text))
        stop = float("inf") if following[0] is None else following[0] / rate
        begin, end = np.searchsorted(onsets, [last / rate, stop], side="right")
        labels = [label for token in text[position : following[1]].split() if (label := _strip(token))]
        if end > begin and labels:
            words.extend(_share(labels, sounds[begin].start, sounds[end - 1].end))
    return tuple(words)


def _share(labels: list[str], start: float, end: float) -> list[Word]:
    """Divide the time from `start` to `end` among words by their length."""
    edges = np.cumsum([0, *map(len, labels)])
    times = [start + (end - start) * float(edge / edges[-1]) for edge in edges[:-1]] + [end]
    return [Word(label, times[index], times[index + 1]) for index, label in enumerate(labels)]
