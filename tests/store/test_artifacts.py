"""The artifact store, on a folder and on S3 (moto's server, over HTTP): whole or not there, and never outside."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidId, NotFound, StoreCorrupt
from avatar_pipeline.store.artifacts import ArtifactStore, Recipe, Slot
from avatar_pipeline.store.checkpoints import FolderCheckpoints
from avatar_pipeline.store.keys import content_key

SLOT = Slot.avatar("ada", "landmarks")


def recipe(**params: int) -> Recipe:
    return Recipe(SLOT, code_version="1", inputs={"source": "abc"}, params=params)


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="the `dev` extra brings moto")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return ArtifactStore(tmp_path / "store", tmp_path / "scratch")
    pytest.importorskip("s3fs", reason="the `aws` extra brings s3fs")
    boto3 = pytest.importorskip("boto3", reason="the `aws` extra brings boto3")
    endpoint = request.getfixturevalue("s3_endpoint")
    options = {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": endpoint, "region_name": "us-east-1"}}
    store = ArtifactStore(f"s3://bucket/{tmp_path.name}", tmp_path / "scratch", **options)
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ).create_bucket(Bucket="bucket")
    return store


def make(store: ArtifactStore, content: bytes = b"data", **params: int):
    with store.create(recipe(**params)) as draft:
        (draft.folder / "data.bin").write_bytes(content)
        draft.facts["frames"] = 3
    artifact = store.find(SLOT, recipe(**params).key)
    assert artifact is not None
    return artifact


def test_what_was_put_in_is_found_again_with_its_facts(store: ArtifactStore) -> None:
    artifact = make(store)
    assert store.local(artifact, "data.bin").read_bytes() == b"data"
    assert (artifact.facts, artifact.inputs, artifact.size_bytes) == ({"frames": 3}, {"source": "abc"}, 4)
    store.verify(artifact)


def test_the_pointer_names_the_current_artifact(store: ArtifactStore) -> None:
    with pytest.raises(NotFound, match="Materialize landmarks for ada first"):
        store.require_current(SLOT)
    first, second = make(store, smooth=1), make(store, smooth=2)
    store.point(first)
    assert store.current(SLOT) == first
    store.point(second)
    assert store.require_current(SLOT) == second


def test_work_that_fails_leaves_no_artifact(store: ArtifactStore) -> None:
    with pytest.raises(RuntimeError), store.create(recipe()) as draft:
        (draft.folder / "data.bin").write_bytes(b"half")
        raise RuntimeError
    assert store.find(SLOT, recipe().key) is None
    assert not list(store.scratch.rglob("data.bin"))


def test_making_it_twice_gives_the_same_manifest(store: ArtifactStore) -> None:
    assert make(store) == make(store)


def test_checkpoints_are_whole_or_absent_and_outlive_the_machine(store: ArtifactStore, tmp_path: Path) -> None:
    checkpoints = store.checkpoints(SLOT, "abc123")
    assert checkpoints.get("chunk-0.npz") is None
    with pytest.raises(RuntimeError), checkpoints.put("chunk-0.npz") as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert checkpoints.get("chunk-0.npz") is None
    with checkpoints.put("chunk-0.npz") as path:
        path.write_bytes(b"whole")
    elsewhere = ArtifactStore(store.root, tmp_path / "another-machine")
    found = elsewhere.checkpoints(SLOT, "abc123").get("chunk-0.npz")
    assert found is not None
    assert found.read_bytes() == b"whole"
    store.drop_checkpoints(SLOT, "abc123")
    assert store.checkpoints(SLOT, "abc123").get("chunk-0.npz") is None


def test_deleting_an_owner_deletes_all_of_it_and_nothing_else(store: ArtifactStore) -> None:
    store.point(make(store))
    other = Recipe(Slot.avatar("ada-2", "landmarks"), "1", {}, {})
    with store.create(other) as draft:
        (draft.folder / "data.bin").write_bytes(b"keep")
    store.delete_owner("avatars", "ada")
    assert store.current(SLOT) is None
    assert store.find(other.slot, other.key) is not None


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store", tmp_path / "scratch")
    artifact = make(store)
    store.local(artifact, "data.bin").write_bytes(b"evil")
    with pytest.raises(StoreCorrupt, match="does not match"):
        store.verify(artifact)


def tear_manifest(folder: Path) -> None:
    (folder / "artifact.json").write_text(json.dumps({"version": 1}))


def lose_file(folder: Path) -> None:
    (folder / "data.bin").unlink()


def cut_file(folder: Path) -> None:
    (folder / "data.bin").write_bytes(b"")


@pytest.mark.parametrize("damage", [tear_manifest, lose_file, cut_file])
def test_a_damaged_artifact_counts_as_absent_and_is_made_again(damage, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store", tmp_path / "scratch")
    artifact = make(store)
    store.point(artifact)
    damage(Path(artifact.uri))
    assert store.find(SLOT, artifact.key) is None
    assert store.current(SLOT) is None
    assert make(store) == artifact
    store.verify(artifact)


def test_a_torn_pointer_counts_as_none(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store", tmp_path / "scratch")
    store.point(make(store))
    for torn in ("", "{", "[]", '{"key": "../../etc"}'):
        (tmp_path / "store" / "avatars" / "ada" / "landmarks" / "current.json").write_text(torn)
        assert store.current(SLOT) is None


@pytest.mark.parametrize("torn", [b"", b"half"])
def test_a_checkpoint_that_a_power_cut_tore_is_made_again(torn: bytes, tmp_path: Path) -> None:
    checkpoints = FolderCheckpoints(tmp_path)
    with checkpoints.put("chunk-0.npz") as path:
        path.write_bytes(b"whole")
    (tmp_path / "chunk-0.npz").write_bytes(torn)
    assert checkpoints.get("chunk-0.npz") is None
    with checkpoints.put("chunk-0.npz") as path:
        path.write_bytes(b"whole")
    assert checkpoints.get("chunk-0.npz") is not None


def test_deleting_an_owner_takes_what_killed_processes_left(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store", tmp_path / "scratch")
    make(store)
    draft = tmp_path / "store" / ".tmp" / "avatars" / "ada" / "key.ffff.tmp"
    half_deleted = tmp_path / "store" / "avatars" / ".ada.ffff.deleted"
    for folder in (draft, half_deleted):
        folder.mkdir(parents=True)
        (folder / "voice.wav").write_bytes(b"somebody's voice")
    store.delete_owner("avatars", "ada")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("owner", ["../../etc", "/etc", "a/b", "", "a", "A", "x" * 64, "a\n", "..", ".", "-a"])
def test_no_id_reaches_outside_the_store(owner: str) -> None:
    with pytest.raises(InvalidId, match="is not a valid id"):
        Slot.avatar(owner, "landmarks")


def test_no_key_reaches_outside_the_store(tmp_path: Path) -> None:
    with pytest.raises(InvalidId):
        ArtifactStore(tmp_path, tmp_path).find(SLOT, "../../../etc")


def test_a_writer_killed_midway_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from avatar_pipeline.store.artifacts import ArtifactStore, Recipe, Slot
from avatar_pipeline.store.checkpoints import FolderCheckpoints
        store = ArtifactStore(Path(sys.argv[1]) / "store", Path(sys.argv[1]) / "scratch")
        with store.create(Recipe(Slot.avatar("ada", "landmarks"), "1", {"source": "abc"}, {})) as draft:
            (draft.folder / "data.bin").write_bytes(b"half")
            print("writing", flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = ArtifactStore(tmp_path / "store", tmp_path / "scratch")
    assert store.find(SLOT, recipe().key) is None
    assert make(store).files["data.bin"][0] == 4


def test_the_draft_of_a_killed_process_is_swept_a_day_later(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store", tmp_path / "scratch")
    make(store)
    draft = tmp_path / "store" / ".tmp" / "avatars" / "bob" / "0123456789abcdef.ffff.tmp"
    draft.mkdir(parents=True)
    (draft / "data.bin").write_bytes(b"half")
    now = datetime.fromtimestamp(draft.stat().st_mtime, UTC)
    assert store.sweep(now + timedelta(hours=23)) == 0
    assert store.sweep(now + timedelta(hours=25)) == 1
    assert not draft.exists()
    assert store.find(SLOT, recipe().key) is not None


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans() | st.none()))
def test_the_order_of_parameters_does_not_change_the_key(params: dict) -> None:
    backwards = dict(reversed(params.items()))
    one, other = (content_key("a", code_version="1", inputs={}, params=p) for p in (params, backwards))
    assert one == other


@pytest.mark.parametrize(
    "change",
    [{"code_version": "2"}, {"inputs": {"source": "b"}}, {"params": {"n": 2}}],
)
def test_whatever_goes_in_changes_the_key(change: dict) -> None:
    base = {"code_version": "1", "inputs": {"source": "a"}, "params": {"n": 1}}
    assert content_key("a", **base) != content_key("a", **(base | change))
