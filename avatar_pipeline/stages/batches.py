"""Clip batches: a manifest written once, then the same clips however often the batch runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Self

from avatar_pipeline.errors import (
    AvatarError,
    DeadlinePassed,
    InvalidInput,
    NotFound,
    QualityTooLow,
    StoreCorrupt,
    WorkerLost,
)
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.records import RequestRecord
from avatar_pipeline.settings import InvalidSettings
from avatar_pipeline.stages.checks import clip_verdicts
from avatar_pipeline.stages.clips import CLIP_VERSION, SPEECH_VERSION, make_clip, make_speech
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Artifact, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

MANIFEST_VERSION = "2"


class RequestFailed(AvatarError):
    """A request that failed in an earlier attempt at its batch; it carries what went wrong then."""

    code = "failed_before"

    @classmethod
    def of(cls, told: dict[str, str]) -> Self:
        """Return it as the ledger tells it."""
        error = cls(told.get("message", "It failed before."), remedy=told.get("remedy", ""))
        error.code = told.get("code", cls.code)  # type: ignore[misc]  # the class's code is only the default
        return error


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch stage did: its index artifact, and item by item the result or the error."""

    index: StageResult
    done: dict[str, StageResult]
    failed: dict[str, AvatarError]

    @property
    def cost(self) -> Decimal:
        """What this attempt cost, all items together."""
        return sum((item.cost for item in self.done.values()), self.index.cost)

    @property
    def seconds(self) -> float:
        """What this attempt took, all items together."""
        return self.index.seconds + sum(item.seconds for item in self.done.values())

    @property
    def reused(self) -> int:
        """How many items were there already."""
        return sum(item.reused for item in self.done.values())


def make_manifest(line: Line, batch_id: str) -> StageResult:
    """Take in what waits in the queue, claim requests for the batch and write them down; then it is these for ever.

    A batch for which nothing is left is written down as an empty one.
    """
    slot = Slot.batch(batch_id, "clip_batch_manifest")
    if (existing := line.store.current(slot)) is not None:
        recipe = Recipe(slot, existing.code_version, existing.inputs, existing.params)
        return produce(line, recipe, _never)
    drained = drain(line, "clip", patient=line.requests.backlog().waiting < line.settings.batch_size)
    line.requests.expire(unknown_avatar=timedelta(seconds=line.settings.unknown_avatar_seconds))
    requests = line.requests.claim(batch_id, line.settings.batch_size)

    def make(draft: Draft, _: Checkpoints) -> None:
        text = json.dumps(entries, indent=1, ensure_ascii=False)
        (draft.folder / "manifest.json").write_text(text + "\n")
        draft.facts |= {
            "requests": len(requests),
            "avatars": len({request.avatar_id for request in requests}),
            "tenants": len({request.tenant for request in requests}),
        }

    entries = [request.model_dump(mode="json") for request in requests]
    result = produce(line, Recipe(slot, MANIFEST_VERSION, {}, {"requests": entries}), make)
    line.progress(f"manifest of {batch_id}: {drained.received} messages taken in", len(requests), len(requests))
    return result


def synthesize_batch(line: Line, batch_id: str) -> BatchResult:
    """Speak every request of the batch; an item that cannot be spoken fails alone."""

    def one(request: ClipRequest) -> StageResult:
        return make_speech(line, request.avatar_id, request.text, request.voice)

    return _each(line, batch_id, "synthesized_speech", SPEECH_VERSION, one)


def render_batch(line: Line, batch_id: str) -> BatchResult:
    """Render every request of the batch, finish it in the ledger, and list the clips."""

    def one(request: ClipRequest) -> StageResult | None:
        begun = line.requests.begin(request.request_id, max_attempts=line.settings.max_attempts)
        if not begun and line.requests.get(request.request_id).state != "done":
            return None
        result = make_clip(
            line, request.avatar_id, request.text, voice=request.voice, size=request.size, fps=request.fps
        )
        if bad := [verdict.description for verdict in clip_verdicts(result.facts) if not verdict.passed]:
            raise QualityTooLow(
                " ".join(bad),
                remedy="Look at the clip; ask for a larger size, or record footage with a clearer view of the lips.",
            )
        line.requests.finish(request.request_id, clip_key=result.artifact.key, uri=f"{result.artifact.uri}/clip.mp4")
        return result

    return _each(line, batch_id, "rendered_clips", CLIP_VERSION, one)


