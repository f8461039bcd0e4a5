"""The producer: a process that sends the planned messages, one group for every line that it is given.

    python -m tests.chaos.producer plan.json

It answers each line with one line of JSON: the ids that the queue gave to the group's messages, in order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.line import Line, open_line
from tests.chaos.plan import Delivery, read_groups


def main(path: Path) -> int:
    """Send group after group, each when it is asked for."""
    with open_line(read_settings()) as line:
        for group in read_groups(path.read_text()):
            if not sys.stdin.readline():
                return 1
            sys.stdout.write(json.dumps(send(line, group)) + "\n")
            sys.stdout.flush()
    return 0


def send(line: Line, group: Sequence[Delivery]) -> list[str]:
    """Send the messages one by one, as they would come from different users; return their ids."""
    queues = {"clip": line.queues.clips, "avatar": line.queues.avatars}
    return [message_id for delivery in group for message_id in queues[delivery.queue].send([delivery.body])]


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
