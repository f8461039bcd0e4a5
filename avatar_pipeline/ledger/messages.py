"""What can be asked for: the requests that travel through the queues, versioned, each with its idempotency key."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from avatar_pipeline.ids import require_slug
from avatar_pipeline.voice.text import check_text
from avatar_pipeline.voice.types import DEFAULT_GREETING, DEFAULT_VOICE, VOICE_PATTERN, VoiceSettings

Slug = Annotated[str, AfterValidator(require_slug), Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
LONGEST_URL = 2048


# No database of text takes all of these, no log shows them, and `urlsplit` passes over some without a word.
_NOT_IN_A_LINE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _uri(value: str) -> str:
    """Refuse what cannot stand in one line of text; a path may hold spaces and the letters of any language."""
    for position, character in enumerate(value):
        if unicodedata.category(character) in _NOT_IN_A_LINE:
            raise PydanticCustomError(
                "control_character",
                "holds the control character {code} at position {position}",
                {"code": f"U+{ord(character):04X}", "position": position},
            )
    if value != value.strip():
        raise PydanticCustomError("space_around", "has space around it")
    return value


def _callback(value: str) -> str:
    for position, character in enumerate(value):
        # https://www.rfc-editor.org/rfc/rfc3986#section-2: what is beyond has to be percent-encoded, or punycode.
        if not "!" <= character <= "~":
            raise PydanticCustomError(
                "url_character",
                "holds the character {code} at position {position}, which has to be percent-encoded in a URL",
                {"code": f"U+{ord(character):04X}", "position": position},
            )
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"}:
        raise ValueError("a callback is an http or https URL")
    if not parts.hostname or parts.username or parts.password or parts.fragment:
        raise ValueError("a callback URL has a host, and neither credentials nor a fragment")
    return value


Uri = Annotated[str, Field(min_length=1, max_length=LONGEST_URL, repr=False), AfterValidator(_uri)]
CallbackUrl = Annotated[str, Field(max_length=LONGEST_URL), AfterValidator(_callback)]


def _deadline(value: datetime) -> datetime:
    # A year from either end of time: a database client reads a time in the zone of its session, and fails beyond it.
    if not 2 <= value.year <= 9998:
        raise PydanticCustomError("deadline_year", "does not lie between the years 2 and 9998")
    return value.astimezone(UTC)


Deadline = Annotated[AwareDatetime, AfterValidator(_deadline)]


class _Request(BaseModel):
    """What every request carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    avatar_id: Slug
    tenant: Slug = "default"
    priority: int = Field(default=0, ge=0, le=9, description="Higher goes first.")
    deadline: Deadline | None = Field(default=None, description="After this time the request is of no use.")
    callback_url: CallbackUrl | None = Field(
        default=None, repr=False, description="Told when the request is done or has failed."
    )


class ClipRequest(_Request):
    """A wish for one clip. `request_id` is the idempotency key: the same id is the same clip, for ever."""

    request_id: Slug
    text: Annotated[str, AfterValidator(check_text)] = Field(repr=False, min_length=1, max_length=5000)
    voice: VoiceSettings = VoiceSettings()
    size: int | None = Field(default=None, ge=256, le=2160, description="Short side in pixels; null: the footage's.")
    fps: int = Field(default=25, ge=10, le=60, description="Frames a second.")


class AvatarRequest(_Request):
    """A wish for an avatar: where its video and its consent lie. Without a `request_id`, its content is its name."""

    request_id: Slug = ""
    video_uri: Uri
    consent_uri: Uri
    voice: str = Field(default=DEFAULT_VOICE, pattern=VOICE_PATTERN)
    greeting: Annotated[str, AfterValidator(check_text)] = Field(default=DEFAULT_GREETING, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _name(cls, values: object) -> object:
        if isinstance(values, dict) and not values.get("request_id"):
            made_from = [values.get(name) for name in ("avatar_id", "video_uri", "consent_uri", "voice", "greeting")]
            digest = hashlib.sha256(json.dumps(made_from, default=str).encode()).hexdigest()[:24]
            return {**values, "request_id": f"avatar-{digest}"}
        return values

    @model_validator(mode="after")
    def _named(self) -> Self:
        require_slug(self.request_id)
        return self


Request = ClipRequest | AvatarRequest
