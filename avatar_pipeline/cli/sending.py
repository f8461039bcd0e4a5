"""Requests on their way to the queues: checked as the other end will check them, before anything is sent."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from avatar_pipeline.consent import read_consent, recording_beside
from avatar_pipeline.errors import AvatarError, Conflict, InvalidInput
from avatar_pipeline.ledger.messages import AvatarRequest, Request
from avatar_pipeline.ledger.records import RequestKind
from avatar_pipeline.queues.parse import dump, parse
from avatar_pipeline.queues.types import QueueUnavailable, WorkQueue
from avatar_pipeline.settings import Settings
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.uploads import (
    UploadField,
    is_upload,
    keep_recording,
    keep_upload,
    require_under_uploads,
    require_upload,
)

PAGE = 500
"""Messages sent at one call: what a failure half-way leaves in doubt."""
_SPAN = re.compile(r"\+(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_ANY = "/checked-later"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request and the queue that it is for."""

    kind: RequestKind
    request: Request

    @property
    def body(self) -> str:
        """The message."""
        return dump(self.request)


def queue_of(line: Line, kind: str) -> WorkQueue:
    """Return the queue for a kind of request."""
    return line.queues.clips if kind == "clip" else line.queues.avatars


def read_deadline(text: str | None, now: datetime) -> datetime | None:
    """Return the time that a user wrote: ISO 8601 with a zone, or a span from now such as '+10m'.

    Raises:
        InvalidInput: it is neither, or it is over.
    """
    if text is None:
        return None
    if span := _SPAN.fullmatch(text):
        return now + timedelta(**{_UNITS[span[2]]: int(span[1])})
    remedy = "Write it as 2026-12-24T18:00:00Z, or as a span from now: +30s, +10m, +2h, +1d."
    try:
        deadline = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--deadline {text[:40]!r} is not a time.", remedy=remedy) from None
    if deadline.tzinfo is None:
        raise InvalidInput(f"--deadline {text[:40]!r} has no time zone.", remedy=remedy)
    try:
        deadline = deadline.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"--deadline {text[:40]!r} is in no year from 1 to 9999.", remedy=remedy) from None
    if deadline <= now:
        raise InvalidInput(f"--deadline {text[:40]!r} is over.", remedy="Give a time to come.")
    return deadline


def clip_request(values: Mapping[str, Any], now: datetime) -> Outgoing:
    """Return a clip request of the fields that were given (None: not given), with an id of its own if it has none.

    Raises:
        InvalidInput: a field cannot be used; the message names it.
    """
    name = values.get("request_id") or f"clip-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    return _checked(dict(values) | {"request_id": name}, "clip")


def avatar_request(settings: Settings, values: Mapping[str, Any], video: str, consent: str, now: datetime) -> Outgoing:
    """Bring a video and a consent to the uploads place and return the request that names them.

    Both are local files, or URIs of files that lie there already. Everything that can be checked without decoding the
    video is checked before anything is copied.

    Raises:
        InvalidInput: a field, the video's size or the consent cannot be used.
    """
    wanted = _checked({**values, "video_uri": _ANY, "consent_uri": _ANY}, "avatar").request
    places: dict[UploadField, str] = {
        "video_uri": _place(settings, video, "video_uri"),
        "consent_uri": _place(settings, consent, "consent_uri"),
    }
    for field, place in places.items():
        if is_upload(settings, place):
            require_upload(settings, place, field)
    recording = None
    if not places["consent_uri"].startswith("s3://"):
        record = read_consent(Path(places["consent_uri"]))
        recording = recording_beside(Path(places["consent_uri"]), record)
        record.require("likeness", now)
        if isinstance(wanted, AvatarRequest) and wanted.voice.startswith("enrol:"):
            record.require("voice", now)
    kept: dict[str, str] = {
        field: place if is_upload(settings, place) else keep_upload(settings, Path(place), field)
        for field, place in places.items()
    }
    if recording is not None and kept["consent_uri"] != places["consent_uri"]:
        keep_recording(settings, recording, kept["consent_uri"], recording.name)
    return _checked({**values, **kept}, "avatar")


def read_requests(settings: Settings, lines: Iterable[bytes], name: str) -> list[Outgoing]:
    """Read requests, one JSON object a line, each with its `kind`; empty lines are passed over.

    Raises:
        InvalidInput: a line cannot be used; the message has its number and the field. `name` is the file's.
        Conflict: two lines have one request id and different content.
    """
    found: list[Outgoing] = []
    seen: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = _read_line(line)
            if isinstance(item.request, AvatarRequest):
                require_under_uploads(settings, item.request.video_uri, "video_uri")
                require_under_uploads(settings, item.request.consent_uri, "consent_uri")
        except AvatarError as error:
            raise InvalidInput(f"{name}, line {number}: {error.message}", remedy=error.remedy) from error
        before, body = seen.setdefault(item.request.request_id, (number, item.body))
        if body != item.body:
            raise Conflict(
                f"{name}, line {number}: request_id {item.request.request_id} is that of line {before}, "
                "which asks for something else.",
                remedy="Give every request an id of its own.",
            )
        found.append(item)
    return found


def send(line: Line, items: Sequence[Outgoing]) -> list[str]:
    """Send requests in order, each to the queue of its kind; return the ids of the messages.

    Raises:
        QueueUnavailable: a queue cannot be reached; the message says how many were sent before.
    """
    ids: list[str] = []
    for kind in dict.fromkeys(item.kind for item in items):
        bodies = [item.body for item in items if item.kind == kind]
        for start in range(0, len(bodies), PAGE):
            try:
                ids += queue_of(line, kind).send(bodies[start : start + PAGE])
            except QueueUnavailable as error:
                again = f" with --request-id {items[0].request.request_id}" if len(items) == 1 else ""
                raise QueueUnavailable(
                    f"{error.message} {len(ids):,} of {len(items):,} requests were sent.",
                    remedy=f"{error.remedy} Then send again{again}: an id that is known already changes nothing.",
                ) from error
    return ids


def _checked(values: Mapping[str, Any], kind: RequestKind) -> Outgoing:
    given = {name: value for name, value in values.items() if value is not None}
    return Outgoing(kind, parse(json.dumps(given, default=_plain), kind))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _read_line(line: bytes) -> Outgoing:
    remedy = 'Write one JSON object a line, such as {"kind": "clip", "request_id": "a-1", "avatar_id": ...}.'
    try:
        values = json.loads(line, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("it is not JSON.", remedy=remedy) from error
    if not isinstance(values, dict):
        raise InvalidInput("it is not a JSON object.", remedy=remedy)
    match values.pop("kind", None):
        case "clip":
            return Outgoing("clip", parse(json.dumps(values), "clip"))
        case "avatar":
            return Outgoing("avatar", parse(json.dumps(values), "avatar"))
    raise InvalidInput("kind is neither 'clip' nor 'avatar'.", remedy=remedy)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise InvalidInput("a field is given twice.", remedy="Leave one of them out.")
    return values


def _place(settings: Settings, text: str, field: UploadField) -> str:
    """Return a URI as it is, a local path as an absolute one."""
    if "://" in text:
        require_under_uploads(settings, text, field)
        return text
    return os.path.abspath(text)  # noqa: PTH100 (unlike Path.absolute, it takes out '..')
