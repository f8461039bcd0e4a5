from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.media.structure import declared_end
from tests.media.samples import write_video

_box_types = st.sampled_from([b"ftyp", b"moov", b"mdat", b"free", b"moof", b"sidx"])
_boxes = st.lists(st.tuples(_box_types, st.binary(max_size=60), st.booleans()), min_size=1, max_size=8)


def _box(kind: bytes, body: bytes, *, is_large: bool) -> bytes:
    if is_large:
        return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), kind) + body


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("structure") / "file"


@settings(max_examples=100, deadline=None)
@given(boxes=_boxes, data=st.data())
def test_whole_boxes_end_with_the_file_and_cut_boxes_after_it(
    path: Path, boxes: list[tuple[bytes, bytes, bool]], data: st.DataObject
) -> None:
    written = [_box(kind, body, is_large=large) for kind, body, large in boxes]
    whole = b"".join(written)
    path.write_bytes(whole)
    assert declared_end(path, "mp4") == len(whole)
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    inside = len(whole) - len(written[-1])
    if cut >= inside + 16:  # enough of the last box is left to read its length
        assert declared_end(path, "mp4") == len(whole)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), container=st.sampled_from(["mp4", "webm"]))
def test_any_bytes_at_all_are_survived(path: Path, content: bytes, container: str) -> None:
    path.write_bytes(content)
    assert declared_end(path, container) >= 0


@pytest.mark.parametrize("tail", [b"\x00" * 40, b"\x00" * 3, b"\xff\xfe\x01\x02" * 6])
def test_stray_bytes_after_the_last_box_are_no_box(tmp_path: Path, tail: bytes) -> None:
    path = write_video(tmp_path / "v.mp4", frames=2)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + tail)
    assert declared_end(path, "mp4") in {size, size + len(tail)}


def test_matroska_says_where_it_ends_unless_it_was_recorded_live(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=30)
    whole = path.read_bytes()
    assert declared_end(path, "matroska") == len(whole)
    path.write_bytes(whole[:-10])
    assert declared_end(path, "matroska") == len(whole)
    live = write_video(tmp_path / "live.webm", frames=30, codec="libvpx", container_options={"live": "1"})
    assert declared_end(live, "webm") == live.stat().st_size
