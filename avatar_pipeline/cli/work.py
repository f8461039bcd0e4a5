"""What the commands do: create an avatar, make it speak, describe it, remove it. No printing here."""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import (
    AvatarError,
    BudgetHold,
    Conflict,
    InvalidInput,
    NotFound,
    QualityTooLow,
    exit_code_of,
)
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.records import AvatarRecord
from avatar_pipeline.stages.intake import batches_of, register_avatar, remove_avatar
from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import Artifact, Slot
from avatar_pipeline.store.atomic import atomic_file

ASSETS = ("source_video", "landmarks", "isolated_voice", "mesh", "plate", "voice_model", "greeting_clip")


@dataclass(frozen=True, slots=True)
class Made:
    """One row of the table of what there is: an artifact, and what its last attempt took and cost."""

    name: str
    path: str
    size_bytes: int
    seconds: float
    cost: Decimal
    reused: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the row for `--json`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"cost": str(self.cost)}


def create(
    line: Line,
    avatar_id: str,
    video: Path,
    consent: ConsentRecord,
    *,
    voice: str,
    greeting: str,
    recording: Path | None = None,
) -> AvatarRecord:
    """Take in an upload and build the avatar, through the Dagster job, in this process.

    An upload that turns out to be of no use leaves nothing behind; work that was interrupted is resumed by the next
    call with the same upload.
    """
    known = _exists(line, avatar_id)
    register_avatar(line, avatar_id, video, consent, voice=voice, greeting=greeting, recording=recording)
    build(line, avatar_id, forget_if_useless=not known)
    return line.ledger.avatar(avatar_id)


def build(line: Line, avatar_id: str, *, forget_if_useless: bool) -> None:
    """Run the avatar's job; on failure record why, or forget an avatar that was new and whose input is at fault."""
    from avatar_pipeline.launch import BUILD_AVATAR, CHECK_FAILED, RunFailed, run_job

    try:
        run_job(line.settings, BUILD_AVATAR, avatar_id)
    except RunFailed as error:
        if forget_if_useless and error.exit_code == 2:
            with suppress(NotFound):
                # Another process may have removed it for the same reason; the reason is what matters.
                remove(line, avatar_id)
            raise
        problem: AvatarError = error
        if error.code == BudgetHold.code:
            # Nothing is wrong with the avatar: called again when there is room, it goes on where it was.
            raise
        if error.code == CHECK_FAILED and (advice := capture_advice(line, avatar_id)):
            problem = QualityTooLow(error.message, remedy=f"Record again. {' '.join(advice)}")
        line.ledger.set_avatar_state(avatar_id, "failed", problem)
        raise problem from error


def say(line: Line, avatar_id: str, text: str, *, out: Path | None) -> tuple[Artifact, Path]:
    """Queue one clip request as a batch of its own, run it, and return the clip and where it is.

    Raises:
        Conflict: the avatar is not ready.
    """
    if out is not None and (out.suffix.lower() != ".mp4" or out.is_dir()):
        raise InvalidInput(f"--out {out} is no name for a clip.", remedy="Give a file name that ends in .mp4.")
    avatar = line.ledger.avatar(avatar_id)
    if avatar.state != "ready":
        if avatar.error:
            raise Conflict(f"Avatar {avatar_id} failed: {avatar.error['message']}", remedy=avatar.error["remedy"])
        raise Conflict(
            f"Avatar {avatar_id} is not ready.", remedy="Finish it first: run avatar create again with the same video."
        )
    from avatar_pipeline.launch import SAY

    stamp = f"{line.clock():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    request = ClipRequest(request_id=f"{SAY}{stamp}", avatar_id=avatar_id, text=text)
    try:
        (clip,) = run_batch(line, f"batch-{stamp}", [request])
    except AvatarError as error:
        # Nobody waits for it any more, so no sensor is to run it again. Killed before this, it is run again by one.
        with suppress(NotFound):
            line.requests.fail(request.request_id, error)
        raise
    path = line.store.local(clip, "clip.mp4")
    if out is not None:
        export(line, clip, "clip.mp4", out)
        path = out
    return clip, path


