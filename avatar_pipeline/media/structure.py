"""Does a file end where its own outermost elements say? The cheapest proof that a transfer broke off."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SEGMENT = bytes.fromhex("18538067")
_EBML = bytes.fromhex("1a45dfa3")
_MAX_BOXES = 100_000


def declared_end(path: Path, container: str) -> int:
    """Return the byte at which the outermost boxes (ISO/IEC 14496-12, 4.2) or elements (RFC 8794, 4) say they end.

    `container` is as `container_of` gives it. Elements of open length (live recordings) end where the file ends. A
    value above the file's size means that its end is missing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = _boxes(file, size) if container in {"mp4", "mov"} else _elements(file, size)
        return max(ends, default=0)


def _boxes(file: BinaryIO, size: int) -> Iterator[int]:
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        # Writers leave zeros or stray bytes after the last box; a box has a printable four-letter type.
        if len(head) < 8 or not head[4:8].isalnum():
            return
        length = int(struct.unpack(">I", head[:4])[0])
        if length == 1 and len(head) == 16:
            length = int(struct.unpack(">Q", head[8:])[0])
        if length == 0:
            yield size
            return
        if length < 8:
            return
        position += length
        yield position
        if position >= size:
            return


def _elements(file: BinaryIO, size: int) -> Iterator[int]:
    position = 0
    for identifier in (_EBML, _SEGMENT):
        file.seek(position)
        if file.read(4) != identifier:
            return
        first = file.read(1)
        if not first or not first[0]:
            return
        width = 9 - first[0].bit_length()
        value = int.from_bytes(bytes([first[0] & (0xFF >> width)]) + file.read(width - 1), "big")
        if value == (1 << 7 * width) - 1:
            yield size
            return
        position += 4 + width + value
        yield position
