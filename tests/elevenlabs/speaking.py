"""The text-to-speech routes."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

from tests.elevenlabs.account import Account, Item, Voice, too_many
from tests.elevenlabs.formats import DEFAULT_FORMAT, content_type, encode, rate_of
from tests.elevenlabs.letters import Times
from tests.elevenlabs.messages import Answer, Request
from tests.elevenlabs.normal import normalised
from tests.elevenlabs.offers import DEFAULT_MODEL, OFFERS, Offer
from tests.elevenlabs.refusals import Invalid, Refusal
from tests.elevenlabs.rules import PCM_44100_FROM, REFUSING, SPEECH, Fault
from tests.elevenlabs.speech import Said, paced, say

PIECES = 4
"""Into how many pieces streamed speech is divided."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked text-to-speech call."""

    voice: Voice
    offer: Offer
    text: str
    output_format: str
    rate: int
    speed: float
    seed: int | None
    language: str | None
    logged: bool
    settings: dict[str, Any]


def refusal_of(fault: Fault, account: Account, group: str) -> Refusal:
    """Return the error that a refusing fault gives."""
    if fault is Fault.TOO_MANY_CONCURRENT:
        return too_many(account.rules.tier, account.rules.limit(group))
    if fault is Fault.SYSTEM_BUSY:
        return Refusal(429, "system_busy", "The system is busy at the moment, please try again later.")
    if fault is Fault.UNAVAILABLE:
        return Refusal(503, "service_unavailable", "The service is unavailable, please try again later.")
    return Refusal(500, "internal_server_error", "An unexpected error occurred, please try again later.")


def _checked(account: Account, request: Request) -> Wish:
    """Check a call in the API's order.

    Raises:
        Refusal: what is wrong with it.
    """
    body = request.json()
    text = body.get("text")
    if not isinstance(text, str):
        what = "Field required" if text is None else "Input should be a valid string"
        raise Invalid((("body", "text"), what))
    seed = body.get("seed")
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**32):
        raise Invalid((("body", "seed"), "Input should be from 0 to 4294967295"))
    for name in ("previous_request_ids", "next_request_ids"):
        if len(body.get(name) or ()) > 3:
            raise Invalid((("body", name), "List should have at most 3 items"))
    output_format = request.query.get("output_format") or DEFAULT_FORMAT
    rate = rate_of(output_format, high_rate_allowed=account.rules.tier in PCM_44100_FROM)
    voice_id = request.parts[0]
    voice = account.voices.get(voice_id)
    if voice is None:
        raise Refusal(404, "voice_not_found", f"A voice with the voice_id {voice_id} was not found.")
    if voice.requires_verification and not voice.is_verified:
        raise Refusal(403, "voice_not_verified", f"The voice {voice_id} must be verified before it can be used.")
    offer = OFFERS.get(body.get("model_id") or DEFAULT_MODEL)
    if offer is None:
        raise Refusal(400, "model_not_found", f"A model with model ID {body['model_id']} does not exist.")
    if not offer.speaks:
        raise Refusal(400, "model_can_not_do_text_to_speech", f"The model {offer.model_id} cannot do text to speech.")
    if not text.strip():
        raise Refusal(400, "input_text_empty", "The text is empty.")
    if len(text) > offer.longest_text:
        message = (
            f"This request's text has {len(text)} characters and exceeds the character limit of {offer.longest_text} "
            f"characters for the model {offer.model_id}."
        )
        raise Refusal(400, "max_character_limit_exceeded", message)
    settings = body.get("voice_settings") or {}
    speed = settings.get("speed") or 1.0
    if not 0.7 <= speed <= 1.2:
        message = f"Invalid setting for speed received, expected to be from 0.7 to 1.2, received {speed}."
        raise Refusal(400, "invalid_voice_settings", message)
    logged = request.query.get("enable_logging", "true").lower() != "false"
    return Wish(voice, offer, text, output_format, rate, speed, seed, body.get("language_code"), logged, settings)


def _drifted(times: Times, seconds: float, drift: float) -> Times:
    return times.stretched((seconds + drift) / seconds) if seconds else times


