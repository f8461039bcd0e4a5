"""`avatar lab spot`, as a user meets it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avatar_pipeline.cli.lab import lab_app
from avatar_pipeline.errors import InvalidInput

QUICK = ["--job-hours", "4", "--deadline-hours", "5", "--restart-minutes", "3", "--windows", "2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, length in (("a", 7), ("b", 5)):
        data = [int(index % length > 1) for index in range(600)]
        (tmp_path / f"{name}.json").write_text(json.dumps({"metadata": {"gap_seconds": 600}, "data": data}))
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(lab_app, ["spot", "--traces", str(folder), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_json_rows_hold_what_was_asked_for(folder: Path) -> None:
    rows = json.loads(run(folder, *QUICK, "--restart-minutes", "12", "--by-pool", "--json")[0])
    assert len(rows) == 5 * 2 * 3
    assert {"policy", "deadline_h", "restart_s", "cost_ratio", "misses", "launches", "pool"} <= set(rows[0])
    ours = [row for row in rows if row["policy"] == "deadline-aware"]
    settings = {(row["deadline_h"], row["restart_s"], row["pool"]) for row in ours}
    assert settings == {(5.0, restart, pool) for restart in (180, 720) for pool in ("all", "a", "b")}
    assert all(row["misses"] == 0 and row["cost_ratio"] >= 1 for row in ours)


def test_the_same_seed_gives_the_same_rows(folder: Path) -> None:
    assert run(folder, *QUICK, "--json") == run(folder, *QUICK, "--json")


def test_a_person_gets_a_table(folder: Path) -> None:
    table, _ = run(folder, *QUICK)
    assert "2 windows of each of 2 traces" in table
    assert "uniform-progress" in table


def test_a_trace_too_short_is_left_out_and_named(folder: Path) -> None:
    (folder / "short.csv").write_text("0,1\n6000,1\n")
    rows, told = run(folder, *QUICK, "--by-pool", "--json")
    assert {row["pool"] for row in json.loads(rows)} == {"all", "a", "b"}
    assert "short" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--traces", "nowhere"], "there is no such folder"),
        (["--deadline-hours", "4"], "cannot be met"),
        (["--deadline-hours", "200"], "longest trace"),
        (["--deadline-hours", "nan"], "--deadline-hours is nan"),
        (["--restart-minutes", "-1"], "--restart-minutes is -1"),
        (["--spot-price", "cheap"], "--spot-price is 'cheap'"),
        (["--on-demand-price", "0"], "--on-demand-price is '0'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        run(folder, "--job-hours", "4", *arguments)
    assert told in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
