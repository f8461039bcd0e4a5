"""A budget for some clips and many more that are asked for, under a `dagster dev` of its own: what is done, what waits.

The avatar speaks with a provider's voice (a stand-in), whose characters are counted exactly: so the budget is one of
characters, and it is known to the clip what can be paid for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import yaml

from avatar_pipeline.budget.types import Payer, Standing
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.stages.voice import make_voice_model
from tests.chaos.harness import free_port, in_environment

REPOSITORY = Path(__file__).parents[2]
LIMIT = "voices/month"
AVATAR = "ada"
WORDS = """
    apple beach chair dance eagle flame grape horse juice knife lemon mango night ocean piano queen river sheep
    table uncle voice water youth zebra bread cloud dream earth field ghost heart house jelly koala light mouse
    north olive paint quiet
"""
TEXTS = tuple(f"A map, a {word}." for word in WORDS.split())
"""Of one length, and each another: what several want to hear is spoken, and paid for, once."""
CHARACTERS = Decimal(len(TEXTS[0]))
SETTINGS = {
    "AVATAR_VOICE_PROVIDER": "elevenlabs",
    # A character costs a credit: what is put aside for a text is what it comes to.
    "AVATAR_ELEVENLABS_MODEL": "eleven_multilingual_v2",
    "AVATAR_BATCH_SIZE": "20",
    "AVATAR_BACKLOG_PER_WORKER": "20",
    "AVATAR_MAX_BATCH_AGE_SECONDS": "0",
    "AVATAR_LOST_AFTER_SECONDS": "12",
}
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Trial:
    """How many clips are asked for (40 at most), and for how many the budget pays.

    `kills`: how often the daemon is killed at work: once before the budget stops the work, and once after it is raised.
    """

    clips: int
    affordable: int
    folder: Path
    ready_home: Path
    standin_url: str
    standin_key: str
    billed: Callable[[], int]
    """Says how many characters the provider has billed."""
    kills: int = 0
    patience_seconds: float = 300.0


@dataclass(slots=True)
class Outcome:
    """What was seen when the budget had no room any more, and what at last."""

    done: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    alerts: list[tuple[str, str, Decimal]] = field(default_factory=list)
    explained: dict[str, Any] = field(default_factory=dict)
    explained_text: str = ""
    standing: Standing | None = None
    billed: int = 0
    done_at_last: set[str] = field(default_factory=set)
    billed_at_last: int = 0
    alerts_at_last: int = 0
    reserved_at_last: Decimal = Decimal(-1)
    attempts_open: int = -1
    kills: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def run_trial(trial: Trial, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Ask for the clips, wait until the budget stops them, raise its limit, wait for the rest; say what was seen.

    Raises:
        TimeoutError: it took too long; says how far it came.
    """
    environment = _prepare(trial)
    outcome = Outcome()
    with in_environment(environment), open_line(read_settings()) as line:
        make_voice_model(line, AVATAR)
        names = [f"clip-{number:02}" for number in range(trial.clips)]
        line.requests.submit(
            [
                ClipRequest(request_id=name, avatar_id=AVATAR, text=text, size=256)
                for name, text in zip(names, TEXTS, strict=False)
            ]
        )
        at_work = _AtWork(trial, environment, line, outcome, say)
        try:
            at_work.until("the budget has no room", lambda: _is_stopped(line, trial))
            _look(line, trial, environment, outcome)
            raised = str(CHARACTERS * trial.clips)
            _avatar(environment, "budget", "set", LIMIT, raised, "--reason", "The rest, too.", "--who", "test")
            say(f"{LIMIT} raised to {raised}")
            at_work.until("all are done", lambda: len(_in_state(line, "done")) == trial.clips)
            at_work.until(
                "nothing is put aside any more", lambda: not line.spend.open_attempts() and not _reserved(line)
            )
        finally:
            at_work.stop()
            outcome.done_at_last = _in_state(line, "done")
            outcome.billed_at_last = trial.billed()
            outcome.alerts_at_last = len(line.budgets.alerts())
            outcome.reserved_at_last = _reserved(line)
            outcome.attempts_open = len(line.spend.open_attempts())
    return outcome


