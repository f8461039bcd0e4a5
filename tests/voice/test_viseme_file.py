"""visemes.json: as its schema says, small, the same each time, and refused by name where it is damaged."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.mesh.morphs import ARKIT, MORPH_NAMES
from avatar_pipeline.render.curves import SpeakingStyle, arkit_curves
from avatar_pipeline.voice.emphasis import emphasise, intensity
from avatar_pipeline.voice.espeak import Settings, speak
from avatar_pipeline.voice.motion import motion_curves
from avatar_pipeline.voice.viseme_file import (
    SCHEMA_NAME,
    VisemeFile,
    main,
    make_viseme_file,
    read_viseme_file,
    schema_text,
    write_viseme_file,
)
from avatar_pipeline.voice.visemes import VISEMES, to_visemes, viseme_curves
from tests.voice.conftest import PASSAGE, say

COMMITTED = Path(__file__).parents[2] / "docs" / "schemas" / SCHEMA_NAME
FPS = Fraction(25)


@pytest.fixture(scope="module")
def spoken() -> VisemeFile:
    said, audio = speak(PASSAGE, Settings("gmw/en-US")), say(PASSAGE)
    visemes = to_visemes(said.phonemes, audio.seconds)
    curves = viseme_curves(visemes, audio.seconds, FPS)
    curves = emphasise(curves, intensity(audio, len(curves), FPS))
    style = SpeakingStyle(jaw=1.2, lips=0.9)
    motion = motion_curves(said.phonemes, audio.seconds, FPS, "request-1")
    arkit = arkit_curves(curves, style)
    return make_viseme_file(
        visemes, curves, arkit, motion, seconds=audio.seconds, fps=FPS, jaw=style.jaw, lips=style.lips
    )


def test_it_comes_back_as_it_was_written_and_is_small(spoken: VisemeFile, tmp_path: Path) -> None:
    path = tmp_path / "visemes.json"
    write_viseme_file(path, spoken)
    assert read_viseme_file(path) == spoken
    first = path.read_bytes()
    write_viseme_file(path, spoken)
    assert path.read_bytes() == first
    assert len(first) / spoken.seconds < 10_000
    assert len(gzip.compress(first)) / spoken.seconds < 3_000


def test_it_holds_every_viseme_and_only_shapes_that_a_rig_knows(spoken: VisemeFile) -> None:
    assert list(spoken.curves.visemes) == list(VISEMES)
    assert set(spoken.curves.arkit) | set(spoken.motion.eyes) <= set(ARKIT)
    assert "jawOpen" in spoken.curves.arkit and "browInnerUp" not in spoken.curves.arkit
    assert {name for name in spoken.all_curves() if not name.startswith("head")} <= set(MORPH_NAMES)
    assert set(spoken.motion.head) == {"headYaw", "headPitch", "headRoll"}
    assert {len(curve) for curve in spoken.all_curves().values()} == {spoken.frames}
    assert spoken.visemes[0].start == 0.0
    assert spoken.visemes[-1].end == spoken.seconds
    assert all(one.end == two.start for one, two in zip(spoken.visemes, spoken.visemes[1:], strict=False))


def test_lips_meet_in_the_curves_at_every_closure(spoken: VisemeFile) -> None:
    closures = [viseme for viseme in spoken.visemes if viseme.name == "PP"]
    assert len(closures) >= 8
    for viseme in closures:
        frame = round((viseme.start + viseme.end) / 2 * spoken.fps)
        assert spoken.curves.visemes["PP"][frame] == 1.0
        assert spoken.curves.arkit["jawOpen"][frame] == 0.0
        assert spoken.curves.arkit["mouthPressLeft"][frame] == pytest.approx(0.4, abs=1e-3)


def test_the_committed_schema_is_the_export_and_accepts_what_is_written(spoken: VisemeFile, tmp_path: Path) -> None:
    validators = pytest.importorskip("jsonschema")
    assert COMMITTED.read_text() == schema_text(), "python -m avatar_pipeline.voice.viseme_file docs/schemas"
    schema = json.loads(schema_text())
    validators.Draft202012Validator.check_schema(schema)
    write_viseme_file(tmp_path / "visemes.json", spoken)
    validators.Draft202012Validator(schema).validate(json.loads((tmp_path / "visemes.json").read_text()))


def test_the_schema_is_exported_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "avatar_pipeline.voice.viseme_file", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).read_text() == schema_text()
    assert main([]) == 2
    assert "docs/schemas" in capsys.readouterr().err


def empty(**changes: Any) -> dict[str, Any]:
    plain = {
        "version": 1, "seconds": 0.08, "fps": 25, "frames": 2, "style": {"jaw": 1, "lips": 1}, "visemes": [],
        "curves": {"visemes": {}, "arkit": {"jawOpen": [0, 1]}}, "motion": {"eyes": {}, "head": {"headYaw": [0, -2]}},
    }  # fmt: skip
    return plain | changes


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": 2}, "version"),
        ({"frames": 3}, "the curve jawOpen has 2 values for 3 frames"),
        ({"curves": {"visemes": {"xx": [0, 0]}, "arkit": {}}}, r"curves\.visemes"),
        ({"curves": {"visemes": {}, "arkit": {"jawOpen": [0, 1.2]}}}, r"curves\.arkit\.jawOpen\.1"),
        ({"motion": {"eyes": {}, "head": {"headNod": [0, 0]}}}, r"motion\.head"),
        ({"other": 1}, "other"),
    ],
)
def test_damage_is_refused_naming_the_field(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    path = tmp_path / "visemes.json"
    path.write_text(json.dumps(empty()))
    assert read_viseme_file(path).frames == 2
    path.write_text(json.dumps(empty(**changes)))
    with pytest.raises(InvalidInput, match=field):
        read_viseme_file(path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_viseme_file(tmp_path / "none.json")


def test_no_speech_makes_an_empty_file() -> None:
    nothing = np.zeros((0, 15), np.float32)
    file = make_viseme_file((), nothing, arkit_curves(nothing), motion_curves((), 0.0, 25, ""), seconds=0.0, fps=25)
    assert (file.frames, file.curves.arkit, file.motion.eyes) == (0, {}, {})
