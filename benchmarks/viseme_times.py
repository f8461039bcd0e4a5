"""How near sounds are timed where only characters' times are known: eSpeak NG's own times are the truth.

Character times are made the ways services make them: spread evenly over a word (the hard case: they say nothing of what
is inside), or those of the sounds that the letters write, by hand-made spellings, plain and with an error of 20 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from avatar_pipeline.voice.alignment import phonemes_of_characters
from avatar_pipeline.voice.espeak import Settings, Utterance, speak
from avatar_pipeline.voice.types import CharacterTime, Phoneme

SPOKEN = (
    "Please bring the queue of judges to the harbour before the morning light fades away.",
    "My voice model was built from a short video and now it can read anything you type.",
    "Imagine buying dozens or even hundreds of investments with a single click.",
    "Peter Piper picked a peck of pickled peppers while Bob bought a big blue boat.",
    "The committee will vote on fifteen separate proposals this Thursday afternoon.",
    "Thank you for calling. My name is Robin, and I can help you with your booking.",
    "Scientists have discovered a remarkable species of butterfly whose wings reflect ultraviolet patterns.",
    "We apologise for the delay on platform number seven; the next train departs in twelve minutes.",
    "Machine learning models improve gradually when engineers measure failures honestly.",
    "Could somebody move those heavy boxes, or should I simply phone the warehouse and complain about this mess?",
)
SPELT = (
    "P|l|ea|se b|r|i|ng th|e q|u|eue o|f j|u|dg|e|s t|o "
    "th|e h|ar|b|our b|e|f|ore th|e m|or|n|i|ng l|igh|t f|a|d|es a|w|ay.",
    "M|y v|oi|ce m|o|d|el w|a|s b|uil|t f|r|o|m a sh|or|t "
    "v|i|d|e|o a|n|d n|ow i|t c|a|n r|ea|d a|n|y|th|i|ng y|ou t|y|pe.",
    "I|m|a|g|i|ne b|uy|i|ng d|o|z|e|n|s o|r e|v|e|n h|u|n|d|r|e|d|s "
    "o|f i|n|v|e|s|t|m|e|n|t|s w|i|th a s|i|n|g|le c|l|i|ck.",
    "P|e|t|er P|i|p|er p|i|ck|ed a p|e|ck o|f p|i|ck|le|d p|e|pp|er|s wh|i|le B|o|b b|ough|t a b|i|g b|l|ue b|oa|t.",
    "Th|e c|o|mm|i|tt|ee w|i|ll v|o|te o|n "
    "f|i|f|t|ee|n s|e|p|a|r|ate p|r|o|p|o|s|al|s th|i|s Th|ur|s|d|ay a|f|t|er|n|oo|n.",
    "M|a|ch|i|ne l|ear|n|i|ng m|o|d|el|s i|m|p|r|o|ve g|r|a|d|u|all|y "
    "wh|e|n e|n|g|i|n|eer|s m|ea|s|ure f|ai|l|ure|s ho|n|e|s|t|l|y.",
)
"""Letters by the sound that they write, by hand, not by the program. Sentences without words that eSpeak NG joins."""
VOICES = (("en", "gmw/en-US", 165), ("en-gb", "gmw/en", 200))
JITTER_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of the borders of sounds inside words, in ms; words' own borders are known and left out."""

    case: str
    milliseconds: tuple[float, ...]
    other_sounds: int
    """Utterances left out as their sounds came out different."""

    @property
    def mean(self) -> float:
        """Mean error."""
        return float(np.mean(self.milliseconds))

    @property
    def p90(self) -> float:
        """The error that one border in ten exceeds."""
        return float(np.percentile(self.milliseconds, 90))


def measure_times() -> list[Errors]:
    """Measure every case."""
    rng = np.random.default_rng(7)
    return [
        _measure("evenly spread letters", SPOKEN, even_letters),
        _measure("letters as spoken", SPELT, spelt_letters),
        _measure("letters as spoken, 20 ms off", SPELT, lambda text, said: shaken(spelt_letters(text, said), rng)),
    ]


def _measure(case: str, texts: Sequence[str], time: Callable[[str, Utterance], list[CharacterTime] | None]) -> Errors:
    errors: list[float] = []
    others = 0
    for language, voice, rate in VOICES:
        for text in texts:
            plain = text.replace("|", "")
            said = speak(plain, Settings(voice, rate=rate))
            characters = time(text, said)
            if characters is None:  # another accent has other sounds than were spelt
                continue
            phonemes, _ = phonemes_of_characters(plain, characters, language)
            true, found = ([p for p in some if p.symbol] for some in (said.phonemes, phonemes))
            if [p.symbol for p in true] != [p.symbol for p in found]:
                others += 1
                continue
            firsts = {word.start for word in said.words}
            errors += [abs(a.start - b.start) * 1000 for a, b in zip(true, found, strict=True) if a.start not in firsts]
    return Errors(case, tuple(errors), others)


def even_letters(text: str, said: Utterance) -> list[CharacterTime]:
    """Spread the letters of each word evenly over it, and what is between two words evenly over the pause."""
    return list(_spread(text, [(word.text, word.start, word.end) for word in said.words]))


def spelt_letters(text: str, said: Utterance) -> list[CharacterTime] | None:
    """Give letters the times of the sounds they write ('|' divides them); None where the spelling does not fit."""
    words = [word.strip(".,") for word in text.split()]
    parts: list[tuple[str, float, float]] = []
    for word, spoken in zip(words, said.words, strict=True):
        sounds = [p for p in said.phonemes if p.symbol and spoken.start <= p.start < spoken.end]
        letters = word.split("|")
        if len(letters) != len(sounds):
            return None
        parts += [(some, sound.start, sound.end) for some, sound in zip(letters, sounds, strict=True)]
    return list(_spread(text.replace("|", ""), parts))


def _spread(text: str, parts: Sequence[tuple[str, float, float]]) -> Iterator[CharacterTime]:
    position, reached = 0, 0.0
    for part, start, end in parts:
        begin = text.index(part, position)
        for some, first, last in ((text[position:begin], reached, start), (part, start, end)):
            step = (last - first) / max(len(some), 1)
            for number, character in enumerate(some):
                yield CharacterTime(character, first + step * number, first + step * (number + 1))
        position, reached = begin + len(part), end
    for character in text[position:]:
        yield CharacterTime(character, reached, reached)


def shaken(characters: list[CharacterTime] | None, rng: np.random.Generator) -> list[CharacterTime] | None:
    """Move each border between letters of a word by a normal error, in order."""
    if characters is None:
        return None
    edges = [one.start for one in characters] + [characters[-1].end]
    for index in range(1, len(characters)):
        if characters[index - 1].character.isalpha() and characters[index].character.isalpha():
            edges[index] += float(rng.normal(0.0, JITTER_SECONDS))
            edges[index] = min(max(edges[index], edges[index - 1]), characters[index].end)
    return [CharacterTime(c.character, edges[i], edges[i + 1]) for i, c in enumerate(characters)]


def bilabials(phonemes: Sequence[Phoneme]) -> list[Phoneme]:
    """Return the sounds that are made with the lips together."""
    return [phoneme for phoneme in phonemes if set("pbm") & set(phoneme.symbol)]
