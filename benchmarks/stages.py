"""Times every stage of the engine on a video: `python -m benchmarks.stages VIDEO [--json FILE]`.

Each run of each stage has a process of its own. Landmarks and clips are also made the obvious way (see
`benchmarks.steps`), in pairs that alternate, so that a machine that slows down slows both. `--memory-flat` measures
instead the peak memory of landmarks over the same video at 1, 4 and 16 times its length.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measurement, StepFailed, measure

STAGES = ("probe", "landmarks", "isolation", "mesh", "plate", "speech", "clip")
PAIRED = ("landmarks", "clip")
NEEDS_SOUND = "isolation"
LENGTHS = (1, 4, 16)


def time_stages(video: Path, folder: Path, repeats: int, console: Console) -> dict[str, list[Measurement]]:
    """Measure every stage `repeats` times, in order; a video without sound has no isolation."""
    runs: dict[str, list[Measurement]] = {}
    for stage in STAGES:
        for _ in range(repeats):
            console.print(f"[dim]{stage} …[/dim]")
            try:
                runs.setdefault(stage, []).append(measure(stage, video, folder))
            except StepFailed as error:
                if stage != NEEDS_SOUND:
                    raise
                console.print(f"[yellow]left out[/yellow] {error}")
                runs.pop(stage, None)
                break
    return runs


def time_pairs(video: Path, folder: Path, pairs: int, console: Console) -> dict[str, list[tuple[float, ...]]]:
    """Measure engine and loop in alternating order; return (engine seconds, loop seconds, loop / engine) per pair."""
    results: dict[str, list[tuple[float, ...]]] = {}
    for stage in PAIRED:
        for number in range(pairs):
            console.print(f"[dim]{stage}: pair {number + 1} of {pairs} …[/dim]")
            first = number % 2 == 0
            one = measure(stage, video, folder, loop=not first)
            other = measure(stage, video, folder, loop=first)
            engine, loop = (one, other) if first else (other, one)
            per_frame = [run.seconds / run.frames for run in (engine, loop)]
            results.setdefault(stage, []).append((engine.seconds, loop.seconds, per_frame[1] / per_frame[0]))
    return results


def memory_by_length(video: Path, folder: Path, console: Console) -> dict[int, Measurement]:
    """Measure landmarks over the video looped to each of `LENGTHS` (packets copied, nothing encoded again)."""
    results = {}
    for times in LENGTHS:
        console.print(f"[dim]landmarks at {times}× the length …[/dim]")
        looped = folder / f"looped-{times}.mp4"
        joining = (
            "import sys; from pathlib import Path; from avatar_pipeline.media.encode import join_segments; "
            "join_segments([Path(sys.argv[1])] * int(sys.argv[2]), Path(sys.argv[3]))"
        )
        command = [sys.executable, "-c", joining, str(video.resolve()), str(times), str(looped)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StepFailed(f"looping {video.name}: {done.stderr.strip().splitlines()[-1]}")
        results[times] = measure("landmarks", looped, folder)
        looped.unlink()
    return results


def median(runs: Sequence[Measurement]) -> Measurement:
    """Return the run of median time."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def _row(name: str, run: Measurement) -> tuple[str, ...]:
    rate = run.frames_per_second
    return (
        name,
        f"{run.media_seconds:.1f}",
        f"{run.seconds:.2f}",
        f"{rate:.0f}" if rate else "",
        f"{run.real_time_factor:.1f}×",
        f"{run.peak_mib:.0f}",
        ", ".join(f"{key} {value}" for key, value in run.notes.items()),
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column == "" else "right")
    return table


def _machine() -> dict[str, Any]:
    import contextlib

    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": model, "cores": cores, "load": round(os.getloadavg()[0], 2), "python": platform.python_version()}


def _report_stages(console: Console, video: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    runs = time_stages(video, folder, options.repeats, console)
    pairs = time_pairs(video, folder, options.pairs, console) if options.pairs else {}
    table = _table(video.name, "stage", "media s", "work s", "frames/s", "real time", "peak MiB", "")
    for stage, measured in runs.items():
        table.add_row(*_row(stage, median(measured)))
    console.print(table)
    if pairs:
        beside = _table("Engine beside the obvious loop, in pairs", "stage", "engine s", "loop s", "loop / engine")
        for stage, results in pairs.items():
            for engine, loop, ratio in results:
                beside.add_row(stage, f"{engine:.2f}", f"{loop:.2f}", f"{ratio:.2f}")
            middle = statistics.median(ratio for *_, ratio in results)
            beside.add_row(f"[bold]{stage}, median[/bold]", "", "", f"[bold]{middle:.2f}[/bold]", end_section=True)
        console.print(beside)
    return {
        "stages": {stage: [asdict(run) for run in measured] for stage, measured in runs.items()},
        "pairs": {
            stage: [dict(zip(("engine_seconds", "loop_seconds", "ratio"), result, strict=True)) for result in results]
            for stage, results in pairs.items()
        },
    }


def _report_memory(console: Console, video: Path, folder: Path) -> dict[str, Any]:
    measured = memory_by_length(video, folder, console)
    table = _table(f"{video.name}: landmarks by length", "length", "frames", "work s", "frames/s", "peak MiB", "of 1×")
    for times, run in measured.items():
        share = run.peak_mib / measured[LENGTHS[0]].peak_mib
        rate = run.frames_per_second or 0.0
        cells = (f"{times}×", str(run.frames), f"{run.seconds:.2f}", f"{rate:.0f}", f"{run.peak_mib:.0f}")
        table.add_row(*cells, f"{share:.2f}")
    console.print(table)
    return {"memory": {str(times): asdict(run) for times, run in measured.items()}}


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run to FILE")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each stage; the table shows the median")
    parser.add_argument("--pairs", type=int, default=3, help="pairs with the obvious loops; 0 for none")
    parser.add_argument("--memory-flat", action="store_true", help="peak memory of landmarks by length, instead")
    options = parser.parse_args()
    console = Console(stderr=False)
    if not options.video.is_file():
        parser.error(f"{options.video} is not a file")
    with tempfile.TemporaryDirectory(prefix="avatar-bench-") as scratch:
        folder = Path(scratch)
        try:
            if options.memory_flat:
                result = _report_memory(console, options.video, folder)
            else:
                result = _report_stages(console, options.video, folder, options)
        except StepFailed as error:
            console.print(f"[red]failed[/red] {error}")
            return 1
    machine = _machine()
    console.print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, Python {machine['python']}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "video": options.video.name} | result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
