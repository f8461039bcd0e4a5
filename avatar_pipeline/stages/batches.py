"""Clip batches: a manifest written once, then the same clips however often the batch runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from avatar_pipeline.errors import AvatarError, InvalidInput, QualityTooLow, StoreCorrupt
from avatar_pipeline.ledger.records import ClipRequest
from avatar_pipeline.stages.checks import clip_verdicts
from avatar_pipeline.stages.clips import CLIP_VERSION, SPEECH_VERSION, make_clip, make_speech
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Artifact, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

MANIFEST_VERSION = "1"


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
    """Claim requests for the batch and write them down; once written, the batch is these clips for ever.

    Raises:
        InvalidInput: nothing is queued, so there is no batch to make.
    """
    slot = Slot.batch(batch_id, "clip_batch_manifest")
    existing = line.store.current(slot)
    requests = _parse(existing) if existing else line.ledger.claim(batch_id, line.settings.batch_size)
    if not requests:
        raise InvalidInput(
            f"Batch {batch_id} has nothing to do: no clip request is queued.",
            remedy='Queue one first: avatar say ID "text".',
        )

    def make(draft: Draft, _: Checkpoints) -> None:
        text = json.dumps([request.model_dump() for request in requests], indent=1, ensure_ascii=False)
        (draft.folder / "manifest.json").write_text(text + "\n")
        draft.facts["requests"] = len(requests)

    params: dict[str, Any] = {"requests": [request.model_dump() for request in requests]}
    return produce(line, Recipe(slot, MANIFEST_VERSION, {}, params), make)


def synthesize_batch(line: Line, batch_id: str) -> BatchResult:
    """Speak every request of the batch; an item that cannot be spoken fails alone."""

    def one(request: ClipRequest) -> StageResult:
        return make_speech(line, request.avatar_id, request.text)

    return _each(line, batch_id, "synthesized_speech", SPEECH_VERSION, one)


def render_batch(line: Line, batch_id: str) -> BatchResult:
    """Render every request of the batch, finish it in the ledger, and list the clips."""

    def one(request: ClipRequest) -> StageResult:
        line.ledger.mark_request(request.request_id, "running")
        result = make_clip(line, request.avatar_id, request.text)
        if bad := [verdict.description for verdict in clip_verdicts(result.facts) if not verdict.passed]:
            raise QualityTooLow(
                " ".join(bad), remedy="Look at the clip; record footage with a clearer view of the lips."
            )
        line.ledger.mark_request(request.request_id, "done", clip_key=result.artifact.key)
        return result

    return _each(line, batch_id, "rendered_clips", CLIP_VERSION, one)


def read_manifest(line: Line, batch_id: str) -> list[ClipRequest]:
    """Return the requests of a batch in order.

    Raises:
        NotFound: the batch has no manifest yet.
    """
    return _parse(line.store.require_current(Slot.batch(batch_id, "clip_batch_manifest")))


def _each(
    line: Line, batch_id: str, asset: str, version: str, one: Callable[[ClipRequest], StageResult]
) -> BatchResult:
    manifest = line.store.require_current(Slot.batch(batch_id, "clip_batch_manifest"))
    requests = _parse(manifest)
    done: dict[str, StageResult] = {}
    failed: dict[str, AvatarError] = {}
    for number, request in enumerate(requests):
        line.progress(asset, number, len(requests))
        try:
            done[request.request_id] = one(request)
        except (InvalidInput, QualityTooLow) as error:
            # The item is at fault and will be again; anything else is the machine's and stops the batch to be retried.
            failed[request.request_id] = error
            line.ledger.mark_request(request.request_id, "failed", error=error)
    line.progress(asset, len(requests), len(requests))
    keys = {request_id: result.artifact.key for request_id, result in done.items()}

    def make(draft: Draft, _: Checkpoints) -> None:
        index = {"done": keys, "failed": {name: error.as_dict() for name, error in failed.items()}}
        (draft.folder / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
        draft.facts |= {"done": len(done), "failed": len(failed)}

    recipe = Recipe(Slot.batch(batch_id, asset), version, {"manifest": manifest.key} | keys, {"failed": sorted(failed)})
    return BatchResult(produce(line, recipe, make), done, failed)


def _parse(manifest: Artifact) -> list[ClipRequest]:
    try:
        return [ClipRequest.model_validate(entry) for entry in manifest.params["requests"]]  # type: ignore[union-attr]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorrupt(f"{manifest.uri} holds no requests.", remedy="Start a new batch.") from error