def speak(account: Account, request: Request) -> Answer:
    """Answer a text-to-speech call of any of the four routes."""
    timed, streamed = "with-timestamps" in request.path, "/stream" in request.path
    wish = _checked(account, request)
    rules, credits = account.rules, wish.offer.credits(wish.text)
    with account.place(wish.offer.group) as in_flight, account.reserved(credits):
        fault = account.next_fault(SPEECH, wish.voice.voice_id, wish.text)
        if fault in REFUSING:
            raise refusal_of(fault, account, wish.offer.group)
        said = say(
            wish.text,
            paced(wish.voice.sound, wish.speed, wish.seed, wish.language),
            wish.rate,
            beeps=rules.speech == "beeps",
            beep_seconds_per_character=rules.beep_seconds_per_character,
        )
        audio = encode(said.samples, wish.rate, wish.output_format)
        ready = request.arrived + rules.base_seconds + rules.seconds_per_character * len(wish.text)
        if (left := ready - time.monotonic()) > 0:
            time.sleep(left)
        item = _book(account, request, wish, said, audio, credits, timed=timed)
    headers = {
        "request-id": request.request_id,
        "character-cost": str(credits),
        "current-concurrent-requests": str(in_flight),
        "maximum-concurrent-requests": str(account.rules.limit(wish.offer.group)),
    }
    if wish.logged:
        headers["history-item-id"] = item.history_item_id
    return _answer(account, wish, said, audio, headers, fault, timed=timed, streamed=streamed)


def _book(
    account: Account, request: Request, wish: Wish, said: Said, audio: bytes, credits: int, *, timed: bool
) -> Item:
    """Bill a call and put it in the history."""
    before, after = account.bill(wish.voice.voice_id, wish.offer, wish.text, credits)
    item = Item(
        history_item_id=request.request_id.replace("req", "hist"),
        request_id=request.request_id,
        voice_id=wish.voice.voice_id,
        voice_name=wish.voice.name,
        model_id=wish.offer.model_id,
        text=wish.text,
        date=account.clock(),
        count_from=before,
        count_to=after,
        output_format=wish.output_format,
        content_type=content_type(wish.output_format),
        audio=audio,
        alignment=said.times.as_json() if timed else None,
        normalized_alignment=normalised(said.times).as_json() if timed else None,
        settings=wish.settings,
    )
    if wish.logged:
        account.remember(item)
    return item


def _answer(
    account: Account,
    wish: Wish,
    said: Said,
    audio: bytes,
    headers: dict[str, str],
    fault: Fault | None,
    *,
    timed: bool,
    streamed: bool,
) -> Answer:
    delivery: Any = {Fault.HANG: "never", Fault.CUT_CONNECTION: "cut"}.get(fault, "in_pieces" if streamed else "whole")  # type: ignore[arg-type]
    if fault is Fault.EMPTY_AUDIO:
        audio = b""
    if not timed:
        if fault is Fault.CUT_JSON:
            audio = audio[: len(audio) // 2]
        pieces = _cut_in_pieces(audio) if streamed else ()
        return Answer(audio, content_type(wish.output_format), headers=headers, delivery=delivery, pieces=pieces)
    times = said.times
    if fault is Fault.DRIFTED_ALIGNMENT:
        times = _drifted(times, said.seconds, account.rules.drift_seconds)
    parts = _timed_pieces(audio, times) if streamed else [(audio, times)]
    lines = [
        json.dumps(
            {
                "audio_base64": base64.b64encode(sound).decode(),
                "alignment": None if fault is Fault.MISSING_ALIGNMENT else part.as_json(),
                "normalized_alignment": None if fault is Fault.MISSING_ALIGNMENT else normalised(part).as_json(),
            }
        ).encode()
        for sound, part in parts
    ]
    if fault is Fault.CUT_JSON:
        lines[-1] = lines[-1][: len(lines[-1]) // 2]
    pieces = tuple(line + b"\n" for line in lines) if streamed else ()
    return Answer(b"".join(pieces) or lines[0], "application/json", headers=headers, delivery=delivery, pieces=pieces)


def _cut_in_pieces(audio: bytes) -> tuple[bytes, ...]:
    step = -(-len(audio) // PIECES // 2) * 2 or 2
    return tuple(audio[start : start + step] for start in range(0, len(audio), step))


def _timed_pieces(audio: bytes, times: Times) -> list[tuple[bytes, Times]]:
    """Divide speech; each piece's characters are those of its share of the text, with times from the very start."""
    pieces = _cut_in_pieces(audio) or (b"",)
    edges = [len(times.characters) * index // len(pieces) for index in range(len(pieces) + 1)]
    return [
        (piece, Times(times.characters[a:b], times.starts[a:b], times.ends[a:b]))
        for piece, a, b in zip(pieces, edges, edges[1:], strict=False)
    ]
