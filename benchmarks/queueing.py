"""What a request costs outside speech and rendering, and how long a sensor's tick takes before a large backlog.

    python -m benchmarks.queueing [--requests 1000] [--batch 100] [--backlog 100000]

Three loops take the same requests from a queue to done, in one run, in turns:

- `sql`: send -> queue -> ledger -> manifest -> done, on SQLite, as the product does it but for the clip itself;
- `sqs`: the same with Amazon SQS in the place of the queue, on moto's server over HTTP;
- `plain`: the loop that everybody writes: boto3 receives ten, does nothing, deletes ten, on the same server. It knows
  neither duplicates nor priorities nor fairness, and keeps no record.

Then the sensors' ticks, with `--backlog` messages queued and as many avatars known to ledger and Dagster.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.table import Table

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.definitions import build_defs, default_resources
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.queues.parse import dump
from avatar_pipeline.queues.sqs import create_queues
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.batches import make_manifest, read_manifest
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.line import Line, open_line

AVATARS = 5
TENANTS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backlog", type=int, default=100_000)
    arguments = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with moto_server() as endpoint:
        overhead(endpoint, arguments)
    if arguments.backlog:
        ticks(arguments.backlog)


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto's server, and point boto3's environment at nothing real."""
    from moto.server import ThreadedMotoServer

    os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "eu-west-1"}
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def overhead(endpoint: str, arguments: argparse.Namespace) -> None:
    """Take the same requests through the three loops, in turns, and print milliseconds a request."""
    taken: dict[str, list[float]] = {"sql": [], "sqs": [], "plain": []}
    loops: dict[str, Callable[[str, int, int, int], float]] = {
        "sql": lambda url, n, size, turn: ours("sql", url, n, size, turn),
        "sqs": lambda url, n, size, turn: ours("sqs", url, n, size, turn),
        "plain": plain,
    }
    for turn in range(arguments.rounds):
        for name, loop in loops.items():
            seconds = loop(endpoint, arguments.requests, arguments.batch, turn)
            taken[name].append(1000 * seconds / arguments.requests)
    table = Table("loop", "ms a request, median", "all rounds", "beside plain", title=f"{arguments.requests} requests")
    base = statistics.median(taken["plain"])
    for name, times in taken.items():
        middle = statistics.median(times)
        rounds = ", ".join(f"{value:.2f}" for value in times)
        table.add_row(name, f"{middle:.2f}", rounds, f"{middle / base:.2f}×")
    Console().print(table)


