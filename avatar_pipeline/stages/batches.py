"""Clip batches: a manifest written once, then the same clips however often the batch runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Self

from avatar_pipeline.errors import (
    AvatarError,
    BudgetHold,
    DeadlinePassed,
    InvalidInput,
    NotFound,
    ProviderBusy,
    ProviderDenied,
    QualityTooLow,
    StoreCorrupt,
    WorkerLost,
)
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.purse import hold_of
from avatar_pipeline.ledger.records import RequestRecord
from avatar_pipeline.settings import InvalidSettings
from avatar_pipeline.spot.guard import Guard, Preempted
from avatar_pipeline.stages.checks import clip_verdicts
from avatar_pipeline.stages.clips import CLIP_VERSION, make_clip
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.stages.paying import batch_shares
from avatar_pipeline.stages.speech import SPEECH_VERSION, OpenProvider
from avatar_pipeline.stages.speech_batch import Outcome, speak_batch
from avatar_pipeline.stages.voice import provider_named
from avatar_pipeline.stages.waiting import WAITING, put_off
from avatar_pipeline.store.artifacts import Artifact, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

MANIFEST_VERSION = "2"

FINAL = (InvalidInput, QualityTooLow, WorkerLost, DeadlinePassed, StoreCorrupt, ProviderBusy, ProviderDenied)
"""What fails a request, if it can neither be waited out nor get better."""


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
    """What a batch stage did: its index artifact, and item by item the result or the error.

    `held` are those that wait now, with the reason; they go on by themselves, in another run of the batch.
    """

    index: StageResult
    done: dict[str, StageResult]
    failed: dict[str, AvatarError]
    held: dict[str, AvatarError] = field(default_factory=dict)

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


def synthesize_batch(line: Line, batch_id: str, *, opener: OpenProvider = provider_named) -> BatchResult:
    """Speak every request of the batch; an item that cannot be spoken fails alone, or waits alone.

    Raises:
        Preempted: the machine is taken away; what was spoken is kept.
    """

    def all_of(requests: Sequence[ClipRequest]) -> Generator[tuple[ClipRequest, Outcome | None], None, None]:
        return speak_batch(line, requests, opener=opener)

    return _each(line, batch_id, "synthesized_speech", SPEECH_VERSION, all_of)


def render_batch(line: Line, batch_id: str) -> BatchResult:
    """Render every request of the batch, finish it in the ledger, and list the clips.

    Raises:
        Preempted: the machine is taken away; finished clips are kept, and finished segments of the one in hand.
    """

    def one(request: ClipRequest, guard: Guard) -> StageResult | None:
        begun = line.requests.begin(request.request_id, max_attempts=line.settings.max_attempts)
        if not begun and line.requests.get(request.request_id).state != "done":
            return None
        result = make_clip(
            replace(line, guard=guard),
            request.avatar_id,
            request.text,
            voice=request.voice,
            size=request.size,
            fps=request.fps,
        )
        if bad := [verdict.description for verdict in clip_verdicts(result.facts) if not verdict.passed]:
            raise QualityTooLow(
                " ".join(bad),
                remedy="Look at the clip; ask for a larger size, or record footage with a clearer view of the lips.",
            )
        uri = f"{result.artifact.uri}/clip.mp4"
        # What was found in the store teaches nothing about what a clip takes.
        line.requests.finish(request.request_id, clip_key=result.artifact.key, uri=uri, learn=not result.reused)
        return result

    def all_of(requests: Sequence[ClipRequest]) -> Generator[tuple[ClipRequest, Outcome | None], None, None]:
        done, total = 0, _characters(requests)
        for request in requests:
            try:
                with _paid_by(line, request):
                    made = one(request, line.guard.part(done, len(request.text), total))
                yield request, made
            except (*WAITING, *FINAL) as error:
                yield request, error
            except Preempted:
                _lay_down(line, request)
                raise
            done += len(request.text)

    return _each(line, batch_id, "rendered_clips", CLIP_VERSION, all_of)


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


Work = Callable[[Sequence[ClipRequest]], Generator[tuple[ClipRequest, Outcome | None], None, None]]
"""Does something for requests; each comes out once, in any order, None where another has done it."""


def _each(line: Line, batch_id: str, asset: str, version: str, work: Work) -> BatchResult:
    """Do something for every request of a batch that is neither failed nor held, and note what became of each.

    Those that are done already come first, so that progress tells what is left; then those that were begun least
    often: what kills its worker costs its company one death, not all. A clip's share of the work is its text's length.
    """
    manifest = line.store.require_current(Slot.batch(batch_id, "clip_batch_manifest"))
    requests = _parse(manifest)
    wanted, failed, held = _sorted_out(line, batch_id, requests)
    done: dict[str, StageResult] = {}
    broken: list[AvatarError] = []
    line.progress(asset, len(requests) - len(wanted), len(requests))
    worked, work_in_all = 0, _characters(wanted)
    line.meter.of_all(batch_shares(line, batch_id))
    # Closed at once if this is called off: what waits in it would be sent, and paid for, by threads that nobody hears.
    with closing(work(wanted)) as outcomes:
        for number, (request, outcome) in enumerate(outcomes, start=len(requests) - len(wanted) + 1):
            if isinstance(outcome, StageResult):
                done[request.request_id] = outcome
            elif outcome is not None and put_off(line, request.request_id, outcome):
                held[request.request_id] = outcome
            elif isinstance(outcome, FINAL) and not _may_get_better(line, request, outcome):
                failed[request.request_id] = outcome
                line.requests.fail(request.request_id, outcome)
            elif outcome is not None:
                broken.append(outcome)
            line.progress(asset, number, len(requests))
            worked += len(request.text)
            # Between two of them, who is out of money is held, and the others go on.
            with suppress(BudgetHold):
                line.guard.boundary(worked, work_in_all)
            if not _paid_on(line, batch_id, wanted, held):
                break
    if broken:
        # After the others, which have nothing to do with it; the batch is to be run again.
        raise broken[0]
    keys = {request_id: result.artifact.key for request_id, result in done.items()}

    def make(draft: Draft, _: Checkpoints) -> None:
        index = {"done": keys, "failed": {name: error.as_dict() for name, error in failed.items()}}
        (draft.folder / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
        draft.facts |= {"done": len(done), "failed": len(failed)}

    recipe = Recipe(Slot.batch(batch_id, asset), version, {"manifest": manifest.key} | keys, {"failed": sorted(failed)})
    return BatchResult(produce(line, recipe, make), done, failed, held)


@contextmanager
def _paid_by(line: Line, request: ClipRequest) -> Iterator[None]:
    """Have a request pay for what is done in this block, all of them for what comes after it."""
    line.meter.pays(dict.fromkeys(line.requests.reservations([request.request_id]).values(), 1))
    try:
        yield
    finally:
        line.meter.pays({})


def _sorted_out(
    line: Line, batch_id: str, requests: Sequence[ClipRequest]
) -> tuple[list[ClipRequest], dict[str, AvatarError], dict[str, AvatarError]]:
    """Return the requests to be worked on, in order, all of them paid for; those that failed; those held just now."""
    known = {record.request.request_id: record for record in line.requests.list(batch_id=batch_id)}
    wanted: list[ClipRequest] = []
    failed: dict[str, AvatarError] = {}
    held: dict[str, AvatarError] = {}
    for request in sorted(requests, key=lambda request: _standing(known, request)):
        record = known.get(request.request_id)
        if record is None or record.state == "done":
            wanted.append(request)
        elif record.state == "failed":
            failed[request.request_id] = RequestFailed.of(record.error or {})
        elif record.state != "held":
            secured = line.requests.secure(request.request_id)
            if secured.may_begin:
                wanted.append(request)
            elif secured.refused is not None:
                held[request.request_id] = hold_of(secured.refused)
    return wanted, failed, held


def _paid_on(line: Line, batch_id: str, wanted: Sequence[ClipRequest], held: dict[str, AvatarError]) -> bool:
    """Hold the requests that used up what was put aside for them and get no more; false if nobody is left who pays."""
    exhausted = line.meter.exhausted()
    if not exhausted:
        return True
    keys = line.requests.reservations([request.request_id for request in wanted])
    for name, key in keys.items():
        if key in exhausted and put_off(line, name, exhausted[key]):
            held[name] = exhausted[key]
    paying = batch_shares(line, batch_id)
    line.meter.of_all(paying)
    return bool(paying)


def _standing(known: Mapping[str, RequestRecord], request: ClipRequest) -> tuple[bool, int]:
    record = known.get(request.request_id)
    return (record.state != "done", record.attempts) if record else (True, 0)


def _characters(requests: Sequence[ClipRequest]) -> int:
    return sum(len(request.text) for request in requests)


def _lay_down(line: Line, request: ClipRequest) -> None:
    """Put a request back into its batch, whose attempt was cut short by no fault of its own: it is not counted.

    Held until now rather than for good: should we be killed between the two, it is released all the same.
    """
    note = "the machine is taken away"
    if line.requests.hold(request.request_id, note, line.clock(), keep_reservation=True):
        line.requests.release(request.request_id)


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
