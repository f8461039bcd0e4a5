"""The main job on a real (if small) upload, through the command line: made, resumed after kill -9, shown, removed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.errors import AvatarError, NotFound
from avatar_pipeline.launch import open_instance
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.clips import make_clip
from avatar_pipeline.stages.intake import remove_avatar
from avatar_pipeline.stages.line import produce
from avatar_pipeline.store.artifacts import Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints
from tests.conftest import avatar_environment, run_avatar

ASSETS = ["source_video", "landmarks", "isolated_voice", "mesh", "plate", "voice_model", "greeting_clip"]


def artifacts(home: Path) -> dict[str, bytes]:
    """Return every published file of the store: path below the store, and content."""
    store = home / "store"
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted((store / "avatars").rglob("*"))
        if path.is_file()
    }


def test_a_video_becomes_an_avatar_that_talks_in_time(own_home: Path) -> None:
    shown = run_avatar(own_home, "show", "ada")
    assert shown["state"] == "ready"
    assert [item["name"] for item in shown["artifacts"]] == ASSETS
    (manifest,) = (own_home / "store/avatars/ada/greeting_clip").glob("*/artifact.json")
    facts = json.loads(manifest.read_text())["facts"]
    assert facts["sync_r"] >= 0.85
    assert abs(facts["sync_lag_frames"]) <= 1
    assert abs(facts["seconds"] - facts["audio_seconds"]) <= 0.04 + 1e-6


def test_making_it_again_makes_nothing(own_home: Path, sample_upload: Path) -> None:
    before = artifacts(own_home)
    again = run_avatar(
        own_home, "create", "ada", sample_upload / "sample.mp4", "--consent", sample_upload / "consent.json"
    )
    assert all(item["reused"] for item in again["artifacts"])
    assert artifacts(own_home) == before


def test_the_same_text_is_served_from_the_store(own_home: Path, tmp_path: Path) -> None:
    first = run_avatar(own_home, "say", "ada", "A big bad bear.", "--out", tmp_path / "one.mp4")
    clips = len(list((own_home / "store/avatars/ada/clips").iterdir()))
    second = run_avatar(own_home, "say", "ada", "A big bad bear.", "--out", tmp_path / "two.mp4")
    assert (first["key"], clips) == (second["key"], 1)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert b"Synthetic media" in (tmp_path / "one.mp4").read_bytes(), "a clip says of itself that it is synthetic"


def test_a_clip_of_a_text_that_cannot_be_spoken_is_refused(own_home: Path) -> None:
    command = [sys.executable, "-m", "avatar_pipeline.cli", "say", "ada", "..."]
    done = subprocess.run(command, env=avatar_environment(own_home), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_another_video_under_the_same_id_is_a_conflict(own_home: Path, tmp_path: Path, sample_upload: Path) -> None:
    other = tmp_path / "other.mp4"
    # A free box at the end changes the hash and nothing else.
    other.write_bytes((sample_upload / "sample.mp4").read_bytes() + b"\x00\x00\x00\x08free")
    command = [sys.executable, "-m", "avatar_pipeline.cli", "create", "ada", other]
    command += ["--consent", sample_upload / "consent.json"]
    before = artifacts(own_home)
    done = subprocess.run(command, env=avatar_environment(own_home), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "avatar rm ada" in done.stderr
    assert artifacts(own_home) == before


def test_removing_an_avatar_leaves_nothing_of_it(own_home: Path) -> None:
    run_avatar(own_home, "say", "ada", "Remember this.")
    assert run_avatar(own_home, "rm", "ada", "--yes") == {"removed": "ada"}
    assert run_avatar(own_home, "list") == []
    assert [p for p in (own_home / "store").rglob("*") if p.is_file()] == []
    with open_instance(read_settings()) as instance:
        assert not instance.has_dynamic_partition("avatars", "ada")
        assert instance.get_dynamic_partitions("clip_batches") == []
        assert instance.get_runs() == []
        for name in ASSETS:
            assert instance.fetch_materializations(dg.AssetKey(name), limit=1).records == []
            assert instance.get_latest_materialization_event(dg.AssetKey(name)) is None, "no picture is left"


def call(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avatar_pipeline.cli", *map(str, arguments)]
    return subprocess.run(command, env=avatar_environment(home), capture_output=True, text=True, check=False)


def test_a_revocation_takes_effect_at_once(own_home: Path, sample_upload: Path, tmp_path: Path) -> None:
    record = json.loads((sample_upload / "consent.json").read_text())
    revoked = tmp_path / "revoked.json"
    revoked.write_text(json.dumps(record | {"revoked_at": record["given_at"]}))
    assert call(own_home, "create", "ada", sample_upload / "sample.mp4", "--consent", revoked).returncode == 2
    said = call(own_home, "say", "ada", "Still talking.")
    assert said.returncode == 2
    assert "was revoked" in said.stderr
    assert not (own_home / "store/avatars/ada/clips").exists()


def test_a_consent_of_somebody_else_is_a_conflict(own_home: Path, sample_upload: Path, tmp_path: Path) -> None:
    record = json.loads((sample_upload / "consent.json").read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps(record | {"consent_id": "another-consent", "subject": "Somebody else"}))
    done = call(own_home, "create", "ada", sample_upload / "sample.mp4", "--consent", other)
    assert done.returncode == 2
    assert "another person's" in done.stderr


def test_damage_is_mended_by_calling_again(own_home: Path, sample_upload: Path) -> None:
    """Files go missing and are torn in practice; the same inputs give the same bytes, so they are simply made again."""
    before = artifacts(own_home)
    avatar = own_home / "store/avatars/ada"
    next(avatar.glob("upload/*/video")).unlink()
    next(avatar.glob("mesh/*/mesh.npz")).write_bytes(b"")
    next(avatar.glob("plate/*/artifact.json")).write_text("{")
    (avatar / "voice_model" / "current.json").write_text("")
    run_avatar(own_home, "create", "ada", sample_upload / "sample.mp4", "--consent", sample_upload / "consent.json")
    assert artifacts(own_home) == before


def test_an_avatar_with_a_damaged_voice_can_be_removed(own_home: Path) -> None:
    next((own_home / "store/avatars/ada/voice_model").glob("*/voice.json")).write_bytes(b"")
    assert run_avatar(own_home, "rm", "ada", "--yes") == {"removed": "ada"}


def test_an_avatar_removed_while_it_speaks_leaves_no_clip(own_home: Path) -> None:
    """The removal comes when the clip is rendered and not yet published, as another process's may."""
    with open_line() as line:

        def remove_when_rendered(stage: str, done: float, total: float | None) -> None:
            if stage == "clip" and done == total:
                remove_avatar(line, "ada")

        with pytest.raises(AvatarError):
            make_clip(replace(line, progress=remove_when_rendered), "ada", "One, two, three.")
    assert [path for path in (own_home / "store" / "avatars").rglob("*") if path.is_file()] == []


