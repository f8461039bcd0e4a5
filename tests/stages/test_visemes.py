"""`visemes.json` beside a clip: it fits the clip, and a style of speaking makes another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avatar_pipeline.settings import Settings
from avatar_pipeline.stages.checks import clip_verdicts
from avatar_pipeline.stages.clips import make_clip
from avatar_pipeline.stages.line import Line, StageResult, open_line
from avatar_pipeline.voice.timings import read_timings
from avatar_pipeline.voice.viseme_file import VisemeFile, read_viseme_file

TEXT = "My mother picked a big apple."


@pytest.fixture
def line(own_home: Path) -> Iterator[Line]:
    with open_line(Settings()) as line:
        yield line


def shapes(line: Line, clip: StageResult) -> VisemeFile:
    return read_viseme_file(line.store.local(clip.artifact, "visemes.json"))


def test_shapes_fit_the_clip_and_the_lips_meet_when_its_timings_say_so(line: Line) -> None:
    clip = make_clip(line, "ada", TEXT)
    file, timings = shapes(line, clip), read_timings(line.store.local(clip.artifact, "timings.json"))
    assert (file.frames, file.fps, file.style.jaw) == (clip.facts["frames"], 25.0, 1.0)
    assert file.seconds == pytest.approx(timings.seconds, abs=1e-3)
    assert [viseme.name for viseme in file.visemes] == [viseme.name for viseme in timings.visemes]
    closures = [phoneme for phoneme in timings.phonemes if set("pbm") & set(phoneme.symbol)]
    assert len(closures) >= 5
    together = file.curves.visemes["PP"]
    for sound in closures:
        assert max(together[int(sound.start * 25) : int(sound.end * 25) + 2]) == 1.0
    assert file.curves.visemes["sil"][0] == file.curves.visemes["sil"][-1] == 1.0


def test_a_style_makes_another_clip_whose_lips_still_follow(line: Line, own_home: Path) -> None:
    usual = make_clip(line, "ada", TEXT)
    with open_line(Settings(jaw=1.4, lips=0.8)) as styled:
        clip = make_clip(styled, "ada", TEXT)
        file = shapes(styled, clip)
    assert clip.artifact.key != usual.artifact.key
    assert clip.artifact.params == {"fps": "25", "jaw": 1.4, "lips": 0.8}
    assert [verdict for verdict in clip_verdicts(clip.facts) if not verdict.passed] == []
    assert clip.facts["sync_lag_frames"] == 0
    plain = shapes(line, usual)
    assert file.curves.visemes == plain.curves.visemes
    assert file.motion == plain.motion
    assert max(file.curves.arkit["jawOpen"]) == pytest.approx(1.4 * max(plain.curves.arkit["jawOpen"]), abs=2e-3)
    assert max(file.curves.arkit["mouthPressLeft"]) == max(plain.curves.arkit["mouthPressLeft"])
