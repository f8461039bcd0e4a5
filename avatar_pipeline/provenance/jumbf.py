"""The salts inside content credentials, made the same each time, so that the same work gives the same bytes.

C2PA salts each assertion at random, so that nobody can guess what an assertion said that was taken out later. We take
none out; and a random salt would make two workers that finish the same clip publish different files under one name.
Boxes: ISO 19566-5 (JUMBF); hashes of assertions: https://spec.c2pa.org, "Hashing JUMBF boxes".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_HEADER = 8
_SALT_BYTES = 16
_LABEL = _HEADER + 17  # after the description box's header: a type of 16 bytes, and one byte of toggles


@dataclass(frozen=True, slots=True)
class _Salted:
    """A superbox with a salt: where it is, where its salt is, and its label."""

    start: int
    end: int
    salt: int
    label: bytes


def settle_salts(
    manifest: bytes, signed: bytes, signature: bytes, name: str, sign: Callable[[bytes], bytes]
) -> bytes | None:
    """Return `manifest` with salts that follow from `name`, signed again; None if it is not built as expected.

    Args:
        manifest: the credentials as they were embedded.
        signed: what was signed, the claim in it.
        signature: the signature that it got.
        name: what the salts are to follow from.
        sign: signs what has changed; the signature has the length of the one before.
    """
    changed = bytearray(manifest)
    for box in _salted(manifest, 0, len(manifest)):
        before = _hash(changed, box)
        salt = hashlib.sha256(name.encode() + b"/" + box.label).digest()[:_SALT_BYTES]
        changed[box.salt : box.salt + _SALT_BYTES] = salt
        after = _hash(changed, box)
        if changed.count(before) != 1 or signed.count(before) != 1:
            return None
        changed = changed.replace(before, after)
        signed = signed.replace(before, after)
    again = sign(signed)
    if changed.count(signature) != 1 or len(again) != len(signature):
        return None
    return bytes(changed.replace(signature, again))


def _hash(data: bytes | bytearray, box: _Salted) -> bytes:
    return hashlib.sha256(data[box.start + _HEADER : box.end]).digest()


def _salted(data: bytes, start: int, end: int) -> Iterator[_Salted]:
    for begin, stop, kind in _boxes(data, start, end):
        if kind != b"jumb":
            continue
        inner = list(_boxes(data, begin + _HEADER, stop))
        if inner and inner[0][2] == b"jumd":
            description, described, _ = inner[0]
            closes = data.find(b"\0", description + _LABEL, described)
            label = data[description + _LABEL : closes]
            for private, _, kind_of_private in _boxes(data, closes + 1, described) if closes > 0 else ():
                if kind_of_private == b"c2sh":
                    yield _Salted(begin, stop, private + _HEADER, label)
        yield from _salted(data, begin + _HEADER, stop)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield start, end and type of the boxes one after the other; stop at what is none."""
    while start + _HEADER <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        if not _HEADER <= size <= end - start:
            return
        yield start, start + size, data[start + 4 : start + _HEADER]
        start += size
