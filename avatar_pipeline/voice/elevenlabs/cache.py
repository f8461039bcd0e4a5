"""Speech that was paid for, on disk under what it was made from: whoever asks again does not pay again."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from filelock import FileLock, Timeout

from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.voice.elevenlabs.answers import Alignment

_MAGIC = b"avatar-speech-1\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
SUFFIX = ".speech"
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Take:
    """One part as it was spoken: 16-bit PCM at 24 kHz, when each character is said, and what it cost.

    `request_id` is the provider's name for the call that was paid for. `forced` says that the times are those of forced
    alignment, which ends with the last letter.
    """

    pcm: bytes
    alignment: Alignment | None
    credits: Decimal
    request_id: str | None
    forced: bool = False


def address_of(**made_from: object) -> str:
    """Return the address of what is made from these values (JSON): the same for the same, whoever asks."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class SpeechCache:
    """Takes in a local folder, one folder a voice, each file whole or not there. A damaged one counts as not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, voice_key: str, address: str) -> Take | None:
        """Return what was kept under an address."""
        try:
            content = self._path(voice_key, address).read_bytes()
        except FileNotFoundError:
            return None
        return _read(content)

    def put(self, voice_key: str, address: str, take: Take) -> None:
        """Keep a take; when this returns it is on disk."""
        path, content = self._path(voice_key, address), _written(take)
        for tries_left in reversed(range(_TRIES)):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with atomic_file(path) as temporary:
                    temporary.write_bytes(content)
                return
            except FileNotFoundError:
                # The voice was deleted just now, folder and all. Whether this may be kept, others decide.
                if not tries_left:
                    raise

    @contextmanager
    def at_work(self, address: str) -> Iterator[bool]:
        """Hold an address for as long as the block runs; gives false if another on this machine holds it.

        There are 4,096 locks for all addresses, so that they need not be tidied up: two that share one are done one
        after the other.
        """
        path = self._folder / ".locks" / address[:3]
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def remove_voice(self, voice_key: str) -> None:
        """Delete all that is kept of a voice."""
        shutil.rmtree(self._folder / _safe(voice_key), ignore_errors=True)

    def prune(self, days: float, now: float | None = None) -> int:
        """Delete what was kept longer ago than that; return how many takes."""
        before = (time.time() if now is None else now) - days * 86_400
        old = [path for path in self._folder.glob(f"*/*{SUFFIX}") if _modified(path) < before]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _path(self, voice_key: str, address: str) -> Path:
        return self._folder / _safe(voice_key) / (address + SUFFIX)


def _modified(path: Path) -> float:
    """Return when a file was modified; the end of time if another worker has just renamed or deleted it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _safe(voice_key: str) -> str:
    """Return a voice's key as the name of a folder; one that is none (it came from outside) is hashed."""
    return voice_key if _NAME.fullmatch(voice_key) else hashlib.sha256(voice_key.encode()).hexdigest()


def _written(take: Take) -> bytes:
    facts = {
        "alignment": None if take.alignment is None else asdict(take.alignment),
        "credits": str(take.credits),
        "request_id": take.request_id,
        "forced": take.forced,
    }
    header = json.dumps(facts).encode()
    body = len(header).to_bytes(4, "big") + header + take.pcm
    return _MAGIC + hashlib.sha256(body).digest() + body


def _read(content: bytes) -> Take | None:
    start = len(_MAGIC)
    digest, body = content[start : start + 32], content[start + 32 :]
    if content[:start] != _MAGIC or hashlib.sha256(body).digest() != digest:
        return None
    length = int.from_bytes(body[:4], "big")
    facts = json.loads(body[4 : 4 + length])
    times = facts["alignment"]
    return Take(
        pcm=body[4 + length :],
        alignment=None
        if times is None
        else Alignment(tuple(times["characters"]), tuple(times["starts"]), tuple(times["ends"])),
        credits=Decimal(facts["credits"]),
        request_id=facts["request_id"],
        forced=facts["forced"],
    )
