from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import StoreCorrupt
from avatar_pipeline.face.track_file import read_track, write_track
from avatar_pipeline.face.types import LandmarkTrack


def random_track(seed: int, rows: int, scores: int) -> LandmarkTrack:
    rng = np.random.default_rng(seed)
    found = rng.random(rows) < 0.7

    def floats(*shape: int) -> np.ndarray:
        values = rng.normal(size=(rows, *shape)).astype(np.float32)
        values[~found] = np.nan
        return values

    return LandmarkTrack(
        width=int(rng.integers(128, 4096)),
        height=int(rng.integers(128, 4096)),
        time_base=Fraction(1, int(rng.integers(1, 100_000))),
        pts=np.cumsum(rng.integers(1, 4000, rows)) - 1000,
        found=found,
        landmarks=floats(478, 3),
        angles=floats(3),
        blur=floats(),
        face_size=floats(),
        blendshapes=floats(scores) if scores else None,
        blendshape_names=tuple(f"score{index}" for index in range(scores)),
        detector="a-detector 1.2.3+abc",
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0, 1, 51]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_track_comes_back_exactly_and_is_written_the_same_twice(
    tmp_path: Path, seed: int, rows: int, scores: int
) -> None:
    track = random_track(seed, rows, scores)
    write_track(tmp_path / "a.parquet", track)
    write_track(tmp_path / "b.parquet", track)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    back = read_track(tmp_path / "a.parquet")
    for name in ("width", "height", "time_base", "blendshape_names", "detector"):
        assert getattr(back, name) == getattr(track, name)
    for name in ("pts", "found", "landmarks", "angles", "blur", "face_size", "blendshapes"):
        one, other = getattr(back, name), getattr(track, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def test_a_track_longer_than_a_row_group_comes_back_whole(tmp_path: Path) -> None:
    track = random_track(1, 1500, 0)
    write_track(tmp_path / "long.parquet", track)
    assert read_track(tmp_path / "long.parquet").landmarks.tobytes() == track.landmarks.tobytes()


def test_any_data_tool_can_read_a_row_a_frame(tmp_path: Path) -> None:
    import pandas as pd

    track = random_track(2, 5, 51)
    write_track(tmp_path / "track.parquet", track)
    table = pd.read_parquet(tmp_path / "track.parquet", engine="pyarrow")
    assert list(table["index"]) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(table["seconds"], track.seconds)
    np.testing.assert_array_equal(np.stack(table["landmarks"].tolist()), track.landmarks.reshape(5, -1))
    np.testing.assert_array_equal(table["yaw"], track.angles[:, 0])


@pytest.mark.parametrize("kind", ["missing", "text", "truncated", "another table", "empty"])
def test_anything_else_than_a_track_is_store_corruption(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "landmarks.parquet"
    if kind == "text":
        path.write_text("not a table")
    elif kind == "truncated":
        write_track(path, random_track(3, 4, 0))
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "another table":
        pq.write_table(pa.table({"index": [1, 2]}), path)
    elif kind == "empty":
        path.touch()
    with pytest.raises(StoreCorrupt, match=r"landmarks\.parquet is not a landmark track"):
        read_track(path)


def test_a_failed_write_leaves_the_old_track(tmp_path: Path) -> None:
    path = tmp_path / "track.parquet"
    write_track(path, random_track(4, 3, 0))
    before = path.read_bytes()
    broken = random_track(5, 3, 0)
    object.__setattr__(broken, "blur", np.zeros(1, np.float32))
    with pytest.raises(ValueError):
        write_track(path, broken)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
