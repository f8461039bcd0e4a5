"""The commands a person uses every day: demo, doctor, list, show, rm; for eyes and for machines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avatar_pipeline.cli import main
from tests.conftest import avatar_environment, run_avatar

DELIVERED = {
    "avatar.glb",
    "voice.wav",
    "greeting.mp4",
    "clip-1.mp4",
    "clip-2.mp4",
    "clip-3.mp4",
    "landmarks.parquet",
    "report.html",
    "upload",
}


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    output = capsys.readouterr()
    return int(caught.value.code or 0), output.out, output.err


def test_the_demo_delivers_everything_and_the_second_time_computes_nothing(home: Path, tmp_path: Path) -> None:
    first = run_avatar(home, "demo", "--out", tmp_path / "demo")
    assert {path.name for path in (tmp_path / "demo").iterdir()} == DELIVERED
    assert not first["reused"]
    names = [item["name"] for item in first["artifacts"]]
    assert names.count("clips") == 3
    assert {"landmarks", "isolated_voice", "mesh", "plate", "voice_model", "greeting_clip"} < set(names)
    report = (tmp_path / "demo" / "report.html").read_text()
    assert report.count("data:image/jpeg;base64,") == 9
    assert report.count("<video") == 4
    delivered = {p.name: p.read_bytes() for p in (tmp_path / "demo").iterdir() if p.is_file()}
    again = run_avatar(home, "demo", "--out", tmp_path / "demo")
    assert again["reused"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "demo").iterdir() if p.is_file()} == delivered


def test_the_doctor_finds_this_machine_well(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)}
    assert code == 0, [f for f in findings.values() if not f["ok"]]
    assert {"python", "torch", "gpu", "opengl", "face model", "store", "ledger", "voice provider"} <= set(findings)
    assert not list((home / "store").rglob("probe")), "the store is left as it was"


def test_the_doctor_names_a_model_that_is_not_the_one_expected(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "face_landmarker.task").write_bytes(b"something else")
    monkeypatch.setenv("AVATAR_FACE_LANDMARKER_MODEL", str(tmp_path / "face_landmarker.task"))
    code, out, _ = call(capsys, "doctor")
    assert code == 3
    (line,) = [text for text in out.splitlines() if text.startswith("problem")]
    assert "SHA-256" in line


@pytest.mark.parametrize(
    "url",
    ["postgresql://user:hunter2@127.0.0.1:1/none", "postgresql://user:hun@ter2:word@host/db", "foo://user:hunter2@h/d"],
)
def test_no_command_prints_the_ledgers_password(
    url: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVATAR_LEDGER_URL", url)
    for command in ("doctor", "list"):
        code, out, err = call(capsys, command)
        assert code in {2, 3}
        assert "hun" not in out + err
        assert "word" not in (out + err).replace("password", "")
        assert "AVATAR_LEDGER_URL" in out + err


def test_a_home_that_cannot_be_used_is_one_line(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AVATAR_HOME", str(tmp_path / "file"))
    code, _, err = call(capsys, "list")
    assert code == 3
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_bad_setting_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVATAR_WORKERS", "none")
    code, _, err = call(capsys, "list")
    assert code == 2
    assert err.startswith("error: AVATAR_WORKERS cannot be used")


def test_list_and_show_tell_what_there_is(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list")
    assert code == 0
    assert "ada" in out and "ready" in out
    code, out, _ = call(capsys, "show", "ada")
    assert code == 0
    for name in ("landmarks", "mesh", "greeting_clip", "total", "advice"):
        assert name in out


def test_rm_asks_first_and_no_means_no(own_home: Path) -> None:
    command = [sys.executable, "-m", "avatar_pipeline.cli", "rm", "ada"]
    done = subprocess.run(
        command, env=avatar_environment(own_home), input="n\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Remove ada" in done.stderr
    assert [avatar["id"] for avatar in run_avatar(own_home, "list")] == ["ada"]


def test_a_machine_without_the_engine_says_what_to_install(home: Path, tmp_path: Path) -> None:
    """The control plane has no PyAV; whoever runs `avatar create` there is told so, in one line."""
    (tmp_path / "hide" / "av").mkdir(parents=True)
    (tmp_path / "hide" / "av" / "__init__.py").write_text("raise ImportError('No module named av', name='av')")
    (tmp_path / "v.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 64)
    (tmp_path / "consent.json").write_text(
        json.dumps(
            {
                "consent_id": "consent-1",
                "subject": "Nobody",
                "statement": "A generated picture of nobody may be used.",
                "statement_version": "1",
                "scope": ["likeness", "voice"],
                "given_at": "2026-01-01T00:00:00Z",
            }
        )
    )
    environment = avatar_environment(home) | {"PYTHONPATH": f"{tmp_path / 'hide'}{os.pathsep}{Path.cwd()}"}
    command = [sys.executable, "-m", "avatar_pipeline.cli", "create", "ada", tmp_path / "v.mp4"]
    command += ["--consent", tmp_path / "consent.json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "engine" in done.stderr
    assert done.stderr.count("\n") == 1
