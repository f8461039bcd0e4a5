"""What comes in and goes out: a request taken apart, an answer with the way in which it is delivered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Literal

from tests.elevenlabs.refusals import Invalid


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a multipart body."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A call: where to, with what. `arrived` is when, in seconds of a monotonic clock."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    request_id: str
    arrived: float
    parts: tuple[str, ...] = ()
    """What the route's pattern found in the path."""

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            Invalid: it is none.
        """
        try:
            found = json.loads(self.body)
        except ValueError as error:
            raise Invalid((("body",), f"JSON decode error: {error}")) from error
        if not isinstance(found, dict):
            raise Invalid((("body",), "Input should be a valid dictionary"))
        return found

    def form(self) -> tuple[dict[str, str], dict[str, list[Upload]]]:
        """Return fields and files of a multipart body; another body has none."""
        kind = self.headers.get("content-type", "")
        if not kind.startswith("multipart/form-data"):
            return {}, {}
        message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + self.body)
        fields: dict[str, str] = {}
        files: dict[str, list[Upload]] = {}
        for part in message.iter_parts():
            name = str(part.get_param("name", "", header="content-disposition"))
            content = part.get_payload(decode=True)
            data = content if isinstance(content, bytes) else b""
            if (file_name := part.get_filename()) is not None:
                files.setdefault(name, []).append(Upload(file_name, part.get_content_type(), data))
            else:
                fields[name] = data.decode()
        return fields, files


Delivery = Literal["whole", "in_pieces", "cut", "never"]
"""`cut` breaks the connection halfway; `never` leaves the caller waiting."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered, and how it gets there. `pieces` instead of `body` are sent one by one."""

    body: bytes = b""
    content_type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delivery: Delivery = "whole"
    pieces: tuple[bytes, ...] = ()


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer of JSON."""
    return Answer(json.dumps(value).encode(), status=status, headers=headers or {})
