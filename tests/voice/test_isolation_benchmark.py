"""The benchmark of isolation: rows for every method, whatever the rate of the pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from avatar_pipeline.media.types import Audio
from tests.voice.sounds import noise

pytest.importorskip("pesq", reason="the bench extra is not installed")
pytest.importorskip("pystoi", reason="the bench extra is not installed")


@pytest.fixture(scope="module")
def pairs(speech: Audio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pair at 16 kHz, and one at 48 kHz whose noisy side is a few samples longer."""
    folder = tmp_path_factory.mktemp("pairs")
    voice = resample_poly(speech.samples, 320, 441).astype(np.float32)[8_000:32_000]
    wide = resample_poly(voice, 3, 1).astype(np.float32)
    for side in ("clean", "noisy", "other"):
        (folder / side).mkdir()
    soundfile.write(folder / "clean" / "a.wav", voice, 16_000)
    soundfile.write(folder / "noisy" / "a.wav", voice + noise(len(voice), 0.03), 16_000)
    soundfile.write(folder / "clean" / "b.flac", wide, 48_000)
    soundfile.write(folder / "noisy" / "b.wav", np.pad(wide, (0, 7)) + noise(len(wide) + 7, 0.03), 48_000)
    soundfile.write(folder / "other" / "a.wav", voice, 16_000)
    return folder


def test_rows_of_all_methods(pairs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from benchmarks.voice_isolation import main, table_of

    extras = ["--extra", f"perfect={pairs / 'other'}", "--extra", f"nothing={tmp_path}"]
    assert main(["--pairs", str(pairs), *extras, "--json"]) == 0
    printed = capsys.readouterr()
    rows = {row["method"]: row for row in json.loads(printed.out)}
    assert {"noisy", "dsp", "neural", "perfect"} <= rows.keys()
    for row in rows.values():
        assert {"method", "pesq", "estoi", "sisdr", "rtf", "pairs"} <= row.keys()
    assert rows["noisy"]["pairs"] == rows["neural"]["pairs"] == 2
    assert rows["perfect"]["pairs"] == 1
    assert rows["perfect"]["pesq"] > 4.5
    assert rows["noisy"]["rtf"] is None
    assert rows["neural"]["sisdr"] > rows["noisy"]["sisdr"] + 2
    assert rows["dsp"]["gain"]["sisdr"] > 2
    if "rnnoise" in rows:
        assert rows["rnnoise"]["per_pair"]["b"]["sisdr"] > 0  # its delay is off; else it would be far below
    assert "nothing: left out" in printed.err
    assert table_of(list(rows.values())).row_count == len(rows)


def test_without_pairs_it_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from benchmarks.voice_isolation import main

    monkeypatch.delenv("AVATAR_EVAL_DATA", raising=False)
    assert main([]) == 2
    assert "--pairs" in capsys.readouterr().err
    assert main(["--pairs", str(tmp_path)]) == 2
    assert "holds no pairs" in capsys.readouterr().err


def test_sides_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    from benchmarks.isolation_methods import read_pairs

    for side, seconds in (("clean", 1), ("noisy", 2)):
        (tmp_path / side).mkdir()
        soundfile.write(tmp_path / side / "a.wav", noise(16_000 * seconds, 0.1), 16_000)
    with pytest.raises(ValueError, match="no pair"):
        read_pairs(tmp_path)
