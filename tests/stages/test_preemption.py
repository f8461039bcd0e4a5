"""A machine that is taken away under the stages: nothing that was saved is made again, and the bytes are the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from avatar_pipeline.errors import ConsentRevoked
from avatar_pipeline.settings import read_settings
from avatar_pipeline.spot.cadence import Cadence
from avatar_pipeline.spot.guard import Preempted, watching
from avatar_pipeline.spot.types import Progress
from avatar_pipeline.stages.batches import make_manifest, render_batch, synthesize_batch
from avatar_pipeline.stages.head import make_plate
from avatar_pipeline.stages.landmarks import make_landmarks
from avatar_pipeline.stages.line import Line, open_line, produce
from avatar_pipeline.store.artifacts import ArtifactStore, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints
from tests.spot.telling import MAYBE, Herald
from tests.stages.benches import make_line

SHORT = "Yes."
LONG = "Peter Piper picked a peck of pickled peppers."
"""Two segments."""


@pytest.fixture
def line(own_home: Path) -> Iterator[Line]:
    """The line of a home in which the avatar `ada` is ready."""
    with open_line(read_settings()) as line:
        yield line


@pytest.fixture
def herald() -> Herald:
    return Herald()


@contextmanager
def guarded(line: Line, herald: Herald, *, after: tuple[str, float] | None = None) -> Iterator[tuple[Line, Steps]]:
    """The line on a machine that is taken when its progress says `after` (a stage, and how much of it is done)."""
    steps = Steps()

    def progress(stage: str, done: float, total: float | None) -> None:
        steps.begun.append((stage, done))
        if (stage, done) == after:
            herald.say()

    with watching(signals=(), sources=[herald], report=steps.reported.append) as guard:
        yield replace(line, progress=progress, guard=guard), steps


class Steps:
    """What was begun, and what was reported as saved."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float]] = []
        self.reported: list[Progress] = []

    def of(self, stage: str) -> list[float]:
        return [done for name, done in self.begun if name == stage]


def send(line: Line, texts: Sequence[str]) -> None:
    messages = [
        json.dumps({"version": 1, "request_id": f"clip-{number}", "avatar_id": "ada", "text": text})
        for number, text in enumerate(texts, start=1)
    ]
    line.queues.clips.send(messages)
    make_manifest(line, "batch-1")


def state(line: Line, request_id: str) -> tuple[str, int]:
    record = line.requests.get(request_id)
    return record.state, record.attempts


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_batch_whose_machine_is_taken_goes_on_within_the_clip_and_no_request_pays_for_it(
    line: Line, herald: Herald, own_home: Path
) -> None:
    send(line, [SHORT, LONG])
    synthesize_batch(line, "batch-1")
    with pytest.raises(Preempted) as caught, guarded(line, herald, after=("clip", 0)) as (first, _):
        # The notice comes in the first segment of each clip: the short clip, which has no other, is finished first.
        render_batch(first, "batch-1")
    assert state(line, "clip-1") == ("done", 1)
    assert state(line, "clip-2") == ("claimed", 0)
    progress = caught.value.progress
    assert progress is not None and (progress.done, progress.total) == (len(SHORT), len(SHORT) + len(LONG))
    with pytest.raises(Preempted) as caught, guarded(line, herald, after=("clip", 0)) as (second, _):
        render_batch(second, "batch-1")
    progress = caught.value.progress
    assert progress is not None and progress.done == len(SHORT) + len(LONG) / 2
    assert state(line, "clip-2") == ("claimed", 0)
    assert not any((own_home / "store" / ".tmp").rglob("*.tmp")), "no draft is left"
    with guarded(line, herald) as (third, steps):
        result = render_batch(third, "batch-1")
    assert (list(result.done), result.reused, result.failed) == (["clip-1", "clip-2"], 1, {})
    assert steps.of("clip") == [1, 2], "the second segment, and the clip"
    assert state(line, "clip-2") == ("done", 1)

    seen = digests(own_home / "store/avatars/ada/clips"), digests(own_home / "store/clip-batches/batch-1")
    shutil.rmtree(own_home / "store/avatars/ada/clips")
    shutil.rmtree(own_home / "store/clip-batches/batch-1/rendered_clips")
    assert render_batch(line, "batch-1").reused == 0
    assert seen == (digests(own_home / "store/avatars/ada/clips"), digests(own_home / "store/clip-batches/batch-1"))


def test_texts_that_were_spoken_before_the_machine_went_are_not_spoken_again(line: Line, herald: Herald) -> None:
    send(line, ["One.", "Two.", "Three."])
    with pytest.raises(Preempted), guarded(line, herald, after=("synthesized_speech", 2)) as (first, _):
        synthesize_batch(first, "batch-1")
    with guarded(line, herald) as (second, steps):
        result = synthesize_batch(second, "batch-1")
    assert (len(result.done), result.reused) == (3, 2)
    assert steps.reported[-1].done == steps.reported[-1].total == len("One.Two.Three.")


