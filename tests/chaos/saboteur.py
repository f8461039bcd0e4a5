"""The saboteur: a consumer that receives messages and does not delete them, until its standard input closes.

    python -m tests.chaos.saboteur SEED

It plays consumers that die at the worst moments: before the ledger has the request, after it has it and before the
message is deleted, with the visibility timeout left to run out or with the message given back. At the end it prints
what it did as JSON.
"""

from __future__ import annotations

import json
import random
import select
import sys
from collections import Counter
from datetime import timedelta

from avatar_pipeline.errors import AvatarError
from avatar_pipeline.ledger.records import RequestKind
from avatar_pipeline.ledger.requests import Arrival
from avatar_pipeline.queues.parse import parse
from avatar_pipeline.queues.types import Message, WorkQueue
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.line import Line, open_line

PATIENCE = 10
REST_SECONDS = 5.0
"""After a message that was received so often already it rests: only poison is to end as a dead letter."""


def main(seed: int) -> int:
    """Disturb the queues at random moments."""
    chance = random.Random(seed)
    did: Counter[str] = Counter()
    with open_line(read_settings()) as line:
        pause = 0.0
        while not select.select([sys.stdin], [], [], pause)[0]:
            pause = chance.uniform(0.1, 0.6)
            kind: RequestKind = chance.choice(["clip", "clip", "clip", "avatar"])
            queue = line.queues.clips if kind == "clip" else line.queues.avatars
            visibility = timedelta(seconds=chance.uniform(1.0, 3.0))
            messages = queue.receive(chance.randint(1, 6), visibility=visibility)
            if messages and max(message.receive_count for message in messages) > PATIENCE:
                queue.extend(messages, timedelta(0))
                pause = REST_SECONDS
            elif messages:
                disturb(line, kind, queue, messages, chance, did)
    sys.stdout.write(json.dumps(did) + "\n")
    return 0


def disturb(
    line: Line, kind: RequestKind, queue: WorkQueue, messages: list[Message], chance: random.Random, did: Counter[str]
) -> None:
    """Do one of the things that a dying consumer leaves behind."""
    did["received"] += len(messages)
    did["most_receives"] = max(did["most_receives"], *(message.receive_count for message in messages))
    what = chance.choice(["left_to_time_out", "given_back", "taken_in_and_not_deleted"])
    if what == "taken_in_and_not_deleted":
        for message in messages:
            take_in(line, kind, message)
    if what != "left_to_time_out":
        queue.extend(messages, timedelta(0))
    did[what] += len(messages)


def take_in(line: Line, kind: RequestKind, message: Message) -> None:
    """Write the request into the ledger as the line does; of poison there is nothing to write."""
    try:
        request = parse(message.body, kind)
    except AvatarError:
        return
    line.requests.take_in([Arrival(request, message.sent_at)])


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
