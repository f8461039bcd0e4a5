"""Which route does what."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.elevenlabs import views
from tests.elevenlabs.account import Account, Item, Voice
from tests.elevenlabs.hearing import align, isolate
from tests.elevenlabs.messages import Answer, Request, Upload, json_answer
from tests.elevenlabs.offers import OFFERS
from tests.elevenlabs.refusals import Invalid, Refusal
from tests.elevenlabs.rules import REFUSING, SPEECH, STANDARD, Fault
from tests.elevenlabs.speaking import refusal_of, speak
from tests.elevenlabs.speech import sound_of

MISSING = "Field required"
AUDIO_STARTS = (b"RIFF", b"ID3", b"fLaC", b"OggS", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")


def _samples(files: list[Upload]) -> list[tuple[str, str, bytes]]:
    """Return uploads as samples of a voice.

    Raises:
        Refusal: one is no audio, as when a path was sent in place of a file.
    """
    for file in files:
        if not file.content.startswith(AUDIO_STARTS) and file.content[4:8] != b"ftyp":
            raise Refusal(
                400, "invalid_content", f"The file {file.name} is corrupted. Please ensure it is playable audio."
            )
    return [(file.name, file.content_type, file.content) for file in files]


def _labels(fields: dict[str, str]) -> dict[str, str]:
    found = json.loads(fields.get("labels") or "null")
    return {} if found is None else {str(name): str(value) for name, value in found.items()}


def add_voice(account: Account, request: Request) -> Answer:
    fields, uploads = request.form()
    files = uploads.get("files", [])
    missing = [name for name, given in (("name", fields.get("name")), ("files", files)) if not given]
    if missing:
        raise Invalid(*((("body", name), MISSING) for name in missing))
    voice = account.add_voice(fields["name"], _samples(files), fields.get("description"), _labels(fields))
    return json_answer({"voice_id": voice.voice_id, "requires_verification": voice.requires_verification})


def edit_voice(account: Account, request: Request) -> Answer:
    fields, uploads = request.form()
    if not fields.get("name"):
        raise Invalid((("body", "name"), MISSING))
    voice = account.voices.get(request.parts[0])
    if voice is None or voice.category == "premade":
        raise Refusal(400, "voice_does_not_exist", f"A voice with voice_id {request.parts[0]} does not exist.")
    with account.lock:
        voice.name = fields["name"]
        voice.description = fields.get("description", voice.description)
        voice.labels = _labels(fields) or voice.labels
        if uploads.get("files"):
            voice.samples += _samples(uploads["files"])
            voice.sound = sound_of(b"".join(content for _, _, content in voice.samples))
    return json_answer({"status": "ok"})


def get_voice(account: Account, request: Request) -> Answer:
    return json_answer(views.voice(_known(account, request.parts[0])))


def _known(account: Account, voice_id: str) -> Voice:
    voice = account.voices.get(voice_id)
    if voice is None:
        raise Refusal(400, "voice_not_found", f"A voice for the voice_id {voice_id} was not found.")
    return voice


def delete_voice(account: Account, request: Request) -> Answer:
    account.delete_voice(request.parts[0])
    return json_answer({"status": "ok"})


def _page_size(request: Request, default: int, most: int) -> int:
    try:
        size = int(request.query.get("page_size", default))
    except ValueError:
        size = 0
    if not 1 <= size <= most:
        raise Invalid((("query", "page_size"), f"Input should be from 1 to {most}"))
    return size


def search_voices(account: Account, request: Request) -> Answer:
    wanted, category = request.query.get("search", "").lower(), request.query.get("category")
    with account.lock:
        found = [
            voice
            for voice in reversed(account.voices.values())
            if wanted in f"{voice.name} {voice.description or ''} {' '.join(voice.labels.values())}".lower()
            and category in (None, voice.category)
        ]
    start, size = int(request.query.get("next_page_token") or 0), _page_size(request, 10, 100)
    page = found[start : start + size]
    more = start + size < len(found)
    return json_answer(
        {
            "voices": [views.voice(voice) for voice in page],
            "has_more": more,
            "total_count": len(found),
            "next_page_token": str(start + size) if more else None,
        }
    )


def models(account: Account, request: Request) -> Answer:
    return json_answer([offer.as_json() for offer in OFFERS.values()])


def user(account: Account, request: Request) -> Answer:
    return json_answer(views.user(account))


def subscription(account: Account, request: Request) -> Answer:
    return json_answer(views.subscription(account))


def history(account: Account, request: Request) -> Answer:
    """List, newest first; as in the API a page starts after an item, and the dates are bounds."""
    query, size = request.query, _page_size(request, 100, 1000)
    after, before = int(query.get("date_after_unix", 0)), int(query.get("date_before_unix", 2**40))
    items = [
        item
        for item in account.visible_history()
        if query.get("voice_id") in (None, item.voice_id)
        and query.get("model_id") in (None, item.model_id)
        and query.get("search", "").lower() in item.text.lower()
        and after <= int(item.date) <= before
        and query.get("source") in (None, "TTS")
    ]
    if query.get("sort_direction") == "asc":
        items.reverse()
    ids = [item.history_item_id for item in items]
    last = query.get("start_after_history_item_id")
    start = ids.index(last) + 1 if last in ids else 0
    page = items[start : start + size]
    return json_answer(
        {
            "history": [views.history_item(item, with_alignments=False) for item in page],
            "last_history_item_id": page[-1].history_item_id if page else None,
            "has_more": start + size < len(items),
            "scanned_until": int(page[-1].date) if page else None,
        }
    )


def _item(account: Account, request: Request) -> Item:
    for item in account.visible_history():
        if item.history_item_id == request.parts[0]:
            return item
    raise Refusal(404, "history_item_not_found", f"A history item with ID {request.parts[0]} was not found.")


def history_item(account: Account, request: Request) -> Answer:
    with_alignments = account.rules.history_alignments
    return json_answer(views.history_item(_item(account, request), with_alignments=with_alignments))


def history_audio(account: Account, request: Request) -> Answer:
    item = _item(account, request)
    return Answer(item.audio, item.content_type)


def delete_history_item(account: Account, request: Request) -> Answer:
    item = _item(account, request)
    with account.lock:
        del account.history[item.history_item_id]
    return json_answer({"status": "ok"})


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, the group in whose name its faults are scripted, and what it does."""

    method: str
    pattern: str
    group: str
    act: Callable[[Account, Request], Answer]


