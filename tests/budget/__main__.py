"""A budget that pays for some of many clips, from the command line.

    python -m tests.budget --clips 40 --affordable 10 --kills 2

It exits with 1 if anything was done that could not be paid for, or not done that could.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.budget.trial import TEXTS, Trial, run_trial
from tests.budget.verdict import judge
from tests.conftest import run_avatar
from tests.elevenlabs.server import StandIn


def main() -> int:
    """Run one trial and judge it."""
    parser = argparse.ArgumentParser(prog="python -m tests.budget", description=__doc__)
    parser.add_argument("--clips", type=int, default=40, choices=range(2, len(TEXTS) + 1), metavar="N")
    parser.add_argument("--affordable", type=int, default=10, metavar="N")
    parser.add_argument("--kills", type=int, default=2, choices=range(3), help="how often the daemon is killed")
    parser.add_argument("--keep", type=Path, help="keep everything in this folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="budget-")) if options.keep is None else options.keep.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with StandIn() as standin:
        trial = Trial(
            clips=options.clips,
            affordable=options.affordable,
            folder=folder,
            ready_home=_ready_home(folder),
            standin_url=standin.url,
            standin_key=standin.api_key,
            billed=lambda: standin.report().credits_billed,
            kills=options.kills,
        )
        outcome = run_trial(trial, lambda told: _say(f"{told}\n"))
        wrong = judge(trial, outcome)
    _say(
        f"{len(outcome.done)} of {trial.clips} done, {len(outcome.held)} held, then {len(outcome.done_at_last)} done; "
    )
    _say(f"{outcome.kills} daemons killed; seconds: {outcome.seconds}\n")
    _say("".join(f"wrong: {sentence}\n" for sentence in wrong) or "All as the budget says.\n")
    if options.keep is None and not wrong:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _ready_home(folder: Path) -> Path:
    from avatar_pipeline.sample.upload import make_sample_upload

    upload, ready = folder / "upload", folder / "ready"
    _say("Making the sample upload and its avatar ...\n")
    make_sample_upload(upload, seconds=4.0, size=320)
    run_avatar(ready, "create", "ada", upload / "sample.mp4", "--consent", upload / "consent.json")
    return ready


def _say(told: str) -> None:
    sys.stderr.write(told)
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
