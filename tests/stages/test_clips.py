"""Clips with other voices, sizes and rates than the usual: what is made, under which key, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.settings import Settings
from avatar_pipeline.stages.checks import clip_verdicts
from avatar_pipeline.stages.clips import make_clip
from avatar_pipeline.stages.line import Line, StageResult, open_line
from avatar_pipeline.stages.speech import make_speech
from avatar_pipeline.voice.types import VoiceSettings

TEXT = "Peter Piper picked a peck of pickled peppers."


@pytest.fixture
def line(own_home: Path) -> Iterator[Line]:
    with open_line(Settings()) as line:
        yield line


def digest(line: Line, clip: StageResult) -> str:
    return hashlib.sha256(line.store.local(clip.artifact, "clip.mp4").read_bytes()).hexdigest()


def spoken_seconds(line: Line, result: StageResult) -> float:
    """How long the words take: silence before and after them is the same at any speed."""
    words = json.loads(line.store.local(result.artifact, "timings.json").read_text())["words"]
    return float(words[-1]["end"] - words[0]["start"])


def test_what_is_as_usual_is_no_part_of_the_key(line: Line) -> None:
    """What was made before there were settings is found again."""
    speech = make_speech(line, "ada", TEXT, VoiceSettings(speed=1.0))
    clip = make_clip(line, "ada", TEXT, voice=VoiceSettings(), size=320, fps=25)
    assert speech.artifact.params.keys() == {"text", "provider", "sound"}
    assert clip.artifact.params == {"fps": "25"}
    assert sorted(clip.artifact.inputs) == ["mesh", "plate", "speech"]
    for size in (None, 321, 2160):
        again = make_clip(line, "ada", TEXT, size=size)
        assert (again.reused, again.artifact.key) == (True, clip.artifact.key)


@pytest.mark.parametrize(
    ("speed", "size", "fps"), [(1.6, None, 30), (0.7, 256, 25), (1.0, 301, 15), (1.0, None, 60), (0.5, None, 10)]
)
def test_a_clip_is_what_was_asked_for_passes_its_checks_and_is_made_once(
    line: Line, speed: float, size: int | None, fps: int
) -> None:
    from avatar_pipeline.media.probe import probe
    from avatar_pipeline.media.types import MediaLimits

    voice = VoiceSettings(speed=speed)
    clip = make_clip(line, "ada", TEXT, voice=voice, size=size, fps=fps)
    info = probe(line.store.local(clip.artifact, "clip.mp4"), MediaLimits(min_seconds=0.0))
    assert (info.width, info.height, info.fps) == ((size or 320) // 2 * 2, (size or 320) // 2 * 2, Fraction(fps))
    assert (clip.facts["width"], clip.facts["height"], clip.facts["fps"]) == (info.width, info.height, str(fps))
    timings = json.loads(line.store.local(clip.artifact, "timings.json").read_text())
    assert timings["phonemes"][-1]["end"] == pytest.approx(timings["seconds"], abs=1e-4)
    assert 0 <= clip.facts["frames"] / fps - timings["seconds"] < 1 / fps
    assert [verdict for verdict in clip_verdicts(clip.facts) if not verdict.passed] == []
    assert clip.facts["sync_lag_frames"] == 0
    assert spoken_seconds(line, clip) == pytest.approx(
        spoken_seconds(line, make_speech(line, "ada", TEXT)) / speed, rel=0.1
    )
    again = make_clip(line, "ada", TEXT, voice=voice, size=size, fps=fps)
    assert (again.reused, again.artifact.key) == (True, clip.artifact.key)


def test_each_option_makes_another_clip(line: Line) -> None:
    options = ({}, {"fps": 24}, {"size": 256}, {"voice": VoiceSettings(speed=1.1)})
    clips = [make_clip(line, "ada", "One, two.", **chosen) for chosen in options]
    assert len({clip.artifact.key for clip in clips}) == len(options)
    assert not any(clip.reused for clip in clips)


def test_sizes_that_give_the_same_picture_give_the_same_clip(line: Line) -> None:
    odd, even = (make_clip(line, "ada", "One, two.", size=size) for size in (257, 256))
    assert odd.artifact.key == even.artifact.key and even.reused


def test_a_face_too_small_to_check_is_refused_with_the_size_that_would_do(line: Line) -> None:
    with pytest.raises(InvalidInput, match="At 200 px the face of ada would be too small") as refusal:
        make_clip(line, "ada", "One, two.", size=200)
    least = int(next(word for word in refusal.value.remedy.split() if word.isdigit()))
    assert 200 < least < 256
    assert make_clip(line, "ada", "One, two.", size=least).facts["height"] == least


def test_a_clip_cut_off_and_made_again_is_the_same_at_another_rate_and_size(line: Line, own_home: Path) -> None:
    class CutOff(Exception):
        pass

    def cut_off(stage: str, done: float, total: float | None) -> None:
        if stage == "clip" and done == 1:
            raise CutOff

    told: list[float] = []

    def listen(stage: str, done: float, total: float | None) -> None:
        told.extend([done] if stage == "clip" else [])

    slow = VoiceSettings(speed=0.7)
    with pytest.raises(CutOff):
        make_clip(replace(line, progress=cut_off), "ada", TEXT, voice=slow, size=256, fps=30)
    resumed = make_clip(replace(line, progress=listen), "ada", TEXT, voice=slow, size=256, fps=30)
    assert told[0] == 1 and not resumed.reused
    seen = digest(line, resumed)
    shutil.rmtree(own_home / "store/avatars/ada/clips")
    undisturbed = make_clip(line, "ada", TEXT, voice=slow, size=256, fps=30)
    assert not undisturbed.reused
    assert digest(line, undisturbed) == seen