def give_up_batch(line: Line, batch_id: str, error: AvatarError) -> None:
    """Fail what a batch has not finished."""
    for record in line.requests.list(batch_id=batch_id, states=("queued", "claimed", "running")):
        line.requests.fail(record.request.request_id, error)


def read_manifest(line: Line, batch_id: str) -> list[ClipRequest]:
    """Return the requests of a batch in order.

    Raises:
        NotFound: the batch has no manifest yet.
    """
    return _parse(line.store.require_current(Slot.batch(batch_id, "clip_batch_manifest")))


def _each(
    line: Line, batch_id: str, asset: str, version: str, one: Callable[[ClipRequest], StageResult | None]
) -> BatchResult:
    """Do something for every request of a batch that is neither failed nor held; `one` returns None for another such.

    Those that were begun least often come first: what kills its worker costs its company one death, not all.
    """
    manifest = line.store.require_current(Slot.batch(batch_id, "clip_batch_manifest"))
    requests = _parse(manifest)
    done: dict[str, StageResult] = {}
    failed: dict[str, AvatarError] = {}
    known = {record.request.request_id: record for record in line.requests.list(batch_id=batch_id)}
    broken: list[AvatarError] = []
    for number, request in enumerate(sorted(requests, key=lambda request: _attempts(known, request))):
        line.progress(asset, number, len(requests))
        record = known.get(request.request_id)
        if record is not None and record.state == "failed":
            failed[request.request_id] = RequestFailed.of(record.error or {})
            continue
        if record is not None and record.state == "held":
            # When it is released, the batch is run again.
            continue
        try:
            result = one(request)
        except (InvalidInput, QualityTooLow, WorkerLost, DeadlinePassed, StoreCorrupt) as error:
            if _may_get_better(line, request, error):
                broken.append(error)
                continue
            failed[request.request_id] = error
            line.requests.fail(request.request_id, error)
        else:
            if result is not None:
                done[request.request_id] = result
    if broken:
        # After the others, which have nothing to do with it; the batch is to be run again.
        raise broken[0]
    line.progress(asset, len(requests), len(requests))
    keys = {request_id: result.artifact.key for request_id, result in done.items()}

    def make(draft: Draft, _: Checkpoints) -> None:
        index = {"done": keys, "failed": {name: error.as_dict() for name, error in failed.items()}}
        (draft.folder / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
        draft.facts |= {"done": len(done), "failed": len(failed)}

    recipe = Recipe(Slot.batch(batch_id, asset), version, {"manifest": manifest.key} | keys, {"failed": sorted(failed)})
    return BatchResult(produce(line, recipe, make), done, failed)


def _attempts(known: Mapping[str, RequestRecord], request: ClipRequest) -> int:
    record = known.get(request.request_id)
    return record.attempts if record else 0


def _may_get_better(line: Line, request: ClipRequest, error: AvatarError) -> bool:
    """Say whether the machine is at fault, not the request: a setting, or a store that has not what it should have."""
    if isinstance(error, NotFound):
        return line.ledger.has_avatar(request.avatar_id)
    return isinstance(error, InvalidSettings | StoreCorrupt)


def _never(_draft: Draft, _checkpoints: Checkpoints) -> None:
    raise StoreCorrupt("A manifest vanished while it was read.", remedy="Start a new batch.")


def _parse(manifest: Artifact) -> list[ClipRequest]:
    try:
        return [ClipRequest.model_validate(entry) for entry in manifest.params["requests"]]  # type: ignore[union-attr]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorrupt(f"{manifest.uri} holds no requests.", remedy="Start a new batch.") from error
