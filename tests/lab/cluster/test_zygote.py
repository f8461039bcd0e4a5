"""The process that starts containers: forked Python behaves like Python started for the purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.lab.cluster import Zygote
from avatar_pipeline.lab.cluster.launcher import Launch, NotFound, as_python

Run = Callable[..., "tuple[int, str]"]
BIN = str(Path(sys.executable).parent)


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Zygote]:
    """A zygote with a module that is slow to import, and one that nothing else imports."""
    with Zygote(("colorsys", "random", "sqlite3")) as one:
        yield one


@pytest.fixture(params=["forked", "fresh"])
def run(request: pytest.FixtureRequest, preloaded: Zygote, zygote: Zygote, tmp_path: Path) -> Run:
    """Run a command line to its end, forked or from scratch; returns its exit code and what it wrote."""
    starter = preloaded if request.param == "forked" else zygote

    def to_its_end(*argv: str, then: Callable[[int], object] | None = None, **env: str) -> tuple[int, str]:
        over, codes, pids = threading.Event(), [], []
        log = tmp_path / "log"
        launch = Launch(argv, {"PATH": f"{BIN}:/usr/bin:/bin", **env}, str(tmp_path), log)
        assert bool(as_python(str(Path(BIN, "python")), launch)) == argv[0].startswith("python")

        def started(pid: int | None, problem: str) -> None:
            assert pid is not None, problem
            pids.append(pid)
            if then:
                threading.Thread(target=then, args=(pid,)).start()

        starter.launch(launch, started, lambda code: (codes.append(code), over.set()))
        assert over.wait(10)
        return codes[0], log.read_text()

    return to_its_end


def test_output_goes_to_the_log_and_the_exit_code_comes_back(run: Run) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    returned, text = run("python", "-c", code)
    assert returned == 7
    assert sorted(text.splitlines()) == ["err", "out"]


def test_an_exception_is_exit_code_1_with_its_traceback(run: Run) -> None:
    returned, text = run("python", "-c", "raise ValueError('a reason')")
    assert returned == 1
    assert text.rstrip().endswith("ValueError: a reason")


@pytest.mark.parametrize(("value", "code"), [("None", 0), ("'words'", 1), ("0", 0), ("258", 2)])
def test_every_way_to_exit_has_pythons_code(run: Run, value: str, code: int) -> None:
    returned, text = run("python", "-c", f"raise SystemExit({value})")
    assert returned == code
    assert ("words" in text) == (value == "'words'")


def test_the_environment_arguments_and_folder_are_its_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ.get('HOME'), os.environ['A'])"
    )
    returned, text = run("python", "-m", "mine", "x", "y", A="b")
    assert (returned, text.strip()) == (0, f"['x', 'y'] {tmp_path} None b")


def test_a_script_finds_modules_beside_it_and_on_its_path(run: Run, tmp_path: Path) -> None:
    for folder, name in (("beside", "near"), ("far", "distant")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text("HERE = __name__")
    (tmp_path / "beside" / "main.py").write_text("import near, distant; print(near.HERE, distant.HERE, __name__)")
    returned, text = run("python", "beside/main.py", PYTHONPATH=str(tmp_path / "far"))
    assert (returned, text.strip()) == (0, "near distant __main__")


def test_signals_end_it_or_reach_its_handlers(run: Run) -> None:
    assert run("python", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")[0] == -signal.SIGTERM
    assert run("python", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGINT)")[0] == -signal.SIGINT
    handled = "import os, signal, sys; signal.signal(15, lambda *_: sys.exit(5)); os.kill(os.getpid(), 15)"
    assert run("python", "-c", handled)[0] == 5


def test_a_signal_at_the_very_start_is_not_lost(run: Run) -> None:
    code, _ = run("python", "-c", "import time; time.sleep(8)", then=lambda pid: os.kill(pid, signal.SIGTERM))
    assert code == -signal.SIGTERM


def test_it_leads_a_session_of_its_own(run: Run) -> None:
    _, text = run("python", "-c", "import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())")
    assert text.strip() == "True"


def test_threads_and_exit_functions_come_to_their_end(run: Run) -> None:
    code = (
        "import atexit, threading, time; atexit.register(print, 'at exit');"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start(); print('main')"
    )
    assert run("python", "-c", code) == (0, "main\nthread\nat exit\n")


def test_each_has_chances_of_its_own(run: Run) -> None:
    assert len({run("python", "-c", "import random; print(random.random())")[1] for _ in range(3)}) >= 2


def test_preloaded_modules_are_there_already(preloaded: Zygote, tmp_path: Path) -> None:
    over = threading.Event()
    launch = Launch(
        ["python", "-c", "import sys; print('colorsys' in sys.modules)"], {"PATH": BIN}, str(tmp_path), tmp_path / "log"
    )
    preloaded.launch(launch, lambda *_: None, lambda _: over.set())
    assert over.wait(5)
    assert (tmp_path / "log").read_text() == "True\n"


@pytest.mark.parametrize(("argv", "env"), [
    (["python", "-u", "-m", "json.tool"], {}), (["python", "-c", "1"], {"PYTHONHASHSEED": "3"}), (["python"], {}),
])  # fmt: skip
def test_what_a_fork_could_not_give_is_started_from_scratch(
    argv: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    assert as_python(str(Path(BIN, "python")), Launch(argv, env, str(tmp_path), tmp_path)) is None


def test_a_program_that_is_not_there_is_told(zygote: Zygote, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no-such"):
        zygote.launch(Launch(["no-such"], {"PATH": "/bin"}, str(tmp_path), tmp_path / "log"), print, print)


def test_a_module_that_cannot_be_preloaded_is_an_error() -> None:
    with pytest.raises(EnvironmentProblem, match="no_such_module"):
        Zygote(("no_such_module",)).wait_ready()


def test_a_module_that_starts_threads_cannot_be_preloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="threads"):
        Zygote(("threaded",)).wait_ready()


HOST = """
import sys, time
from avatar_pipeline.lab.cluster import Cluster
from tests.lab.cluster.client import Client
from tests.lab.cluster.manifests import job
cluster = Cluster().start()
k8s = Client(cluster)
k8s.create(job("left", "setsid sleep 300 & echo up; sleep 300"))
k8s.running("left")
print(*cluster.processes(), flush=True)
time.sleep(300)
"""


def test_a_cluster_that_is_killed_leaves_no_process_behind() -> None:
    import psutil

    with subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pids = list(map(int, host.stdout.readline().split()))
        assert len(pids) >= 2
        host.kill()
    until = time.monotonic() + 5
    while any(map(psutil.pid_exists, pids)):
        assert time.monotonic() < until
        time.sleep(0.01)
