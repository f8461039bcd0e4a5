"""The routes that take audio: forced alignment and isolation."""

from __future__ import annotations

import io
import math
from typing import Any

from tests.elevenlabs.account import Account
from tests.elevenlabs.messages import Answer, Request, Upload, json_answer
from tests.elevenlabs.refusals import Invalid, Refusal

CREDITS_PER_MINUTE = 1000
"""What isolation costs."""


def _seconds(file: Upload) -> float:
    """Return how long an uploaded recording is.

    Raises:
        Refusal: it cannot be decoded.
    """
    import soundfile

    try:
        info: Any = soundfile.info(io.BytesIO(file.content))
    except soundfile.LibsndfileError as error:
        raise Refusal(400, "invalid_audio", f"The file {file.name} is no audio that can be decoded.") from error
    return float(info.duration)


def _one_file(uploads: dict[str, list[Upload]], name: str) -> Upload:
    if not uploads.get(name):
        raise Invalid((("body", name), "Field required"))
    return uploads[name][0]


def align(account: Account, request: Request) -> Answer:
    """Time a text against a recording: the times it was spoken with, where the stand-in spoke it, else evenly."""
    fields, uploads = request.form()
    file, text = _one_file(uploads, "file"), fields.get("text", "")
    if not text:
        raise Invalid((("body", "text"), "Field required"))
    seconds = _seconds(file)
    starts, ends = _known_times(account, text, seconds) or (
        [seconds * index / len(text) for index in range(len(text))],
        [seconds * (index + 1) / len(text) for index in range(len(text))],
    )
    characters = [
        {"text": character, "start": round(start, 3), "end": round(end, 3)}
        for character, start, end in zip(text, starts, ends, strict=True)
    ]
    return json_answer({"characters": characters, "words": _words(characters), "loss": 0.05})


def _known_times(account: Account, text: str, seconds: float) -> tuple[list[float], list[float]] | None:
    with account.lock:
        for item in account.history.values():
            times = item.alignment
            if (
                item.text == text
                and times
                and math.isclose(times["character_end_times_seconds"][-1], seconds, abs_tol=0.05)
            ):
                return times["character_start_times_seconds"], times["character_end_times_seconds"]
    return None


def _words(characters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    words: list[list[dict[str, Any]]] = [[]]
    for character in characters:
        if character["text"].isspace():
            words.append([])
        else:
            words[-1].append(character)
    return [
        {"text": "".join(c["text"] for c in word), "start": word[0]["start"], "end": word[-1]["end"], "loss": 0.05}
        for word in words
        if word
    ]


def isolate(account: Account, request: Request) -> Answer:
    """Return the recording as it came, for its price."""
    _, uploads = request.form()
    file = _one_file(uploads, "audio")
    credits = math.ceil(_seconds(file) / 60 * CREDITS_PER_MINUTE)
    with account.reserved(credits), account.lock:
        account.used += credits
        account.credits_billed += credits
    return Answer(file.content, "audio/mpeg", headers={"character-cost": str(credits)})
