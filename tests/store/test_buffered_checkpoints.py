"""Chunks that wait on this machine, and go to a store far away several at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avatar_pipeline.store.checkpoints import BufferedCheckpoints, FolderCheckpoints


class Far(FolderCheckpoints):
    """A store that may be out of reach."""

    broken: frozenset[str] = frozenset()

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        with super().put(name) as path:
            yield path
            if name in self.broken:
                raise ConnectionError(name)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.bin"))


@pytest.fixture
def far(tmp_path: Path) -> Far:
    return Far(tmp_path / "far")


class Bench:
    def __init__(self, far: Far, folder: Path) -> None:
        self.due = False
        self.saves: list[float] = []
        self.checkpoints = BufferedCheckpoints(
            far, folder, due=lambda: self.due, saved=self.saves.append, stopwatch=iter(range(100)).__next__
        )

    def make(self, *names: str) -> None:
        for name in names:
            with self.checkpoints.put(name) as path:
                path.write_bytes(name.encode())


@pytest.fixture
def bench(far: Far, tmp_path: Path) -> Bench:
    return Bench(far, tmp_path / "here")


def test_chunks_wait_until_a_save_is_due_and_then_go_together(bench: Bench, far: Far) -> None:
    bench.make("a.bin", "b.bin")
    assert far.names == [] and bench.saves == []
    bench.due = True
    bench.make("c.bin")
    assert far.names == ["a.bin", "b.bin", "c.bin"]
    assert bench.saves == [1], "one save, which took a second"
    saved = far.get("a.bin")
    assert saved is not None and saved.read_bytes() == b"a.bin"
    bench.checkpoints.flush()
    assert bench.saves == [1], "and nothing is saved twice"


def test_a_chunk_is_found_before_it_is_saved_and_stays_where_it_was_found(bench: Bench, far: Far) -> None:
    """As the tracker and the plate do, which keep the path for the end."""
    bench.make("a.bin")
    path = bench.checkpoints.get("a.bin")
    assert path is not None
    bench.checkpoints.flush()
    assert path.read_bytes() == b"a.bin"
    assert bench.checkpoints.get("a.bin") == path
    assert bench.checkpoints.get("b.bin") is None
    with far.put("b.bin") as made_elsewhere:
        made_elsewhere.write_bytes(b"b")
    found = bench.checkpoints.get("b.bin")
    assert found is not None and found.read_bytes() == b"b"


def test_what_a_killed_process_left_waiting_is_found_and_saved_with_the_rest(
    bench: Bench, far: Far, tmp_path: Path
) -> None:
    bench.make("a.bin")
    next_one = Bench(far, tmp_path / "here")
    assert next_one.checkpoints.get("a.bin") is not None
    next_one.checkpoints.flush()
    assert far.names == ["a.bin"]


def test_what_could_not_be_saved_is_tried_again_with_the_next(bench: Bench, far: Far) -> None:
    far.broken = frozenset({"b.bin"})
    bench.make("a.bin", "b.bin")
    with pytest.raises(ConnectionError):
        bench.checkpoints.flush()
    assert far.names == ["a.bin"] and bench.saves == [], "a save that failed says nothing of what one costs"
    far.broken = frozenset()
    bench.checkpoints.flush()
    assert far.names == ["a.bin", "b.bin"]


def test_a_chunk_that_failed_in_the_making_is_not_kept(bench: Bench, far: Far) -> None:
    with pytest.raises(ZeroDivisionError), bench.checkpoints.put("a.bin") as path:
        path.write_bytes(b"half")
        raise ZeroDivisionError
    bench.checkpoints.flush()
    assert far.names == [] and bench.checkpoints.get("a.bin") is None