def test_a_request_that_its_budget_holds_stays_held_when_the_machine_goes(line: Line, herald: Herald) -> None:
    send(line, [LONG])
    synthesize_batch(line, "batch-1")

    def hold(stage: str, done: float, total: float | None) -> None:
        if stage == "clip":
            line.requests.hold("clip-1", "budget")
            herald.say()

    with pytest.raises(Preempted), guarded(line, herald) as (first, _):
        render_batch(replace(first, progress=hold), "batch-1")
    assert state(line, "clip-1")[0] == "held"


def test_what_was_taken_back_in_the_meantime_is_refused_and_not_put_off_for_another_machine(
    line: Line, herald: Herald, own_home: Path
) -> None:
    send(line, [LONG])
    synthesize_batch(line, "batch-1")

    def revoke(stage: str, done: float, total: float | None) -> None:
        if stage == "clip":
            line.consents.revoke(line.ledger.avatar("ada").consent.consent_id, reason="a test")
            herald.say()

    with guarded(line, herald) as (first, _):
        assert isinstance(render_batch(replace(first, progress=revoke), "batch-1").failed["clip-1"], ConsentRevoked)
    assert not line.store.has_owner("avatars", "ada")


def test_landmarks_and_plates_tell_the_guard_of_their_chunks(line: Line, herald: Herald, own_home: Path) -> None:
    for asset, make in (("landmarks", make_landmarks), ("plate", make_plate)):
        before = digests(own_home / "store/avatars/ada" / asset)
        shutil.rmtree(own_home / "store/avatars/ada" / asset)
        with guarded(line, herald) as (first, steps):
            herald.say()
            make(first, "ada")
        assert [(progress.done, progress.total) for progress in steps.reported] == [(1, 1)]
        assert digests(own_home / "store/avatars/ada" / asset) == before


def chunks_far_away(line: Line, recipe: Recipe) -> list[str]:
    folder = line.store.root.joinpath("checkpoints", *recipe.slot.parts, recipe.key)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def far(tmp_path: Path) -> Line:
    """A line whose store is not on this machine."""
    store = ArtifactStore(f"memory://{tmp_path.name}", tmp_path / "scratch")
    return make_line(tmp_path, lambda: datetime(2026, 11, 24, tzinfo=UTC), store=store)


RECIPE = Recipe(Slot.batch("batch-1", "rendered_clips"), "1", {}, {})


@pytest.mark.parametrize(("notice", "saved"), [(False, []), (True, ["chunk-2", "chunk-3"])], ids=["calm", "rebalance"])
def test_chunks_for_a_store_far_away_are_saved_when_that_is_worth_it_and_each_once_a_notice_came(
    far: Line, herald: Herald, notice: bool, saved: list[str]
) -> None:
    line = replace(far, cadence=Cadence(3600))
    seen: list[list[str]] = []

    with watching(signals=(), sources=[herald]) as guard:

        def make(draft: Draft, checkpoints: Checkpoints) -> None:
            for number in (1, 2, 3):
                with checkpoints.put(f"chunk-{number}") as path:
                    path.write_text("chunk")
                seen.append(chunks_far_away(line, RECIPE))
                if notice and number == 1:
                    herald.say(MAYBE)
                guard.boundary(number, 3)

        produce(replace(line, guard=guard), RECIPE, make)
    assert seen[0] == []
    assert seen[2] == (["chunk-1", *saved] if saved else [])
    assert chunks_far_away(line, RECIPE) == [], "they are dropped when the artifact is published"
    assert not any(path.is_file() for path in (far.store.scratch / "checkpoints").rglob("*"))


def test_whoever_leaves_takes_every_finished_chunk_to_the_store(far: Line, herald: Herald, tmp_path: Path) -> None:
    line = replace(far, cadence=Cadence(3600))

    def make(draft: Draft, checkpoints: Checkpoints) -> None:
        for number in (1, 2, 3):
            with checkpoints.put(f"chunk-{number}") as path:
                path.write_text("chunk")
            if number == 2:
                herald.say()
            guard.boundary(number, 3)

    with pytest.raises(Preempted), watching(signals=(), sources=[herald]) as guard:
        produce(replace(line, guard=guard), RECIPE, make)
    assert chunks_far_away(line, RECIPE) == ["chunk-1", "chunk-2"]
    elsewhere = ArtifactStore(str(line.store.root), tmp_path / "another-machine")
    assert elsewhere.checkpoints(RECIPE.slot, RECIPE.key).get("chunk-2") is not None
