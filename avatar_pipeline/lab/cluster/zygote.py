"""The process that starts containers. Run by `launcher.Zygote`; it uses the standard library only.

It is one thread that reads orders from a socket (one JSON object a line), starts a process for each, and writes back
its pid and later its exit code. A program is started with `posix_spawn`. Python of this environment is forked from
here, with the preloaded modules imported already. It adopts what its children leave behind (Linux). When the socket
closes, because the cluster ended or died, it kills everything and ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

_SUBREAPER = 36
_SPECIAL: set[int] = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP}


class _Server:
    def __init__(self, door: socket.socket) -> None:
        self.door = door
        self.buffer = b""
        self.started: dict[int, str] = {}
        self.wake_in, self.wake_out = os.pipe()
        for end in (self.wake_in, self.wake_out):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_out, warn_on_full_buffer=False)

    def serve(self) -> dict[str, Any]:
        """Carry out orders until the socket closes. Returns only in a forked child: the order it is to carry out."""
        while True:
            doors: list[Any] = [self.door, self.wake_in]
            readable, _, _ = select.select(doors, [], [])
            if self.wake_in in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wake_in, 4096)
                self._reap()
            if self.door not in readable:
                continue
            read = self.door.recv(1 << 20)
            if not read:
                _end_everything()
            *lines, self.buffer = (self.buffer + read).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if self._start(order):
                    return order  # type: ignore[no-any-return]

    def _start(self, order: dict[str, Any]) -> bool:
        """Start a process; True in the child that was forked for it."""
        try:
            pid = _spawn(order) if order["program"] else _fork()
        except OSError as error:
            self._tell({"id": order["id"], "error": error.strerror or str(error)})
            return False
        if pid == 0:
            return True
        self.started[pid] = order["id"]
        self._tell({"id": order["id"], "pid": pid})
        return False

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if order := self.started.pop(pid, None):
                self._tell({"id": order, "exit": os.waitstatus_to_exitcode(status)})

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.door.sendall(json.dumps(message).encode() + b"\n")

    def close_in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        self.door.close()
        os.close(self.wake_in)
        os.close(self.wake_out)


def _fork() -> int:
    """Fork with all signals held back: what is sent to the child before it is ready waits until it is."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _spawn(order: dict[str, Any]) -> int:
    back = os.open(".", os.O_RDONLY)
    try:
        os.chdir(order["cwd"])
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, order["log"], flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        signals = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
        return os.posix_spawn(
            order["program"],
            order["argv"],
            order["env"],
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=signals,
        )
    finally:
        os.fchdir(back)
        os.close(back)


def _become(order: dict[str, Any], path: list[str]) -> None:
    """Make this forked child look like a Python that was just started for the order, as far as that can be."""
    gc.enable()
    os.setsid()
    for each in set(signal.valid_signals()) - _SPECIAL:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in ((0, nothing), (1, log), (2, log)):
        os.dup2(file, number)
    os.close(log)
    os.close(nothing)
    os.chdir(order["cwd"])
    env = order["env"]
    os.environ.clear()
    os.environ.update(env)
    if env.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    sys.argv = order["python"]["argv"]
    added = [each for each in env.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[:] = [order["python"]["folder"], *added, *path]
    _reseed()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _reseed() -> None:
    modules: dict[str, Any] = dict(sys.modules)
    for name in ("random", "numpy.random"):
        if name in modules:
            modules[name].seed()
    if "tempfile" in modules:
        modules["tempfile"].tempdir = None


def _run(python: dict[str, Any]) -> None:
    if python["how"] == "module":
        runpy.run_module(python["what"], run_name="__main__", alter_sys=True)
    elif python["how"] == "code":
        exec(compile(python["what"], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})  # noqa: S102
    else:
        runpy.run_path(python["what"], run_name="__main__")


def _end(python: dict[str, Any]) -> NoReturn:
    """Run the program and end as Python does: its exit code, threads waited for, exit functions, buffers written.

    What Python does after that (taking every module apart) is left out; it costs 50 ms where much is preloaded.
    """
    code, interrupted = 0, False
    try:
        _run(python)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        if code and not isinstance(ended.code, int):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException as error:
        code, interrupted = 1, isinstance(error, KeyboardInterrupt)
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def _end_everything() -> NoReturn:
    import psutil  # type: ignore[import-untyped]

    me = psutil.Process()
    while children := me.children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0)[0] and not me.children():
                break
    os._exit(0)


def main() -> None:
    """Import what is asked for, say so, and serve."""
    door = socket.socket(fileno=int(sys.argv[1]))
    preload, host_path = json.loads(sys.argv[2]), json.loads(sys.argv[3])
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: None)  # Ctrl-C in a terminal is for the cluster, which ends us
    _adopt_orphans()
    # -P and the script's folder leave no unsafe entry; what a fresh Python would have is what is here now.
    own_path = list(sys.path)
    sys.path[:] = [*host_path, *(each for each in own_path if each not in host_path)]
    problem = ""
    for name in preload:
        try:
            __import__(name)
        except Exception as error:
            problem = f"{name} could not be imported: {type(error).__name__}: {error}"
            break
    sys.path[:] = own_path
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        problem = problem or f"the imports started threads, which a fork would lose: {names}"
    door.sendall(json.dumps({"ready": not problem, "problem": problem}).encode() + b"\n")
    if problem:
        sys.exit(1)
    gc.collect()
    gc.freeze()
    server = _Server(door)
    order = server.serve()
    server.close_in_child()
    _become(order, own_path)
    python = order["python"]
    del order, server, door
    _end(python)


if __name__ == "__main__":
    main()