ROUTES = (
    Route("POST", "/v1/voices/add", "voices_add", add_voice),
    Route("POST", "/v1/voices/([^/]+)/edit", "voices_edit", edit_voice),
    Route("GET", "/v1/voices/([^/]+)", "voices_get", get_voice),
    Route("DELETE", "/v1/voices/([^/]+)", "voices_delete", delete_voice),
    Route("GET", "/v2/voices", "voices_search", search_voices),
    Route("POST", "/v1/text-to-speech/([^/]+)(?:/stream)?(?:/with-timestamps)?", SPEECH, speak),
    Route("GET", "/v1/models", "models", models),
    Route("GET", "/v1/user", "user", user),
    Route("GET", "/v1/user/subscription", "subscription", subscription),
    Route("GET", "/v1/history", "history", history),
    Route("GET", "/v1/history/([^/]+)", "history_item", history_item),
    Route("GET", "/v1/history/([^/]+)/audio", "history_audio", history_audio),
    Route("DELETE", "/v1/history/([^/]+)", "history_delete", delete_history_item),
    Route("POST", "/v1/forced-alignment", "alignment", align),
    Route("POST", "/v1/audio-isolation", "isolation", isolate),
)


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """Return the route of a call and what its pattern found.

    Raises:
        Refusal: there is none.
    """
    for route in ROUTES:
        match = re.fullmatch(route.pattern, path)
        if match and route.method == method:
            return route, match.groups()
    raise Refusal(404, "not_found", f"The stand-in has no route {method} {path}.")


def answer(account: Account, request: Request) -> Answer:
    """Check the key, find the route, play what the script says, and do it.

    Raises:
        Refusal: it is refused.
    """
    key = request.headers.get("xi-api-key")
    if key != account.rules.api_key:
        message = "Invalid API key" if key else "Invalid API key: no xi-api-key header was received"
        raise Refusal(401, "invalid_api_key", message)
    route, parts = find(request.method, request.path)
    with account.lock:
        account.calls[route.group] += 1
    found = replace(request, parts=parts)
    if route.group == SPEECH:
        return route.act(account, found)
    fault = account.next_fault(route.group)
    if fault in REFUSING:
        raise refusal_of(fault, account, STANDARD)
    return _played(route.act(account, found), fault)


def _played(done: Answer, fault: Fault | None) -> Answer:
    """Return an answer as a fault leaves it, for what is done already."""
    changes: dict[Any, dict[str, Any]] = {
        Fault.HANG: {"delivery": "never"},
        Fault.CUT_CONNECTION: {"delivery": "cut"},
        Fault.CUT_JSON: {"body": done.body[: len(done.body) // 2]},
    }
    return replace(done, **changes.get(fault, {}))
