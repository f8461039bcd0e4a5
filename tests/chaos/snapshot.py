"""What is there at the end: read from the ledger, the queues, the store and Dagster, the clips decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import dagster as dg
from sqlalchemy import select

from avatar_pipeline.errors import StoreCorrupt
from avatar_pipeline.ledger.records import RequestRecord
from avatar_pipeline.ledger.schema import ArtifactRow, MessageRow, TimingRow
from avatar_pipeline.queues.types import WorkQueue
from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import Artifact, Slot
from tests.chaos.plan import Queue
from tests.chaos.verdict import ClipSeen, DeadLetter, RequestSeen, Snapshot


def take_snapshot(line: Line, instance: dg.DagsterInstance) -> Snapshot:
    """Look at everything that the verdict is about."""
    queues: dict[Queue, WorkQueue] = {"clip": line.queues.clips, "avatar": line.queues.avatars}
    avatars = line.ledger.avatars()
    return Snapshot(
        requests={record.request.request_id: _request(line, record) for record in line.requests.list()},
        clips=tuple(clip for avatar in avatars for clip in _clips(line, avatar.id)),
        dead={name: tuple(_dead(line, queue)) for name, queue in queues.items()},
        left={name: queue.depth().total for name, queue in queues.items()},
        runs=Counter(run.status.value for run in instance.get_runs()),
        strays=tuple(_strays(line)),
        avatars={avatar.id: avatar.state for avatar in avatars},
    )


def _request(line: Line, record: RequestRecord) -> RequestSeen:
    events = tuple(event.state for event in line.requests.history(record.request.request_id))
    return RequestSeen(record.state, record.clip_key, events, (record.error or {}).get("message"))


def _clips(line: Line, avatar_id: str) -> Iterator[ClipSeen]:
    with line.ledger.engine.begin() as connection:
        made = Counter(
            connection.execute(
                select(TimingRow.key).where(
                    TimingRow.owner == avatar_id, TimingRow.asset == "clips", TimingRow.reused.is_(False)
                )
            ).scalars()
        )
        published = select(ArtifactRow.key).where(ArtifactRow.owner == avatar_id, ArtifactRow.asset == "clips")
        recorded = set(connection.execute(published).scalars())
    slot = Slot.avatar(avatar_id, "clips")
    folder = Path(str(line.store.root)).joinpath(*slot.parts)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not path.is_dir():
            continue
        artifact = line.store.find(slot, path.name)
        if artifact is None:
            yield ClipSeen(avatar_id, path.name, None, "not a whole artifact", 0.0, 0.0, 0, False)
        else:
            yield _clip(line, artifact, made[path.name], path.name in recorded)


def _clip(line: Line, clip: Artifact, made: int, recorded: bool) -> ClipSeen:
    speech = line.store.find(Slot.avatar(clip.slot.owner, "speech"), clip.inputs["speech"])
    text = None if speech is None else str(speech.params["text"])
    spoken = 0.0 if speech is None else float(speech.facts["seconds"])
    problem, seconds = None, 0.0
    try:
        line.store.verify(clip)
        seconds = decoded_seconds(line.store.local(clip, "clip.mp4"))
    except (StoreCorrupt, av.FFmpegError) as error:
        problem = str(error)
    return ClipSeen(clip.slot.owner, clip.key, text, problem, seconds, spoken, made, recorded)


def decoded_seconds(path: Path) -> float:
    """Decode every frame of a clip's picture and return how long they last."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert stream.average_rate is not None
        return frames / float(stream.average_rate)


def _dead(line: Line, queue: WorkQueue) -> Iterator[DeadLetter]:
    assert queue.dead is not None
    letter = select(MessageRow.message_id, MessageRow.reason, MessageRow.receive_count)
    with line.ledger.engine.begin() as connection:
        for row in connection.execute(letter.where(MessageRow.queue == queue.dead.name)):
            yield DeadLetter(row.message_id, row.reason, row.receive_count)


def _strays(line: Line) -> Iterator[str]:
    """Find drafts where finished artifacts are: they belong under `.tmp`, where no reader looks."""
    root = Path(str(line.store.root))
    for path in (root / "avatars").rglob("*.tmp*"):
        if not path.name.startswith("."):
            yield str(path.relative_to(root))