def test_an_artifact_finished_after_its_avatar_is_gone_is_not_kept(own_home: Path) -> None:
    with open_line() as line:

        def make(draft: Draft, _: Checkpoints) -> None:
            remove_avatar(line, "ada")
            draft.folder.mkdir(parents=True)
            (draft.folder / "clip.mp4").write_bytes(b"somebody's face")

        with pytest.raises(NotFound, match="was removed while its clips was made"):
            produce(line, Recipe(Slot.avatar("ada", "clips"), "1", {}, {}), make, point=False)
    assert [path for path in (own_home / "store" / "avatars").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("out", ["folder", "clip.txt"])
def test_a_place_for_the_clip_that_cannot_be_is_told_before_the_work(out: str, own_home: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = call(own_home, "say", "ada", "Hello.", "--out", tmp_path / out)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --out")
    assert not (own_home / "store/avatars/ada/clips").exists()


def test_the_ui_has_a_picture_and_a_verdict_for_every_asset(own_home: Path) -> None:
    with open_instance(read_settings()) as instance:
        for name in ASSETS:
            event = instance.get_latest_materialization_event(dg.AssetKey(name))
            assert event is not None
            materialization = event.asset_materialization
            assert materialization is not None
            assert materialization.partition == "ada"
            metadata = materialization.metadata
            assert metadata["cost"].value >= 0
            if name != "voice_model":
                picture = str(metadata["preview"].value)
                assert picture.startswith("![preview](data:image/jpeg;base64,")
                assert len(picture) < 70_000
        records = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("greeting_clip"), "mouth_follows"), limit=1
        )
        assert records[0].event.dagster_event.event_specific_data.passed


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="SIGKILL and process bookkeeping are tested on Linux")
def test_killed_in_the_middle_of_every_asset_it_ends_the_same(
    ready_home: Path, sample_upload: Path, home: Path
) -> None:
    """kill -9 once inside each piece of work, then let it finish: same bytes, nothing half-written in between."""
    command = [sys.executable, "-m", "avatar_pipeline.cli", "create", "ada", sample_upload / "sample.mp4"]
    command += ["--consent", sample_upload / "consent.json", "--json"]
    expected = artifacts(ready_home)
    # Every home has a test certificate of its own, and the bytes of a signature depend on whose it is.
    shutil.copytree(ready_home / "provenance", home / "provenance")
    killed: set[str] = set()
    for _ in range(20):
        process = subprocess.Popen(
            command, env=avatar_environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        key = wait_for_new_work(process, home, killed)
        if key is None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        killed.add(key)
        for path, content in artifacts(home).items():
            assert expected[path] == content, f"{path} was visible half-written"
    else:
        pytest.fail("it never finished")
    assert process.returncode == 0, process.communicate()
    assert len(killed) >= len(ASSETS), "every asset was interrupted once"
    assert artifacts(home) == expected
    assert not list((home / "store" / "checkpoints").rglob("*.*")), "checkpoints of finished work are gone"


def test_ctrl_c_says_how_to_go_on_and_is_no_failure(home: Path, sample_upload: Path) -> None:
    command = [sys.executable, "-m", "avatar_pipeline.cli", "create", "ada", sample_upload / "sample.mp4"]
    command += ["--consent", sample_upload / "consent.json"]
    process = subprocess.Popen(command, env=avatar_environment(home), stderr=subprocess.PIPE, text=True)
    assert wait_for_new_work(process, home, set()) is not None
    told = None
    while told is None:
        # Python drops a signal that arrives in a destructor; a person presses the keys again.
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            _, told = process.communicate(timeout=10)
    # Interrupted at some moments, Python ends by the signal itself after the message; a shell calls that 130 as well.
    assert process.returncode in (130, -signal.SIGINT), told
    assert "Call the same command again to go on." in told
    assert [avatar["state"] for avatar in run_avatar(home, "list")] == ["new"]


def wait_for_new_work(process: subprocess.Popen, home: Path, killed: set[str]) -> str | None:
    """Return the key of an artifact that is being made and was not interrupted before; None if the process ended.

    Where the work keeps checkpoints it is given the time to finish one, so that the next run has something to resume.
    """
    store = home / "store"
    while process.poll() is None:
        for draft in (store / ".tmp").glob("*/*/*.tmp"):
            key = draft.name.split(".")[0]
            if key in killed:
                continue
            began = time.monotonic()
            while process.poll() is None and time.monotonic() - began < 0.4:
                if any((store / "checkpoints").rglob(f"{key}/[!.]*")):
                    break
                time.sleep(0.005)
            return key if process.poll() is None and draft.exists() else None if process.poll() is not None else key
        time.sleep(0.002)
    return None
