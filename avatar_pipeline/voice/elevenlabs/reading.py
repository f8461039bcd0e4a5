"""From what the SDK hands over to our own plain data. It checks nothing by itself, so every field may be missing."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from avatar_pipeline.voice.elevenlabs.answers import RATE, Alignment, HistoryItem, Model, RemoteVoice
from avatar_pipeline.voice.elevenlabs.failures import Failure, Kind, ProviderFailure, classify

if TYPE_CHECKING:
    from avatar_pipeline.media.types import Audio

LONGEST_TEXT = 5_000
"""For a model that does not say."""


def wav(pcm: bytes, rate: int = RATE) -> bytes:
    """Return 16-bit mono samples as a WAV file."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    return target.getvalue()


def to_pcm(audio: Audio) -> bytes:
    """Return samples as 16-bit PCM, little-endian."""
    import numpy as np

    return bytes(np.clip(np.rint(audio.samples * 32768.0), -32768, 32767).astype("<i2").tobytes())


def failure_of(status: int, body: object, headers: Mapping[str, str]) -> Failure:
    """Read an answer that is not what was asked for."""
    kind, code, message = classify(status, body)
    wait = headers.get("retry-after", "")
    return Failure(
        kind=kind,
        code=code,
        message=message,
        status=status,
        maximum=number(headers.get("maximum-concurrent-requests")),
        credits=number(headers.get("character-cost")) if 200 <= status < 300 else None,
        request_id=headers.get("request-id"),
        retry_after=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else None,
    )


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers by their names in lower case."""
    return {str(name).lower(): str(value) for name, value in headers.items()}


def number(value: str | None) -> int | None:
    """Read a whole number from a header; None if it is none."""
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 12 else None


def time_of(seconds: int | None) -> datetime | None:
    """Return a Unix time as a datetime in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def alignment_of(found: Any) -> Alignment | None:
    """Read an alignment; None where it is missing or holds something else, for the SDK checks nothing."""
    try:
        return Alignment(
            tuple(str(one) for one in found.characters),
            tuple(float(one) for one in found.character_start_times_seconds),
            tuple(float(one) for one in found.character_end_times_seconds),
        )
    except (AttributeError, TypeError, ValueError):
        return None


def model_of(found: Any) -> Model:
    """Read a model."""
    rates = found.model_rates
    multiplier = getattr(rates, "character_cost_multiplier", None)
    discount = getattr(rates, "cost_discount_multiplier", None)
    return Model(
        model_id=found.model_id,
        group=found.concurrency_group or found.model_id,
        longest_text=found.maximum_text_length_per_request or LONGEST_TEXT,
        multiplier=Decimal(str(multiplier if multiplier is not None else found.token_cost_factor or 1))
        * Decimal(str(discount if discount is not None else 1)),
        languages=frozenset(one.language_id for one in found.languages or [] if one.language_id),
    )


def remote_of(found: Any) -> RemoteVoice:
    """Read a voice."""
    check = getattr(found, "voice_verification", None)
    waits = bool(check and check.requires_verification and not check.is_verified)
    return RemoteVoice(found.voice_id, found.name or "", verified=not waits)


def item_of(found: Any) -> HistoryItem:
    """Read an item of the history."""
    return HistoryItem(
        item_id=found.history_item_id,
        request_id=found.request_id,
        voice_id=found.voice_id,
        voice_name=found.voice_name,
        model_id=found.model_id,
        text=found.text or "",
        at=datetime.fromtimestamp(found.date_unix or 0, UTC),
        credits=max(0, (found.character_count_change_to or 0) - (found.character_count_change_from or 0)),
        output_format=found.output_format,
    )


def as_pcm(content: bytes, content_type: str) -> bytes:
    """Return audio of whatever format the history keeps as samples at our rate.

    Raises:
        ProviderFailure: it is no audio.
    """
    known = content[:4] in {b"RIFF", b"fLaC", b"OggS"} or content[:3] == b"ID3"
    if not known and "mpeg" not in content_type and "mp3" not in content_type:
        return content[: len(content) // 2 * 2]
    import numpy as np
    import soundfile

    from avatar_pipeline.media.audio import resample
    from avatar_pipeline.media.types import Audio as Sound

    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        raise ProviderFailure(Failure(Kind.UNCLEAR, "damaged_answer", "The history's audio cannot be read.")) from None
    audio = resample(Sound(samples.mean(axis=1, dtype=np.float32), int(rate)), RATE)
    return to_pcm(audio)
