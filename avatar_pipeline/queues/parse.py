"""Messages that anybody may have written, read with suspicion: a request, or a reason that says what is wrong."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, NoReturn

from pydantic import AwareDatetime, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from avatar_pipeline.errors import AvatarError, InvalidId, InvalidInput, InvalidText
from avatar_pipeline.ids import require_slug
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest, Request
from avatar_pipeline.ledger.records import RequestKind
from avatar_pipeline.queues.limits import LARGEST_BODY
from avatar_pipeline.voice.text import check_text

MODELS: dict[RequestKind, type[ClipRequest] | type[AvatarRequest]] = {"clip": ClipRequest, "avatar": AvatarRequest}
VERSIONS = (1,)
_DEEPEST = 8
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)
_IDS = ("request_id", "avatar_id", "tenant")
_TEXTS = ("text", "greeting")


class MalformedMessage(InvalidInput):
    """A message is no request that this version understands. It names the field and the limit, never the content."""

    code = "malformed_message"


def dump(request: Request) -> str:
    """Return a request as the body of a message: compact JSON, with its version and all defaults written out."""
    return request.model_dump_json(exclude_none=True)


def parse(body: str, kind: RequestKind) -> Request:
    """Return the request that a message from the queue of that kind carries.

    Types are strict: a number in quotes is no number. What the text or a URL says is in no error, for reasons are
    shown in the dead-letter queue and in logs.

    Raises:
        MalformedMessage: it is not JSON, no object, of an unknown version, or a field is missing, unknown, given
            twice, of another type, or out of its limits.
    """
    values = _read(body)
    version = values.get("version", 1)
    if type(version) is not int or version not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        _refuse(f"version is not one that is known here ({known})")
    values |= _deadline(values)
    try:
        return MODELS[kind].model_validate(values, strict=True)
    except ValidationError as error:
        _refuse(_describe(error), kind)
    except AvatarError as error:
        # The validators of ids and texts raise our own errors, which do not say which field it was.
        _refuse(_describe_value(values, error), kind)


def _deadline(values: dict[str, Any]) -> dict[str, datetime]:
    """Return the deadline as a time, if it is a text: a strict model would refuse that."""
    value = values.get("deadline")
    if not isinstance(value, str):
        return {}
    try:
        return {"deadline": _TIME.validate_json(json.dumps(value), strict=True)}
    except ValidationError as error:
        _refuse(f"deadline{_describe(error).removeprefix('The message')}")


def _read(body: str) -> dict[str, Any]:
    if len(body) > LARGEST_BODY or len(body.encode(errors="replace")) > LARGEST_BODY:
        _refuse(f"The message is larger than {LARGEST_BODY:,} bytes")
    try:
        values = json.loads(body, object_pairs_hook=_pairs, parse_constant=_constant)
    except RecursionError:
        _refuse(f"The message is nested more than {_DEEPEST} deep")
    except json.JSONDecodeError as error:
        _refuse(f"The message is not JSON: {error.msg} at character {error.pos}")
    except ValueError:
        # Python's own limit for the digits of an integer.
        _refuse("The message holds a number of too many digits")
    if not isinstance(values, dict):
        _refuse("The message is not a JSON object")
    _look_into(values, 1)
    return values


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        _refuse(f"{_field(twice)} is given twice")
    return values


def _constant(name: str) -> NoReturn:
    _refuse(f"The message holds {name}, which is not JSON")


def _look_into(value: Any, depth: int) -> None:
    """Refuse what could not be written again: half a surrogate pair, an infinite number, and deep nesting."""
    if depth > _DEEPEST:
        _refuse(f"The message is nested more than {_DEEPEST} deep")
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            _refuse("The message holds half a surrogate pair")
    elif isinstance(value, float):
        if abs(value) == float("inf"):
            _refuse("The message holds a number that is too large")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _look_into(name, depth)
            _look_into(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _look_into(inner, depth + 1)


def _describe(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _describe_one(problems[0]) + more


def _describe_one(problem: ErrorDetails) -> str:
    where = ".".join(_field(part) for part in problem["loc"]) or "The message"
    match problem["type"]:
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            return f"{where} is not a field of this request"
        case "control_character" | "space_around" | "url_character" | "deadline_year":
            # Our own words, which quote nothing.
            return f"{where} {problem['msg']}"
        case "value_error":
            # The text comes from a validator or the standard library, and may quote what it was given.
            return f"{where} is not an http or https URL with a host, without credentials and fragment"
        case _:
            text = problem["msg"]
            return f"{where}: {text[:1].lower()}{text[1:]}"


def _describe_value(values: dict[str, Any], error: AvatarError) -> str:
    names = _TEXTS if isinstance(error, InvalidText) else _IDS if isinstance(error, InvalidId) else ()
    for name in names:
        value = values.get(name)
        if isinstance(value, str):
            try:
                check_text(value, name) if names is _TEXTS else require_slug(value, name)
            except InvalidText as found:
                # It may quote the beginning of a long word.
                return re.sub(r", from '[^']*'", "", found.message).rstrip(".")
            except InvalidId:
                return f"{name} is not an id of 2 to 63 characters of a-z, 0-9 and '-'"
    return f"A field is not valid ({error.code})"


def _field(name: object) -> str:
    """Return a field's name as it may be shown: a sender who put the text where the name belongs is not quoted."""
    shown = str(name)
    return shown if _FIELD.fullmatch(shown) or isinstance(name, int) else "A field with an odd name"


def _refuse(reason: str, kind: RequestKind | None = None) -> NoReturn:
    schema = f"docs/schemas/{kind}-request.v1.schema.json" if kind else "docs/queues.md"
    raise MalformedMessage(f"{reason}.", remedy=f"Correct it and send it again; see {schema}.") from None
