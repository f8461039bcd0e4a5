"""The budget end to end, under a `dagster dev` of its own; `python -m tests.budget` has the large one, with kills."""

from pathlib import Path

import pytest

from tests.budget.trial import Trial, run_trial
from tests.budget.verdict import judge
from tests.elevenlabs.server import StandIn


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found by what Linux shows of them")
def test_what_can_be_paid_for_is_done_and_the_rest_waits_until_the_limit_is_raised(
    ready_home: Path, tmp_path: Path, elevenlabs_standin: StandIn
) -> None:
    trial = Trial(
        clips=8,
        affordable=3,
        folder=tmp_path,
        ready_home=ready_home,
        standin_url=elevenlabs_standin.url,
        standin_key=elevenlabs_standin.api_key,
        billed=lambda: elevenlabs_standin.report().credits_billed,
    )
    told: list[str] = []
    outcome = run_trial(trial, told.append)
    assert judge(trial, outcome) == [], told
