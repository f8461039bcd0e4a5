"""The timings of one utterance as a JSON file beside its clip: what is said when, and the mouth shapes.

    {"version": 1, "seconds": 1.23, "phonemes": [{"symbol": "h", "start": 0.0, "end": 0.05}, ...],
     "words": [{"text": "Hello", "start": 0.0, "end": 0.4}, ...],
     "visemes": [{"name": "E", "start": 0.0, "end": 0.1}, ...]}

Times are seconds from the first sample, rounded to the microsecond. A phoneme's symbol is IPA, '' being a pause; a
viseme's name is one of Oculus' 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.voice.types import Phoneme, Speech, Viseme, Word

DECIMALS = 6


class Timings(BaseModel):
    """The content of a timings file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    seconds: float = Field(ge=0, allow_inf_nan=False)
    phonemes: tuple[Phoneme, ...]
    words: tuple[Word, ...]
    visemes: tuple[Viseme, ...]


def _round(seconds: float) -> float:
    return round(seconds, DECIMALS)


def write_timings(path: Path, speech: Speech, visemes: Sequence[Viseme]) -> None:
    """Write the timings of `speech` and its `visemes` to `path`, whole or not at all. Same input, same bytes."""
    from avatar_pipeline.store.atomic import atomic_file

    timings = Timings(
        seconds=_round(speech.audio.seconds),
        phonemes=tuple(Phoneme(p.symbol, _round(p.start), _round(p.end)) for p in speech.phonemes),
        words=tuple(Word(w.text, _round(w.start), _round(w.end)) for w in speech.words),
        visemes=tuple(Viseme(v.name, _round(v.start), _round(v.end)) for v in visemes),
    )
    with atomic_file(path) as temporary:
        temporary.write_text(timings.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_timings(path: Path) -> Timings:
    """Read a timings file.

    Raises:
        InvalidInput: it cannot be read or is not a timings file; the message names the field.
    """
    remedy = "Render the clip again to write its timings."
    try:
        return Timings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"The timings {path} cannot be read: {error.strerror}.", remedy=remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidInput(f"{path} is not a timings file: {field}: {first['msg']}.", remedy=remedy) from error
