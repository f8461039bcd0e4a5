"""Starting processes through the zygote: what to start, how it is told, and what came of it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatar_pipeline.errors import EnvironmentProblem

_READY_SECONDS = 120.0
# A forked Python has its hash seed, optimisation and memory allocator from the zygote; these ask for others.
_NEEDS_A_FRESH_PYTHON = ("PYTHONHASHSEED", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONDEVMODE", "PYTHONMALLOC",
                         "PYTHONWARNINGS", "LD_PRELOAD", "LD_LIBRARY_PATH")  # fmt: skip


class NotFound(Exception):
    """The program of a container is not on its PATH."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to start: its command line, environment, folder and log file."""

    argv: Sequence[str]
    env: Mapping[str, str]
    folder: str
    log: Path


@dataclass(slots=True)
class _Listener:
    started: Callable[[int | None, str], None]
    ended: Callable[[int], None]


class Zygote:
    """A process that starts containers for one cluster or for several. A context manager.

    `preload` names modules that it imports first. Python containers of this environment are forked from it then, and
    start in milliseconds; without preload every container is started from scratch. Raises EnvironmentProblem where a
    module cannot be imported, or starts threads when it is.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self.preload = tuple(preload)
        self._ids = itertools.count(1)
        self._listeners: dict[str, _Listener] = {}
        self._lock = threading.Lock()
        self._door, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-P", str(Path(__file__).with_name("zygote.py")), str(theirs.fileno())]
        command += [
            json.dumps(self.preload),
            json.dumps([each or str(Path.cwd()) for each in sys.path] if preload else []),
        ]
        self._process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        theirs.close()
        self._ready = threading.Event()
        self._problem = ""
        self._reader = threading.Thread(target=self._read, name="zygote", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until the modules are imported."""
        if not self._ready.wait(_READY_SECONDS) or self._problem:
            self.close()
            raise EnvironmentProblem(
                f"The process that starts containers failed: {self._problem or 'it did not answer'}.",
                remedy="Preload only modules that can be imported here and start no threads.",
            )

    def launch(self, launch: Launch, started: Callable[[int | None, str], None], ended: Callable[[int], None]) -> None:
        """Start a process. `started` gets its pid, or None and why not; `ended` its exit code, negative for a signal.

        Both are called from another thread. Raises NotFound where the program is not on the PATH of its environment.
        """
        program = find_program(launch.argv[0], launch.env.get("PATH", ""), launch.folder)
        python = as_python(program, launch) if self.preload else None
        with self._lock:
            number = str(next(self._ids))
            self._listeners[number] = _Listener(started, ended)
            order = {
                "id": number, "program": None if python else program, "python": python, "argv": list(launch.argv),
                "env": dict(launch.env), "cwd": launch.folder, "log": str(launch.log),
            }  # fmt: skip
            self._door.sendall(json.dumps(order).encode() + b"\n")

    def _read(self) -> None:
        with self._door.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "ready" in message:
                    self._problem = message["problem"]
                    self._ready.set()
                else:
                    self._tell(message)
        if not self._ready.is_set():
            self._errors.seek(0)
            self._problem = self._errors.read().decode(errors="replace")[-500:] or "it ended"
            self._ready.set()

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            over = "pid" not in message
            listener = self._listeners.pop(message["id"], None) if over else self._listeners.get(message["id"])
        if listener is None:
            return
        if "exit" in message:
            listener.ended(message["exit"])
        else:
            listener.started(message.get("pid"), message.get("error", ""))

    def close(self) -> None:
        """End it; it kills all that it started."""
        if self._process.returncode is None:
            self._door.shutdown(socket.SHUT_WR)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(5)
        self._door.close()
        self._errors.close()

    def __enter__(self) -> Zygote:
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_program(name: str, path: str, folder: str) -> str:
    """Return the full path of a program. Raises NotFound where there is none."""
    if os.sep in name:
        found = str(Path(folder, name))
        if os.access(found, os.X_OK) and Path(found).is_file():
            return found
    elif located := shutil.which(name, path=path):
        return located
    raise NotFound(name)


def as_python(program: str, launch: Launch) -> dict[str, Any] | None:
    """Return how to run a command line in a forked Python, or None where it needs a process of its own.

    Understood are `python -m module`, `python -c code`, `python file` and console scripts of this environment.
    """
    here = Path(sys.executable).parent
    argv = list(launch.argv)
    if Path(program).parent != here or any(name in launch.env for name in _NEEDS_A_FRESH_PYTHON):
        return None
    if not Path(program).name.startswith("python"):
        return _script(program, argv[1:], str(here)) if _is_console_script(program) else None
    match argv[1:]:
        case ["-m", module, *rest]:
            return {"how": "module", "what": module, "argv": [module, *rest], "folder": launch.folder}
        case ["-c", code, *rest]:
            return {"how": "code", "what": code, "argv": ["-c", *rest], "folder": ""}
        case [file, *rest] if not file.startswith("-"):
            full = Path(launch.folder, file)
            return _script(str(full), rest, str(full.parent))
    return None


def _script(file: str, arguments: list[str], folder: str) -> dict[str, Any]:
    return {"how": "file", "what": file, "argv": [file, *arguments], "folder": folder}


def _is_console_script(program: str) -> bool:
    with Path(program).open("rb") as file:
        first = file.readline(512)
    return first.startswith(b"#!") and b"python" in first
