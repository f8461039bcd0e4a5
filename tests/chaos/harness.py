"""The crash test itself: a home of its own, the line at work in it, a producer, a saboteur, a killer, and the end."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import yaml
from pydantic import SecretStr

from avatar_pipeline.errors import NotFound
from avatar_pipeline.settings import Settings, read_settings
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.stages.uploads import keep_upload
from tests.chaos.plan import ASKED_FOR, Plan, Queue, make_plan, write_plan
from tests.chaos.processes import Killer, Supervisor, line_commands, shares
from tests.chaos.snapshot import take_snapshot
from tests.chaos.verdict import FINAL, Sent, Snapshot, judge

MODULE = "avatar_pipeline.definitions"
REPOSITORY = Path(__file__).parents[2]
Database = Literal["sqlite", "postgres"]
SETTINGS = {
    # The killer is at fault, not the request; and only poison is to end as a dead letter.
    "AVATAR_MAX_ATTEMPTS": "50",
    "AVATAR_MAX_RECEIVES": "1000",
    "AVATAR_LOST_AFTER_SECONDS": "12",
    "AVATAR_RETRY_SECONDS": "1",
    "AVATAR_VISIBILITY_SECONDS": "3",
    "AVATAR_BATCH_SIZE": "10",
    "AVATAR_BACKLOG_PER_WORKER": "10",
    "AVATAR_MAX_BATCH_AGE_SECONDS": "1",
    "AVATAR_MAX_OPEN_BATCHES": "2",
    "AVATAR_UNKNOWN_AVATAR_SECONDS": "3600",
}
TICK_SECONDS = 0.25
HUNTING_SECONDS = 0.02
LOOK_SECONDS = 2.0
IDLE_SECONDS = 4.0
"""After so long without work the next group is sent before its turn."""
GIVE_UP_SECONDS = 20.0
"""After so long without work nothing is left to kill."""
ENDED = frozenset({dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})


@dataclass(frozen=True, slots=True)
class Trial:
    """What one crash test is to be: how much is asked for, how often is killed, where everything is kept."""

    requests: int
    kills: int
    seed: int
    database: Database
    ready_home: Path
    upload: Path
    folder: Path
    avatars: tuple[str, ...] = ASKED_FOR
    mean_kill_seconds: float = 4.0
    deadline_seconds: float = 3600.0
    group_size: int = 12
    postgres_urls: tuple[str, str] | None = None
    """SQLAlchemy URLs of two empty databases: the ledger's and Dagster's."""


@dataclass(slots=True)
class Outcome:
    """What came out of a trial."""

    trial: Trial
    plan: Plan
    wrong: list[str]
    found: Snapshot
    kills: Counter[str]
    starts: Counter[str]
    sabotage: dict[str, int]
    seconds: float
    finished: bool
    timeline: list[str] = field(default_factory=list)


def run_trial(trial: Trial, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run the crash test and judge it. It ends at the deadline at the latest, and then says what was not done."""
    environment = prepare(trial)
    with in_environment(environment), open_line(read_settings()) as line, dg.DagsterInstance.get() as instance:
        return _Run(trial, line, instance, environment, say).run()