def run_batch(line: Line, batch_id: str, requests: list[ClipRequest]) -> list[Artifact]:
    """Queue requests for one batch, run its job, and return the clips in order.

    Raises:
        RunFailed: the run failed, or one of the clips did; it carries what went wrong with the first of these.
    """
    from avatar_pipeline.launch import MAKE_CLIP_BATCH, RunFailed, run_job

    line.requests.submit(requests, batch_id=batch_id)
    problem: RunFailed | None = None
    try:
        run_job(line.settings, MAKE_CLIP_BATCH, batch_id)
    except RunFailed as error:
        problem = error
    records = line.requests.list(batch_id=batch_id)
    for record in records:
        # What went wrong with a clip says more than how the run ended; a run may end well all the same.
        if record.state == "failed" and record.error:
            told = record.error
            raise RunFailed(**told, exit_code=exit_code_of(told["code"])) from problem
        if record.state == "held" and record.held_by is not None:
            why = line.requests.history(record.request.request_id)[-1].note.partition(": ")[2]
            raise BudgetHold(
                why, remedy="Raise the limit (avatar budget set, or override), and call again."
            ) from problem
    if problem is not None:
        raise problem
    clips = []
    for record in records:
        slot = Slot.avatar(record.request.avatar_id, "clips")
        clip = line.store.find(slot, record.clip_key) if record.clip_key else None
        if clip is None:
            raise NotFound(
                f"Clip {record.request.request_id} is {record.state} and not in the store.",
                remedy="Run the command again.",
            )
        clips.append(clip)
    return clips


def remove(line: Line, avatar_id: str) -> None:
    """Remove an avatar: voice, artifacts, rows, and the partitions of it and of the batches that were its alone."""
    from avatar_pipeline.launch import BUILD_AVATAR, MAKE_CLIP_BATCH, forget_partitions

    line.ledger.avatar(avatar_id)
    # What only Dagster knows goes first, for the ledger's row is what an interrupted removal is found again by.
    forget_partitions(line.settings, BUILD_AVATAR, [avatar_id])
    forget_partitions(line.settings, MAKE_CLIP_BATCH, batches_of(line, avatar_id))
    remove_avatar(line, avatar_id)


def inventory(line: Line, avatar_id: str) -> list[Made]:
    """Return what there is of an avatar, in the order of the pipeline, clips last; each with what making it took."""
    timings = line.ledger.timings("avatars", avatar_id)
    last = {(timing.asset, timing.key): timing for timing in timings}
    making = last | {(timing.asset, timing.key): timing for timing in timings if not timing.reused}
    made = []
    found = [line.store.current(Slot.avatar(avatar_id, asset)) for asset in ASSETS]
    clips = dict.fromkeys(
        record.clip_key for record in line.requests.list(kind="clip", avatar_id=avatar_id) if record.clip_key
    )
    found += [line.store.find(Slot.avatar(avatar_id, "clips"), key) for key in clips]
    for artifact in found:
        if artifact is None:
            continue
        place = (artifact.slot.asset, artifact.key)
        timing = making.get(place)
        made.append(
            Made(
                name=artifact.slot.asset,
                path=artifact.uri,
                size_bytes=artifact.size_bytes,
                seconds=timing.seconds if timing else 0.0,
                cost=timing.cost if timing else Decimal(0),
                reused=place in last and last[place].reused,
            )
        )
    return made


def capture_advice(line: Line, avatar_id: str) -> list[str]:
    """Return what would make the next recording better, one sentence each."""
    landmarks = line.store.current(Slot.avatar(avatar_id, "landmarks"))
    return [] if landmarks is None else list(landmarks.facts["advice"])


def export(line: Line, artifact: Artifact, name: str, target: Path) -> Path:
    """Copy one file of an artifact to `target`, which is whole or not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as temporary:
        shutil.copyfile(line.store.local(artifact, name), temporary)
    return target


def _exists(line: Line, avatar_id: str) -> bool:
    from avatar_pipeline.ids import require_slug

    require_slug(avatar_id, "avatar id")
    try:
        line.ledger.avatar(avatar_id)
    except NotFound:
        return False
    return True
