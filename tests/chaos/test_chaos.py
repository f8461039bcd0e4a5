"""The crash test, small enough for every run of the suite. `make chaos` has the large one, on PostgreSQL too."""

from pathlib import Path

import pytest

from tests.chaos.harness import Trial, run_trial


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found by their environment, as Linux shows it")
def test_whatever_is_killed_every_request_is_done_exactly_once(
    ready_home: Path, sample_upload: Path, tmp_path: Path
) -> None:
    trial = Trial(
        requests=24,
        kills=5,
        seed=1,
        database="sqlite",
        ready_home=ready_home,
        upload=sample_upload,
        folder=tmp_path / "home",
        avatars=(),
        mean_kill_seconds=2.0,
        deadline_seconds=600.0,
        group_size=6,
    )
    outcome = run_trial(trial)
    assert outcome.wrong == [], "\n".join([*outcome.wrong, *outcome.timeline])