class _AtWork:
    """A `dagster dev`, started again when it ends, whose daemon is killed now and then."""

    def __init__(
        self, trial: Trial, environment: Mapping[str, str], line: Line, outcome: Outcome, say: Callable[[str], None]
    ) -> None:
        self._trial, self._environment, self._line, self._outcome, self._say = trial, environment, line, outcome, say
        self._began = time.monotonic()
        self._process = self._start()
        self._kill_at = [trial.affordable // 2, (trial.affordable + trial.clips) // 2][: trial.kills]

    def until(self, what: str, met: Callable[[], bool]) -> None:
        """Wait until something is so; keep `dagster dev` up, and kill its daemon when enough is done."""
        began = time.monotonic()
        while not met():
            if time.monotonic() - began > self._trial.patience_seconds:
                raise TimeoutError(f"not yet: {what}; {self._line.requests.counts()}; see {self._trial.folder}/dev.log")
            if self._process.poll() is not None:
                self._say("dagster dev is started again")
                self._process = self._start()
            if self._kill_at and len(_in_state(self._line, "done")) >= self._kill_at[0]:
                self._kill_daemon()
            time.sleep(LOOK_SECONDS)
        self._outcome.seconds[what] = round(time.monotonic() - began, 1)
        self._say(f"{time.monotonic() - self._began:6.1f} s  {what}")

    def stop(self) -> None:
        """End `dagster dev` and everything that it started."""
        family = self._family()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for process in [*family, *self._family()]:
            if process.is_running():
                process.kill()
        self._process.wait(15)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dagster", "dev", "-m", "avatar_pipeline.definitions"]
        with (self._trial.folder / "dev.log").open("ab") as log:
            return subprocess.Popen(
                [*command, "-h", "127.0.0.1", "-p", str(free_port())],
                cwd=self._trial.folder,
                env=dict(self._environment),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _kill_daemon(self) -> None:
        for process in self._family():
            if "dagster._daemon" in " ".join(process.cmdline()):
                process.kill()
                self._kill_at.pop(0)
                self._outcome.kills += 1
                self._say(f"the daemon (pid {process.pid}) was killed")
                return

    def _family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _is_stopped(line: Line, trial: Trial) -> bool:
    held = len(_in_state(line, "held"))
    return held == trial.clips - trial.affordable and len(_in_state(line, "done")) == trial.affordable and _told(line)


def _told(line: Line) -> bool:
    return any(alert.threshold == 1 for alert in line.budgets.alerts())


def _look(line: Line, trial: Trial, environment: Mapping[str, str], outcome: Outcome) -> None:
    outcome.done, outcome.held = _in_state(line, "done"), _in_state(line, "held")
    outcome.alerts = [(alert.limit_id, alert.kind, alert.threshold) for alert in line.budgets.alerts()]
    outcome.standing = next(one for limit, one in line.spend.all_standings() if limit.id == LIMIT)
    outcome.billed = trial.billed()
    name = max(outcome.held)
    outcome.explained = json.loads(_avatar(environment, "budget", "explain", name, "--json"))
    outcome.explained_text = _avatar(environment, "budget", "explain", name)


def _in_state(line: Line, state: Any) -> set[str]:
    return {record.request.request_id for record in line.requests.list(kind="clip", states=(state,))}


def _reserved(line: Line) -> Decimal:
    payer = Payer("default", AVATAR, provider="elevenlabs")
    return sum((standing.reserved for _, standing in line.spend.standings(payer)), Decimal(0))


def _avatar(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "avatar_pipeline.cli", *arguments]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _prepare(trial: Trial) -> dict[str, str]:
    """Make the home: a copy of one with a ready avatar, a file of budgets, and an instance of Dagster."""
    home = trial.folder / "home"
    shutil.copytree(trial.ready_home, home, ignore=shutil.ignore_patterns("storage*", "scratch", "errors"))
    dagster = trial.folder / "dagster"
    dagster.mkdir()
    config = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    for name in ("local_artifact_storage", "compute_logs"):
        del config[name]
    config["storage"] = {"sqlite": {"base_dir": str(dagster)}}
    (dagster / "dagster.yaml").write_text(yaml.safe_dump(config))
    hard = str(CHARACTERS * trial.affordable)
    voices = {"name": "voices", "scope": "provider:elevenlabs", "unit": "characters", "month": hard}
    budgets = trial.folder / "budgets.yaml"
    budgets.write_text(yaml.safe_dump({"version": 1, "budgets": [voices]}))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AVATAR_", "DAGSTER_"))}
    return (
        clean
        | SETTINGS
        | {
            "AVATAR_HOME": str(home),
            "DAGSTER_HOME": str(dagster),
            "AVATAR_BUDGETS": str(budgets),
            "AVATAR_ELEVENLABS_URL": trial.standin_url,
            "AVATAR_ELEVENLABS_API_KEY": trial.standin_key,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        }
    )
