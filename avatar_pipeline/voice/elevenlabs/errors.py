"""Failures of ElevenLabs as errors of this project."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from avatar_pipeline.errors import (
    AccountRefused,
    AvatarError,
    ProviderBusy,
    ProviderDenied,
    QuotaExhausted,
    VoiceNotReady,
)
from avatar_pipeline.voice.elevenlabs.failures import Failure, Kind

UNKNOWN_RESET = timedelta(hours=1)
"""Where nobody says when the credits are renewed, it is tried again after this."""


class Halt(Exception):
    """Nothing more of the batch can be done; `error` is what all that is left of it comes out with."""

    def __init__(self, error: AvatarError) -> None:
        super().__init__(str(error))
        self.error = error


def error_of(failure: Failure) -> AvatarError:
    """Return the error that a failure is to whoever asked."""
    what = f"ElevenLabs: {failure.code}: {failure.message}"
    if failure.kind in {Kind.BUSY, Kind.UNCLEAR, Kind.CROWDED}:
        return ProviderBusy(what, remedy="Try again later; see https://status.elevenlabs.io.")
    if failure.kind is Kind.QUOTA:
        return quota_exhausted(failure, None, None)[0]
    if failure.kind is Kind.UNVERIFIED:
        return VoiceNotReady(what, remedy="Verify the voice in the ElevenLabs account. What is asked of it waits.")
    if failure.kind is Kind.KEY:
        return AccountRefused(
            what, remedy="See to AVATAR_ELEVENLABS_API_KEY, what the key may do, and the account's plan and payments."
        )
    if failure.kind is Kind.VOICE_GONE:
        return ProviderDenied(what, remedy="Make the avatar's voice again, or name a voice that the account has.")
    return ProviderDenied(what, remedy="Change what the message names; the same will be refused again.")


def quota_exhausted(
    failure: Failure, resets_at: datetime | None, now: datetime | None
) -> tuple[QuotaExhausted, datetime]:
    """Return the error of used-up credits, and until when nothing more is to be sent."""
    error = QuotaExhausted(
        f"ElevenLabs: {failure.code}: {failure.message}",
        remedy="What is asked for waits until the credits are renewed, or more are bought.",
        resets_at=resets_at,
    )
    if now is None:
        return error, datetime.max.replace(tzinfo=UTC)
    # A time that is over already is of the account's last period: ask again soon.
    until = resets_at if resets_at is not None and resets_at > now else now + UNKNOWN_RESET
    return error, until
