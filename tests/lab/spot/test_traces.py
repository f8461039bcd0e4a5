"""Reading traces, and cutting windows out of them."""

import json
from pathlib import Path

import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.spot.traces import Trace, read_trace, read_traces


def write_json(file: Path, data: list[object], gap: object = 600) -> Path:
    file.write_text(json.dumps({"metadata": {"gap_seconds": gap}, "data": data}))
    return file


def test_a_tick_has_what_was_available_as_it_began(tmp_path: Path) -> None:
    file = write_json(tmp_path / "a.json", [1, 1, 0, 0, 1, 1, 1, 0], gap=195)
    # Ticks begin at 0 s and 600 s, in gaps 0 and 3; the last 360 s are no whole tick.
    assert read_trace(file, tick_seconds=600).available == (True, False)


def test_a_job_on_several_nodes_needs_all_of_them(tmp_path: Path) -> None:
    file = write_json(tmp_path / "a.json", [0, 3, 4, 16])
    assert read_trace(file, tick_seconds=600, nodes=4).available == (False, False, True, True)


def test_a_csv_row_holds_until_the_next(tmp_path: Path) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text("seconds,instances\n0,0\n700,0\n700,4\n1300,0\n2400,1\n")
    assert read_trace(file, tick_seconds=600).available == (False, False, True, False)


def test_a_folder_gives_its_traces_by_name_and_leaves_other_files_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "b.json", [1, 0])
    write_json(tmp_path / "a.json", [0, 0, 1, 1])
    (tmp_path / "README.md").write_text("about")
    assert [(trace.name, trace.share) for trace in read_traces(tmp_path, tick_seconds=600)] == [("a", 0.5), ("b", 0.5)]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "{", "Expecting property name"),
        ("a.json", "[1, 0]", "the document is not an object"),
        ("a.json", '{"data": [1]}', "metadata is missing"),
        ("a.json", '{"metadata": {"gap_seconds": 0}, "data": [1]}', "metadata.gap_seconds is 0"),
        ("a.json", '{"metadata": {"gap_seconds": 600}, "data": []}', "data is not a list of numbers"),
        ("a.json", '{"metadata": {"gap_seconds": 600}, "data": [1, null]}', "data[1] is not a number"),
        ("a.json", '{"metadata": {"gap_seconds": 600}, "data": [NaN, 1]}', "data[0] is 'nan', not a number"),
        ("a.json", '{"metadata": {"gap_seconds": 60}, "data": [1, 1]}', "120 s are 0 ticks of 600 s"),
        ("a.csv", "seconds,instances\n", "fewer than two rows"),
        ("a.csv", "0,1\n10\n", "list index out of range"),
        ("a.csv", "0,1\n900,1\n800,1\n", "its times go backwards"),
        ("a.csv", "0,1\nsoon,1\n", "row 2 is 'soon', not a number"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong_in_one_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_traces(tmp_path, tick_seconds=600)
    assert told in caught.value.message
    assert str(tmp_path / name) in caught.value.message
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"a\.json: not a trace"):
        read_traces(tmp_path, tick_seconds=600)


def test_no_folder_and_no_trace_are_different_errors(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no such folder"):
        read_traces(tmp_path / "gone", tick_seconds=600)
    with pytest.raises(InvalidInput, match="there is no trace in it"):
        read_traces(tmp_path, tick_seconds=600)


def test_windows_are_settled_by_seed_and_name() -> None:
    pattern = tuple(tick % 7 < tick % 5 for tick in range(1000))
    trace = Trace("a", 600, pattern)
    cut = trace.windows(20, 100, seed=1)
    assert cut == trace.windows(20, 100, seed=1)
    assert cut != trace.windows(20, 100, seed=2)
    assert cut != Trace("b", 600, pattern).windows(20, 100, seed=1)
    assert {len(window) for window in cut} == {100}
    assert all(any(pattern[start : start + 100] == window for start in range(901)) for window in cut)


def test_a_trace_shorter_than_a_window_gives_all_it_has() -> None:
    assert Trace("a", 600, (True, False)).windows(2, 100, seed=0) == [(True, False)] * 2
