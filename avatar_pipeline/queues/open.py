"""Open the two queues that the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sqlalchemy import Engine

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.queues.types import WorkQueue
from avatar_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Queues:
    """Where requests for avatars and for clips arrive."""

    avatars: WorkQueue
    clips: WorkQueue


def open_queues(settings: Settings, engine: Engine, clock: Clock = utc_now) -> Queues:
    """Return the queues; `engine` is the ledger's. Nothing is connected to before it is used."""
    names = settings.avatar_queue, settings.clip_queue
    if settings.queue == "sql":
        from avatar_pipeline.queues.sql import SqlQueue

        return Queues(*(SqlQueue(engine, name, max_receives=settings.max_receives, clock=clock) for name in names))

    from avatar_pipeline.queues.sqs import SqsQueue, sqs_client

    @cache
    def connect() -> object:
        return sqs_client(settings.sqs_endpoint)

    return Queues(
        *(SqsQueue(connect, name, engine=engine, max_receives=settings.max_receives, clock=clock) for name in names)
    )
