"""Retention: what is to go goes, after any number of kills; what is needed, or being made right now, stays."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from avatar_pipeline.errors import EnvironmentProblem, NotFound
from avatar_pipeline.ledger.schema import ArtifactRow, AvatarRow, TimingRow
from avatar_pipeline.stages.intake import upload_of
from avatar_pipeline.stages.line import Line, produce
from avatar_pipeline.stages.retention import FINISHED_AGE, ORPHAN_AGE, Orphans, delete_old_uploads, sweep_orphans
from avatar_pipeline.store.artifacts import Artifact, ArtifactStore, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints
from tests.stages.benches import add, artifact_row, avatar_row, make_line, request_row

NOW = datetime.now(UTC)
"""Files in these tests are made at the time of the test; what is to be old is looked at from later on."""
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
"""More than a test run takes: files carry the time of the test, NOW that of its import."""
KEEP_DAYS = 30
LATER = NOW + (KEEP_DAYS + 1) * DAY
NEXT_WEEK = NOW + ORPHAN_AGE + HOUR
NOTHING = Orphans([], [], 0, more=False)


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="the `dev` extra brings moto")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    store = None
    if request.param == "s3":
        pytest.importorskip("s3fs", reason="the `aws` extra brings s3fs")
        boto3 = pytest.importorskip("boto3", reason="the `aws` extra brings boto3")
        client = {"endpoint_url": request.getfixturevalue("s3_endpoint"), "region_name": "us-east-1"}
        options = {"key": "test", "secret": "test", "client_kwargs": client}
        boto3.client("s3", aws_access_key_id="test", aws_secret_access_key="test", **client).create_bucket(
            Bucket="bucket"
        )
        store = ArtifactStore(f"s3://bucket/{tmp_path.name}", tmp_path / "home" / "scratch", **options)
    line = make_line(tmp_path, lambda: LATER, store=store, keep_uploads_days=KEEP_DAYS)
    yield line
    line.ledger.close()


@pytest.fixture
def folder_line(tmp_path: Path) -> Iterator[Line]:
    line = make_line(tmp_path, lambda: LATER, keep_uploads_days=KEEP_DAYS)
    yield line
    line.ledger.close()


def put(line: Line, slot: Slot, name: str = "data.bin", content: bytes = b"data") -> Artifact:
    """Publish an artifact, and make it the current one."""
    recipe = Recipe(slot, "1", {}, {})
    with line.store.create(recipe) as draft:
        (draft.folder / name).write_bytes(content)
    artifact = line.store.find(slot, recipe.key)
    assert artifact is not None
    line.store.point(artifact)
    return artifact


def put_avatar(line: Line, avatar_id: str, *, state: str = "ready", ready_at: datetime = NOW) -> None:
    """An avatar with its upload and its greeting."""
    add(line.ledger, avatar_row(avatar_id, ready_at, state=state))
    put(line, Slot.avatar(avatar_id, "upload"), "video", b"somebody's face")
    add(line.ledger, artifact_row(avatar_id, "greeting_clip", "key", ready_at))


def has_upload(line: Line, avatar_id: str) -> bool:
    return line.store.current(Slot.avatar(avatar_id, "upload")) is not None


# Uploads


def test_uploads_are_kept_unless_the_settings_say_for_how_long(folder_line: Line) -> None:
    put_avatar(folder_line, "ada")
    line = replace(folder_line, settings=folder_line.settings.model_copy(update={"keep_uploads_days": None}))
    assert delete_old_uploads(line, NOW + 1000 * DAY) == []
    assert has_upload(line, "ada")


def test_the_upload_of_an_avatar_that_has_long_been_ready_is_deleted_once(line: Line) -> None:
    put_avatar(line, "ada")
    put(line, Slot.avatar("ada", "mesh"))
    assert delete_old_uploads(line, NOW + KEEP_DAYS * DAY - HOUR) == []
    assert delete_old_uploads(line, LATER) == ["ada"]
    assert not has_upload(line, "ada")
    assert not (line.store.root / "avatars" / "ada" / "upload").exists()
    assert line.store.current(Slot.avatar("ada", "mesh")) is not None
    assert delete_old_uploads(line, LATER) == []


def test_whoever_looks_for_a_deleted_upload_is_told_when_it_went_and_what_to_do(folder_line: Line) -> None:
    put_avatar(folder_line, "ada")
    delete_old_uploads(folder_line, LATER)
    told = rf"ada\.mp4\) was deleted on {LATER:%Y-%m-%d}: AVATAR_KEEP_UPLOADS_DAYS is 30\. .*avatar create again"
    with pytest.raises(NotFound, match=told):
        upload_of(folder_line, folder_line.ledger.avatar("ada"))


@pytest.mark.parametrize("state", ["new", "failed"])
def test_the_upload_of_an_avatar_that_is_not_ready_stays(folder_line: Line, state: str) -> None:
    put_avatar(folder_line, "ada", state=state)
    assert delete_old_uploads(folder_line, LATER) == []
    assert has_upload(folder_line, "ada")


def test_an_upload_that_was_given_again_is_kept_as_long_again(folder_line: Line) -> None:
    put_avatar(folder_line, "ada", ready_at=NOW - 100 * DAY)
    assert delete_old_uploads(folder_line, NOW + HOUR) == []
    assert delete_old_uploads(folder_line, LATER) == ["ada"]
    put(folder_line, Slot.avatar("ada", "upload"), "video", b"given again")
    touch_row(folder_line, "ada", LATER + HOUR)
    assert upload_of(folder_line, folder_line.ledger.avatar("ada"))
    assert delete_old_uploads(folder_line, NOW + KEEP_DAYS * DAY - HOUR) == []
    assert delete_old_uploads(folder_line, LATER + DAY) == ["ada"]


def test_who_has_long_been_ready_is_the_same_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    line = make_line(tmp_path, lambda: LATER, keep_uploads_days=KEEP_DAYS, ledger_url=postgres_url)
    put_avatar(line, "ada")
    put_avatar(line, "bob", ready_at=LATER)
    add(line.ledger, artifact_row("ada", "greeting_clip", "newer", LATER))
    assert (delete_old_uploads(line, LATER), delete_old_uploads(line, LATER)) == (["ada"], [])
    put(line, Slot.avatar("gone", "mesh"))
    put(line, Slot.batch("batch-known", "clip_batch_manifest"))
    add(line.ledger, request_row("r-1", sent_at=NOW, batch_id="batch-known"))
    assert sweep_orphans(line, NEXT_WEEK).owners == ["avatars/gone"]
    line.ledger.close()


def touch_row(line: Line, avatar_id: str, at: datetime) -> None:
    """What `avatar create`, or a newer consent, does to the row of an avatar that is there already."""
    with Session(line.ledger.engine) as session, session.begin():
        row = session.get(AvatarRow, avatar_id)
        assert row is not None
        row.updated_at = at


def test_a_newer_consent_does_not_make_an_old_deletion_look_new(folder_line: Line) -> None:
    put_avatar(folder_line, "ada")
    delete_old_uploads(folder_line, LATER)
    note = folder_line.store.current(Slot.avatar("ada", "upload_deletion"))
    touch_row(folder_line, "ada", LATER + DAY)
    assert delete_old_uploads(folder_line, LATER + 2 * DAY) == []
    assert folder_line.store.current(Slot.avatar("ada", "upload_deletion")) == note


def named_file(line: Line, name: str) -> tuple[Path, str]:
    path = Path(line.settings.uploads_uri) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"somebody's face")
    return path, str(path)


def avatar_request(request_id: str, avatar_id: str, video: str, consent: str, *, finished: bool = True):
    payload = {"video_uri": video, "consent_uri": consent}
    finished_at = NOW if finished else None
    return request_row(
        request_id, kind="avatar", avatar_id=avatar_id, payload=payload, sent_at=NOW, finished_at=finished_at
    )


def test_what_a_request_named_goes_with_the_upload_unless_another_request_still_needs_it(folder_line: Line) -> None:
    put_avatar(folder_line, "ada")
    video, video_uri = named_file(folder_line, "ada.mp4")
    consent, consent_uri = named_file(folder_line, "consent.json")
    add(
        folder_line.ledger,
        avatar_request("r-1", "ada", video_uri, consent_uri),
        avatar_request("r-2", "bob", "elsewhere.mp4", consent_uri, finished=False),
    )
    assert delete_old_uploads(folder_line, LATER) == ["ada"]
    assert (video.exists(), consent.exists()) == (False, True)


def test_nothing_outside_the_uploads_place_is_deleted_whatever_a_request_names(
    folder_line: Line, tmp_path: Path
) -> None:
    put_avatar(folder_line, "ada")
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(b"not ours")
    escape = f"{folder_line.settings.uploads_uri}/../../outside.mp4"
    add(folder_line.ledger, avatar_request("r-1", "ada", str(outside), escape))
    assert delete_old_uploads(folder_line, LATER) == ["ada"]
    assert outside.exists()


class Killed(BaseException):
    """As if the process had been killed: nothing may catch it."""


class DyingStore(ArtifactStore):
    """A store whose process dies right before, or right after, its `deaths`-th change."""

    steps = 0
    deaths = 0
    after = False

    def _step(self, change) -> None:
        self.steps += 1
        if self.steps == self.deaths and not self.after:
            raise Killed
        change()
        if self.steps == self.deaths:
            raise Killed

    def point(self, artifact: Artifact) -> None:
        self._step(lambda: super(DyingStore, self).point(artifact))

    def delete_slot(self, slot: Slot) -> None:
        self._step(lambda: super(DyingStore, self).delete_slot(slot))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_deletion_that_was_killed_anywhere_is_finished_by_the_next_call(
    tmp_path: Path, deaths: int, after: bool
) -> None:
    store = DyingStore(tmp_path / "store", tmp_path / "scratch")
    line = make_line(tmp_path, lambda: LATER, store=store, keep_uploads_days=KEEP_DAYS)
    put_avatar(line, "ada")
    video, video_uri = named_file(line, "ada.mp4")
    add(line.ledger, avatar_request("r-1", "ada", video_uri, video_uri))
    store.steps, store.deaths, store.after = 0, deaths, after
    with pytest.raises(Killed):
        delete_old_uploads(line, LATER)
    store.deaths = 0
    went_on = LATER if not has_upload(line, "ada") else LATER + DAY
    assert delete_old_uploads(line, LATER + DAY) == ["ada"]
    with pytest.raises(NotFound, match=f"was deleted on {went_on:%Y-%m-%d}"):
        upload_of(line, line.ledger.avatar("ada"))
    assert not video.exists()
    assert delete_old_uploads(line, LATER + DAY) == []
    with Session(line.ledger.engine) as session:
        marks = select(func.count()).where(ArtifactRow.asset == "upload_deletion")
        assert session.scalar(marks) == 1
    line.ledger.close()


def test_what_a_request_named_is_gone_before_the_upload_is(tmp_path: Path) -> None:
    """Where an upload was deleted before, its absence says that nothing is left to do."""
    store = DyingStore(tmp_path / "store", tmp_path / "scratch")
    line = make_line(tmp_path, lambda: LATER, store=store, keep_uploads_days=KEEP_DAYS)
    put_avatar(line, "ada")
    assert delete_old_uploads(line, LATER) == ["ada"]
    put(line, Slot.avatar("ada", "upload"), "video")
    touch_row(line, "ada", LATER + HOUR)
    video, video_uri = named_file(line, "again.mp4")
    add(line.ledger, avatar_request("r-2", "ada", video_uri, video_uri))
    store.steps, store.deaths, store.after = 0, 2, True
    with pytest.raises(Killed):
        delete_old_uploads(line, LATER + DAY)
    assert (has_upload(line, "ada"), video.exists()) == (False, False)
    line.ledger.close()


# Orphans


def test_what_the_ledger_does_not_know_goes_after_a_week(line: Line) -> None:
    put_avatar(line, "ada")
    put(line, Slot.avatar("gone", "mesh"))
    add(line.ledger, request_row("r-1", sent_at=NOW, batch_id="batch-known"))
    for batch_id in ("batch-known", "batch-gone"):
        put(line, Slot.batch(batch_id, "clip_batch_manifest"))
    assert sweep_orphans(line, NEXT_WEEK - 2 * HOUR) == NOTHING
    assert sweep_orphans(line, NEXT_WEEK).owners == ["avatars/gone", "clip-batches/batch-gone"]
    assert has_upload(line, "ada")
    assert line.store.current(Slot.batch("batch-known", "clip_batch_manifest")) is not None
    assert line.store.current(Slot.avatar("gone", "mesh")) is None
    assert sweep_orphans(line, NEXT_WEEK) == NOTHING


def test_an_old_folder_in_which_something_has_just_changed_is_left_alone(folder_line: Line) -> None:
    put_avatar(folder_line, "ada")
    put(folder_line, Slot.avatar("gone", "mesh"))
    long_ago = (NOW - 100 * DAY).timestamp()
    for path in Path(str(folder_line.store.root / "avatars" / "gone")).rglob("*"):
        os.utime(path, (long_ago, long_ago))
    assert sweep_orphans(folder_line, NOW + HOUR).owners == [], "its own folder changed just now"


class WatchedStore(ArtifactStore):
    """A store that lets something else happen while it is looked through."""

    meanwhile = staticmethod(lambda: None)

    def drafts_of(self, collection: str, owner: str) -> Path:
        self.meanwhile()
        return super().drafts_of(collection, owner)


def test_an_avatar_that_is_registered_during_the_sweep_is_not_swept(tmp_path: Path) -> None:
    store = WatchedStore(tmp_path / "store", tmp_path / "scratch")
    line = make_line(tmp_path, lambda: LATER, store=store)
    put_avatar(line, "ada")
    put(line, Slot.avatar("gone", "mesh"))
    store.meanwhile = lambda: None if line.ledger.has_avatar("gone") else add(line.ledger, avatar_row("gone", NOW))
    assert sweep_orphans(line, NEXT_WEEK) == NOTHING
    assert line.store.current(Slot.avatar("gone", "mesh")) is not None
    line.ledger.close()


def test_a_draft_in_the_making_keeps_its_owner(folder_line: Line) -> None:
    put_avatar(folder_line, "ada")
    put(folder_line, Slot.avatar("gone", "mesh"))
    base = Path(str(folder_line.store.root / "avatars" / "gone"))
    long_ago = (NOW - 100 * DAY).timestamp()
    for path in (base, *base.rglob("*")):
        os.utime(path, (long_ago, long_ago))
    with folder_line.store.create(Recipe(Slot.avatar("gone", "plate"), "1", {}, {})):
        assert sweep_orphans(folder_line, NOW + HOUR) == NOTHING
    # Publishing changes the owner's folder.
    os.utime(base, (long_ago, long_ago))
    shutil.rmtree(base / "plate")
    os.utime(base, (long_ago, long_ago))
    shutil.rmtree(folder_line.store.drafts_of("avatars", "gone"))
    assert sweep_orphans(folder_line, NOW + HOUR).owners == ["avatars/gone"]


def test_a_store_that_belongs_to_another_ledger_is_not_emptied(line: Line) -> None:
    for name in ("ada", "bob"):
        put(line, Slot.avatar(name, "mesh"))
    with pytest.raises(EnvironmentProblem, match=r"knows 0 of 2 avatars .*; nothing was deleted\."):
        sweep_orphans(line, NOW + 100 * DAY)
    add(line.ledger, avatar_row("ada", NOW))
    assert sweep_orphans(line, NOW + 100 * DAY).owners == ["avatars/bob"]


def test_what_is_not_the_stores_is_not_touched(folder_line: Line) -> None:
    put_avatar(folder_line, "ada")
    foreign = Path(str(folder_line.store.root / "avatars" / "README.txt"))
    foreign.write_text("Keep out.")
    put(folder_line, Slot("reports", "2026-03-01", "daily_report"))
    assert sweep_orphans(folder_line, NOW + 100 * DAY) == NOTHING
    assert foreign.exists()
    assert folder_line.store.current(Slot("reports", "2026-03-01", "daily_report")) is not None


# Checkpoints


def chunk(line: Line, recipe: Recipe) -> None:
    with line.store.checkpoints(recipe.slot, recipe.key).put("chunk-0") as path:
        path.write_bytes(b"half a clip")


def has_chunk(line: Line, recipe: Recipe) -> bool:
    return line.store.checkpoints(recipe.slot, recipe.key).get("chunk-0") is not None


def test_checkpoints_of_finished_work_are_dropped_at_once(line: Line) -> None:
    add(line.ledger, avatar_row("ada", NOW))
    recipe = Recipe(Slot.avatar("ada", "clips"), "1", {}, {})

    def make(draft: Draft, checkpoints: Checkpoints) -> None:
        chunk(line, recipe)
        assert checkpoints.get("chunk-0") is not None
        (draft.folder / "clip.mp4").write_bytes(b"a clip")

    produce(line, recipe, make)
    assert not has_chunk(line, recipe)
    with Session(line.ledger.engine) as session:
        assert session.scalar(select(func.count()).select_from(TimingRow)) == 1


def test_checkpoints_that_a_kill_left_behind_finished_work_go_after_a_day(line: Line) -> None:
    put_avatar(line, "ada")
    put(line, Slot.avatar("ada", "mesh"))
    finished = Recipe(Slot.avatar("ada", "mesh"), "1", {}, {})
    at_work = Recipe(Slot.avatar("ada", "plate"), "1", {}, {})
    chunk(line, finished)
    chunk(line, at_work)
    assert sweep_orphans(line, NOW + FINISHED_AGE - HOUR) == NOTHING
    swept = sweep_orphans(line, NOW + FINISHED_AGE + HOUR)
    assert swept.checkpoints == [f"avatars/ada/mesh/{finished.key}"]
    assert (has_chunk(line, finished), has_chunk(line, at_work)) == (False, True)


def test_chunks_to_which_none_was_added_for_a_week_are_given_up(line: Line) -> None:
    put_avatar(line, "ada")
    recipe = Recipe(Slot.avatar("ada", "plate"), "1", {}, {})
    chunk(line, recipe)
    assert sweep_orphans(line, NEXT_WEEK).checkpoints == [f"avatars/ada/plate/{recipe.key}"]
    assert not has_chunk(line, recipe)


def test_what_a_kill_left_half_deleted_or_half_made_goes_after_a_day(folder_line: Line) -> None:
    put_avatar(folder_line, "ada")
    root = Path(str(folder_line.store.root))
    left = [
        root / "avatars" / ".bob.ffff.deleted",
        root / "avatars" / "ada" / ".upload.ffff.deleted",
        root / "avatars" / "ada" / "mesh" / ".key.ffff.deleted",
        root / "checkpoints" / "avatars" / "ada" / "clips" / ".key.ffff.deleted",
        root / ".tmp" / "avatars" / "ada" / "key.ffff.tmp",
        folder_line.store.scratch / "published" / "key",
    ]
    for path in left:
        path.mkdir(parents=True)
        (path / "video").write_bytes(b"somebody's face")
    assert sweep_orphans(folder_line, NOW + FINISHED_AGE - HOUR) == NOTHING
    assert sweep_orphans(folder_line, NOW + FINISHED_AGE + HOUR).drafts == len(left)
    assert not any(path.exists() for path in left)