def ours(queue: str, endpoint: str, count: int, batch: int, turn: int) -> float:
    """Send requests and bring them to done in batches; return the seconds from the first batch to the last `done`."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {
            "AVATAR_HOME": home,
            "AVATAR_BATCH_SIZE": str(batch),
            "AVATAR_QUEUE": queue,
            "AVATAR_SQS_ENDPOINT": endpoint,
            "AVATAR_AVATAR_QUEUE": f"avatars-{turn}",
            "AVATAR_CLIP_QUEUE": f"clips-{turn}",
        }
        settings = read_settings()
        if queue == "sqs":
            create_queues(settings)
        with open_line(settings) as line:
            know_avatars(line, AVATARS)
            line.queues.clips.send([dump(request(number)) for number in range(count)])
            start = time.perf_counter()
            done = 0
            for number in range(-(-count // batch)):
                done += finish_batch(line, f"batch-{number}")
            seconds = time.perf_counter() - start
            if done != count or line.queues.clips.depth().total:
                raise SystemExit(f"{done} of {count} requests were done")
    return seconds


def finish_batch(line: Line, batch_id: str) -> int:
    """Do what a batch does, but for making clips: claim, manifest, begin and finish each."""
    make_manifest(line, batch_id)
    requests = read_manifest(line, batch_id)
    for request in requests:
        line.requests.begin(request.request_id, max_attempts=5)
        line.requests.finish(request.request_id, clip_key="0" * 64, uri="file:///clip.mp4")
    return len(requests)


def plain(endpoint: str, count: int, batch: int, turn: int) -> float:
    """Run the loop that everybody writes over the same requests, and return its seconds."""
    import boto3

    client = boto3.client("sqs", endpoint_url=endpoint)
    url = client.create_queue(QueueName=f"plain-{turn}")["QueueUrl"]
    bodies = [dump(request(number)) for number in range(count)]
    for first in range(0, count, 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[first : first + 10])]
        client.send_message_batch(QueueUrl=url, Entries=entries)
    start = time.perf_counter()
    done = 0
    while done < count:
        messages = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            ClipRequest.model_validate_json(message["Body"])
        entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
        client.delete_message_batch(QueueUrl=url, Entries=entries)
        done += len(messages)
    return time.perf_counter() - start


def request(number: int) -> ClipRequest:
    """Return one of many requests, over a few avatars and tenants."""
    return ClipRequest(
        request_id=f"clip-{number:07d}",
        avatar_id=f"avatar-{number % AVATARS}",
        tenant=f"tenant-{number % TENANTS}",
        text=f"This is clip number {number}, and it is as long as such texts are on average.",
        priority=number % 2,
    )


def know_avatars(line: Line, count: int) -> None:
    """Write avatars that are ready into the ledger."""
    from sqlalchemy import insert

    from avatar_pipeline.ledger.schema import AvatarRow

    now = datetime.now(UTC)
    consent = ConsentRecord(
        consent_id="c-1",
        subject="Ada",
        statement="I agree that an avatar is made of me.",
        statement_version="1",
        scope=frozenset({"likeness", "voice"}),
        given_at=now - timedelta(days=1),
    ).model_dump(mode="json")
    rows = [
        {
            "id": f"avatar-{number}",
            "state": "ready",
            "voice": "enrol:en",
            "greeting": "Hello.",
            "upload_key": "0" * 64,
            "source_name": "video.mp4",
            "consent": consent,
            "created_at": now,
            "updated_at": now,
        }
        for number in range(count)
    ]
    with line.ledger.engine.begin() as connection:
        for first in range(0, count, 1000):
            connection.execute(insert(AvatarRow), rows[first : first + 1000])


def ticks(backlog: int) -> None:
    """Fill queue, ledger and Dagster, evaluate the sensors, and print how long each tick took."""
    with tempfile.TemporaryDirectory() as home:
        for name in ("AVATAR_QUEUE", "AVATAR_SQS_ENDPOINT", "AVATAR_AVATAR_QUEUE", "AVATAR_CLIP_QUEUE"):
            os.environ.pop(name, None)
        os.environ["AVATAR_HOME"] = home
        Path(home, "dagster").mkdir()
        with open_line(read_settings()) as line, dg.DagsterInstance.local_temp(f"{home}/dagster") as instance:
            know_avatars(line, backlog)
            names = [f"avatar-{number}" for number in range(backlog)]
            for first in range(0, backlog, 10_000):
                instance.add_dynamic_partitions("avatars", names[first : first + 10_000])
                line.queues.clips.send([dump(request(n)) for n in range(first, min(first + 10_000, backlog))])
            title = f"seconds a tick, three times, {backlog:,} avatars known"
            table = Table("sensor", f"{backlog:,} clips in the queue", f"{backlog:,} clips in the ledger", title=title)
            defs = build_defs()
            sensors = ("clip_batch_sensor", "avatar_intake_sensor", "recovery_sensor")
            queued = {name: [tick(defs, name, instance) for _ in range(3)] for name in sensors}
            while drain(line, "clip").received:
                pass
            waiting = {name: [tick(defs, name, instance) for _ in range(3)] for name in sensors}
            for name in sensors:
                columns = (", ".join(f"{value:.3f}" for value in times[name]) for times in (queued, waiting))
                table.add_row(name, *columns)
            Console().print(table)


def tick(defs: dg.Definitions, name: str, instance: dg.DagsterInstance) -> float:
    """Evaluate a sensor once and return the seconds."""
    with dg.build_sensor_context(
        instance=instance, definitions=defs, sensor_name=name, resources=default_resources()
    ) as context:
        start = time.perf_counter()
        defs.resolve_sensor_def(name)(context)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
