"""Timings files: what is written is read back, the same each time, and damage is named."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.timings import read_timings, write_timings
from avatar_pipeline.voice.types import Phoneme, Speech, Viseme, Word

SPEECH = Speech(
    audio=Audio(np.zeros(22_050, np.float32), 22_050),
    phonemes=(Phoneme("", 0.0, 1 / 3), Phoneme("ˈaɪ", 1 / 3, 1.0)),
    words=(Word("“I”", 1 / 3, 1.0),),
    cost=Decimal("0"),
)
VISEMES = (Viseme("sil", 0.0, 1 / 3), Viseme("aa", 1 / 3, 1.0))


def test_timings_come_back_to_the_microsecond(tmp_path: Path) -> None:
    write_timings(tmp_path / "clip.json", SPEECH, VISEMES)
    timings = read_timings(tmp_path / "clip.json")
    assert timings.seconds == 1.0
    assert timings.phonemes == (Phoneme("", 0.0, 0.333333), Phoneme("ˈaɪ", 0.333333, 1.0))
    assert timings.words == (Word("“I”", 0.333333, 1.0),)
    assert timings.visemes == (Viseme("sil", 0.0, 0.333333), Viseme("aa", 0.333333, 1.0))


def test_the_same_speech_gives_the_same_bytes_of_plain_json(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        write_timings(tmp_path / name, SPEECH, VISEMES)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    data = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert list(data) == ["version", "seconds", "phonemes", "words", "visemes"]
    assert data["phonemes"][1] == {"symbol": "ˈaɪ", "start": 0.333333, "end": 1.0}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("", "the file"),
        ("[]", "the file"),
        ('{"version": 2, "seconds": 1, "phonemes": [], "words": [], "visemes": []}', "version"),
        ('{"seconds": -1, "phonemes": [], "words": [], "visemes": []}', "seconds"),
        ('{"seconds": 1, "phonemes": [{"symbol": "a", "start": 0}], "words": [], "visemes": []}', "phonemes.0.end"),
    ],
)
def test_a_damaged_file_is_refused_naming_the_field(tmp_path: Path, content: str, field: str) -> None:
    path = tmp_path / "clip.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=f"clip.json is not a timings file: {field}"):
        read_timings(path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_timings(tmp_path / "none.json")
