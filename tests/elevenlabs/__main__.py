"""Run the stand-in: `python -m tests.elevenlabs --port 0 --rules '{"speech": "beeps"}'`.

The first line on stdout is JSON: `{"url", "api_key"}`. It serves until it is terminated.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Sequence

from tests.elevenlabs.server import StandIn


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.elevenlabs", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--rules", type=json.loads, default={}, help="JSON object of what rules.py describes")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with StandIn(options.port, **options.rules) as standin:
        print(json.dumps({"url": standin.url, "api_key": standin.api_key}), flush=True)  # noqa: T201
        stop.wait()


if __name__ == "__main__":
    main()
