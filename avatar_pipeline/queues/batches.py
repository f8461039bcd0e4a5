"""Batches as Amazon SQS takes them: ten at most, each entry done or refused by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from avatar_pipeline.queues.limits import LARGEST_BODY
from avatar_pipeline.queues.types import QueueUnavailable

BATCH = 10
TRIES = 4
Entry = Mapping[str, Any]

STALE = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"})
"""How SQS says that a receipt is no longer good:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html"""


def batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Divide into batches of at most ten entries and, together, 256 KiB (1 MiB since 2025; not every region's twin)."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        # Attributes are at most some KiB; their Python form is longer than what SQS counts.
        weight = len(str(entry.get("MessageBody", "")).encode()) + len(str(entry.get("MessageAttributes", "")).encode())
        if batch and (len(batch) == BATCH or size + weight > LARGEST_BODY):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += weight
    if batch:
        yield batch


def complete(
    queue: str,
    call: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
    batch: Sequence[Entry],
    *,
    sleep: Callable[[float], None],
    passed_over: frozenset[str] = frozenset(),
) -> dict[int, Mapping[str, Any]]:
    """Do one batch, trying again what SQS refused; return what it said of those that it did, by their place.

    What is refused with one of the codes `passed_over` is left out without more ado.

    Raises:
        QueueUnavailable: some were still refused after four tries, 0.2, 0.4 and 0.8 s apart.
    """
    waiting = dict(enumerate(batch))
    done: dict[int, Mapping[str, Any]] = {}
    refused: dict[int, str] = {}
    for attempt in range(TRIES):
        if attempt:
            sleep(0.1 * 2**attempt)
        reply = call([{"Id": str(place), **entry} for place, entry in waiting.items()])
        done |= {int(result["Id"]): result for result in reply.get("Successful", [])}
        # A code may come with the name of its service before it.
        failed = {int(result["Id"]): str(result["Code"]).rpartition(".")[2] for result in reply.get("Failed", [])}
        refused = {place: code for place, code in failed.items() if code not in passed_over}
        waiting = {place: waiting[place] for place in refused}
        if not waiting:
            return done
    raise QueueUnavailable(
        f"Queue {queue} refused {len(refused)} of {len(batch)} messages {TRIES} times ({min(refused.values())}).",
        remedy="Try again; what was sent already may be sent again.",
    )
