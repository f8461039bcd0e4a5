"""Measures one step in a fresh process: `python -m benchmarks.measure STEP VIDEO FOLDER` prints JSON.

The process that starts it must be small: Linux counts the starter's memory into the peak of the started.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MIB = 1024
_LOOP = "-loop"


class StepFailed(Exception):
    """A step did not finish; the text is what it printed last."""


@dataclass(frozen=True)
class Measurement:
    """One run of a step.

    `seconds` of work without imports and reading of inputs; `media_seconds` and `frames` it got through;
    `peak_mib` and `child_peak_mib` the largest resident set of the process, and of its largest child.
    """

    step: str
    seconds: float
    frames: int
    media_seconds: float
    peak_mib: float
    child_peak_mib: float
    notes: dict[str, Any]

    @property
    def frames_per_second(self) -> float | None:
        """Frames a second of work, None where the step has none."""
        return self.frames / self.seconds if self.frames else None

    @property
    def real_time_factor(self) -> float:
        """Seconds of media a second of work."""
        return self.media_seconds / self.seconds


def measure(step: str, video: Path, folder: Path, *, loop: bool = False) -> Measurement:
    """Run a step (or the loop beside it) in a process of its own.

    Raises:
        StepFailed: the process failed.
    """
    name = step + _LOOP if loop else step
    command = [sys.executable, "-m", "benchmarks.measure", name, str(video.resolve()), str(folder.resolve())]
    root = Path(__file__).resolve().parent.parent
    quiet = os.environ | {"GLOG_minloglevel": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=quiet)
    if done.returncode:
        raise StepFailed(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no output'}")
    return Measurement(**json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    """Do the step named on the command line and print its measurement."""
    from benchmarks.steps import LOOPS, STEPS, Job

    name, video, folder = sys.argv[1:]
    step = LOOPS[name.removesuffix(_LOOP)] if name.endswith(_LOOP) else STEPS[name]
    work = step(Job(Path(video), Path(folder)))
    began = time.perf_counter()
    done = work()
    seconds = time.perf_counter() - began
    peaks = [resource.getrusage(who).ru_maxrss / _MIB for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    if done.check is not None:
        done.check()
    result = Measurement(name, seconds, done.frames, done.seconds, peaks[0], peaks[1], done.notes)
    print(json.dumps(vars(result)))


if __name__ == "__main__":
    main()