class _Run:
    """One trial at work."""

    def __init__(
        self,
        trial: Trial,
        line: Line,
        instance: dg.DagsterInstance,
        environment: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.trial, self.line, self.instance, self.say = trial, line, instance, say
        home = trial.folder
        self.plan = make_plan(
            trial.requests,
            seed=trial.seed,
            uploads=keep_uploads(line.settings, trial.upload),
            avatars=trial.avatars,
            group_size=trial.group_size,
        )
        (home / "plan.json").write_text(write_plan(self.plan))
        commands = line_commands(free_port(), MODULE, home / "dagster" / "workspace.yaml")
        (home / "dagster" / "workspace.yaml").write_text(_workspace(commands["code_server"]))
        self.supervisor = Supervisor(commands, environment, home / "logs", uuid.uuid4().hex)
        self.killer = Killer(
            trial.kills,
            random.Random(trial.seed),
            at_work=self.at_work,
            progress=self.progress,
            mean_seconds=trial.mean_kill_seconds,
        )
        self.message_ids: list[str] = []
        self.groups_sent = 0
        self.final = 0
        self.began = time.monotonic()
        self.timeline: list[str] = []

    def run(self) -> Outcome:
        """Let it all happen."""
        python, seed = sys.executable, str(self.trial.seed)
        finished = False
        self.supervisor.tend()
        producer = self.supervisor.start(
            [python, "-m", "tests.chaos.producer", str(self.trial.folder / "plan.json")], "producer", talks=True
        )
        saboteur = self.supervisor.start([python, "-m", "tests.chaos.saboteur", seed], "saboteur", talks=True)
        try:
            finished = self._until_done(producer, saboteur)
            sabotage = self._end_of(saboteur)
        finally:
            self.supervisor.stop()
            for process in (producer, saboteur):
                process.kill()
                process.wait(15)
        seconds = time.monotonic() - self.began
        found = take_snapshot(self.line, self.instance)
        asked: Counter[str] = Counter(shares(self.trial.kills))
        wrong = judge(self._sent(), found, kills=self.killer.done, asked=asked)
        if not finished:
            wrong.insert(0, f"it was not done after {seconds:.0f} s; see {self.trial.folder}/logs")
        return Outcome(
            self.trial,
            self.plan,
            wrong,
            found,
            self.killer.done,
            self.supervisor.starts,
            sabotage,
            seconds,
            finished,
            self.timeline,
        )

    def _until_done(self, producer: subprocess.Popen[bytes], saboteur: subprocess.Popen[bytes]) -> bool:
        """Send, kill and look, until everything is done or the deadline has passed; return which it was."""
        assert saboteur.stdin is not None
        looked_at, idle_since = 0.0, math.inf
        while time.monotonic() - self.began < self.trial.deadline_seconds:
            self.supervisor.tend()
            self._send_next(producer, idle=time.monotonic() - idle_since > IDLE_SECONDS)
            self._kill_next()
            if self.killer.finished and self.groups_sent == len(self.plan.groups):
                saboteur.stdin.close()
            if time.monotonic() - looked_at > LOOK_SECONDS:
                looked_at = time.monotonic()
                idle_since = min(idle_since, looked_at) if self._is_idle() else math.inf
                sent = self.groups_sent == len(self.plan.groups)
                if sent and self.killer.finished and idle_since < math.inf:
                    return True
                if looked_at - idle_since > GIVE_UP_SECONDS:
                    return sent and self.final == len(self.plan.wishes)
            time.sleep(HUNTING_SECONDS if self.killer.hunting else TICK_SECONDS)
        return False

    def _kill_next(self) -> None:
        before = self.killer.done.total()
        self.killer.tend(self.supervisor)
        if self.killer.done.total() > before:
            _, target, pid = self.killer.log[-1]
            self._note(f"kill {self.killer.done.total()}: {target} (pid {pid})")

    def _send_next(self, producer: subprocess.Popen[bytes], *, idle: bool) -> None:
        """Have the next group sent when its turn is: there is to be work until the last kill."""
        groups = self.plan.groups
        due = 1 + (len(groups) - 1) * self.killer.done.total() / max(1, self.trial.kills - 1)
        if self.groups_sent >= len(groups) or (self.groups_sent >= due and not idle):
            return
        if not all(self._knows(one.after) for one in groups[self.groups_sent] if one.after is not None):
            return
        assert producer.stdin is not None
        assert producer.stdout is not None
        producer.stdin.write(b"\n")
        producer.stdin.flush()
        answer = producer.stdout.readline()
        if not answer:
            raise RuntimeError(f"the producer died; see {self.trial.folder}/logs/producer.log")
        self.message_ids += json.loads(answer)
        self.groups_sent += 1
        self._note(f"group {self.groups_sent} of {len(groups)} sent")

    def _knows(self, request_id: str) -> bool:
        try:
            self.line.requests.get(request_id)
        except NotFound:
            return False
        return True

    def _is_idle(self) -> bool:
        """Tell whether all that was sent so far is done with, and nothing runs."""
        counts = self.line.requests.counts()
        final = sum(count for (_, state), count in counts.items() if state in FINAL)
        queues = (self.line.queues.clips, self.line.queues.avatars)
        left = sum(queue.depth().total for queue in queues)
        dead = sum(queue.dead.depth().total for queue in queues if queue.dead is not None)
        unfinished = [status for status in dg.DagsterRunStatus if status not in ENDED]
        in_flight = self.instance.get_runs_count(dg.RunsFilter(statuses=unfinished))
        self.final = final
        self._note(
            f"{final} of {len(self.plan.wishes)} final, {left} messages, {dead} dead letters, "
            f"{in_flight} runs in flight, {self.killer.done.total()} kills"
        )
        return final == sum(counts.values()) and left == 0 and in_flight == 0

    def at_work(self, pid: int) -> bool:
        """Tell whether this run worker's run has started, by what Dagster wrote down of its process."""
        for run in self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            records = self.instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
            if any(f"(pid: {pid})" in str(record.event_log_entry.message) for record in records):
                return True
        return False

    def progress(self) -> float:
        """Return the share of the requests that was final at the last look."""
        return self.final / len(self.plan.wishes)

    def _end_of(self, saboteur: subprocess.Popen[bytes]) -> dict[str, int]:
        assert saboteur.stdin is not None
        assert saboteur.stdout is not None
        saboteur.stdin.close()
        output = saboteur.stdout.read()
        return dict(json.loads(output)) if output else {}

    def _sent(self) -> Sent:
        poison: dict[Queue, set[str]] = {"clip": set(), "avatar": set()}
        for delivery, message_id in zip(self.plan.deliveries, self.message_ids, strict=False):
            if delivery.purpose == "poison":
                poison[delivery.queue].add(message_id)
        return Sent(self.plan.wishes, {queue: frozenset(ids) for queue, ids in poison.items()})

    def _note(self, what: str) -> None:
        line = f"{time.monotonic() - self.began:7.1f} s  {what}"
        self.timeline.append(line)
        self.say(line)


def prepare(trial: Trial) -> dict[str, str]:
    """Make the home: a copy of the one with a ready avatar, and a Dagster instance; return the environment for it."""
    home = trial.folder
    shutil.copytree(trial.ready_home, home, ignore=shutil.ignore_patterns("storage*", "scratch", "errors"))
    for name in ("logs", "dagster"):
        (home / name).mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AVATAR_", "DAGSTER_"))}
    environment |= SETTINGS | {"AVATAR_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), environment.get("PYTHONPATH")]))
    storage: dict[str, Any] = {"sqlite": {"base_dir": str(home / "dagster")}}
    if trial.database == "postgres":
        assert trial.postgres_urls is not None
        ledger, dagster = trial.postgres_urls
        environment["AVATAR_LEDGER_URL"] = ledger
        storage = {"postgres": {"postgres_url": dagster}}
    (home / "dagster" / "dagster.yaml").write_text(_dagster_yaml(storage))
    with in_environment(environment):
        # Two processes that create a fresh instance at once trip over each other's tables.
        with dg.DagsterInstance.get() as instance:
            instance.get_runs(limit=1)
        with open_line(read_settings()) as line:
            _bring_ready_avatars(trial, line)
    return environment


def _bring_ready_avatars(trial: Trial, line: Line) -> None:
    """Write the avatars of the home's own ledger file into the ledger in use, if that is another one."""
    file = f"sqlite:///{trial.folder / 'ledger.db'}"
    if line.settings.ledger.get_secret_value() == file:
        return
    with open_line(Settings(ledger_url=SecretStr(file))) as source:
        for avatar in source.ledger.avatars():
            line.ledger.register_avatar(
                avatar.id,
                voice=avatar.voice,
                greeting=avatar.greeting,
                upload_key=avatar.upload_key,
                source_name=avatar.source_name,
                consent=avatar.consent,
            )
            line.ledger.set_avatar_state(avatar.id, avatar.state)


@contextlib.contextmanager
def in_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Give this process another environment for a while."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def keep_uploads(settings: Settings, upload: Path) -> tuple[str, str]:
    """Put the sample's video and consent into the uploads place; return their URIs."""
    video = keep_upload(settings, upload / "sample.mp4", "video_uri")
    return video, keep_upload(settings, upload / "consent.json", "consent_uri")


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _dagster_yaml(storage: dict[str, Any]) -> str:
    """Return the project's own dagster.yaml with another storage, and less patience: the killer has little, too."""
    config = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    for name in ("local_artifact_storage", "compute_logs"):
        del config[name]
    config["storage"] = storage
    config["run_monitoring"] |= {"poll_interval_seconds": 5, "start_timeout_seconds": 60}
    return yaml.safe_dump(config)


def _workspace(command: list[str]) -> str:
    port = command[command.index("--port") + 1]
    return f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: avatar_pipeline}}\n"
