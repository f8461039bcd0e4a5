"""Random chaos from the command line.

    python -m tests.spot.chaos --scenarios 200 --seed 0 --workers 2

Each scenario is a run in a simulated cluster of its own, disturbed as its seed says. It exits with 1 if any of them
ended wrong. `--only N` runs scenario N alone and tells its story whatever came of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.spot.chaos.pool import run_scenarios
from tests.spot.chaos.report import figures, line, show
from tests.spot.chaos.run import Outcome


def main() -> int:
    """Run the scenarios that were asked for."""
    options = _options()
    console = Console(stderr=True)
    numbers = [options.only] if options.only is not None else list(range(options.scenarios))
    began = time.monotonic()
    outcomes = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Scenarios", total=len(numbers))
        for outcome in run_scenarios(options.seed, numbers, options.workers):
            outcomes.append(outcome)
            progress.advance(task)
            progress.console.print(line(outcome), highlight=False, soft_wrap=True)
            if options.stories is not None and outcome.wrong:
                _keep(options.stories, outcome)
    seconds = time.monotonic() - began
    show(outcomes, seconds, console)
    if options.stories is None:
        for outcome in outcomes:
            if outcome.story:
                console.print(
                    f"\n--- {outcome.plan.name}\n{outcome.story}", highlight=False, markup=False, soft_wrap=True
                )
    if options.json:
        sys.stdout.write(json.dumps(figures(outcomes, seconds), indent=1) + "\n")
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.spot.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="scenarios that run side by side")
    parser.add_argument("--only", type=int, help="run this scenario alone")
    parser.add_argument("--stories", type=Path, help="write the stories of what went wrong into this folder")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args()


def _keep(folder: Path, outcome: Outcome) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = "\n".join([*outcome.wrong, "", outcome.story])
    (folder / f"{outcome.plan.name.replace(':', '-')}.txt").write_text(told)


if __name__ == "__main__":
    sys.exit(main())
