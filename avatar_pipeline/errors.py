"""One hierarchy of errors: a message for a person, a code for a machine, a remedy for both."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar


class AvatarError(Exception):
    """Base of everything this project raises on purpose.

    `message` names the file or field and the limit that was missed; `remedy` says what to do about it. `code` is
    stable and meant for machines; `exit_code` is what the command line returns. Neither text may carry a secret.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        """Return the error as a flat mapping, for `--json` and for Dagster metadata."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class InvalidInput(AvatarError):
    """The caller gave something that cannot be used; trying again unchanged will fail again."""

    code = "invalid_input"
    exit_code = 2


class InvalidId(InvalidInput):
    """An avatar, request or batch id is not a slug."""

    code = "invalid_id"


class InvalidMedia(InvalidInput):
    """A file is not media that we accept: container, codec, size, length, pixels, or damaged."""

    code = "invalid_media"


class FaceNotUsable(InvalidInput):
    """The video is sound but shows no face, several people, or a face too small to work with."""

    code = "face_not_usable"


class SpeechNotUsable(InvalidInput):
    """There is no audio, or no speech in it, and the avatar was to get its voice from it."""

    code = "speech_not_usable"


class InvalidText(InvalidInput):
    """A script is empty, too long, or holds nothing that can be spoken."""

    code = "invalid_text"


class ConsentMissing(InvalidInput):
    """There is no valid consent record for what was asked."""

    code = "consent_missing"


class ConsentRevoked(ConsentMissing):
    """The person took their consent back: what was to be made with it is refused."""

    code = "consent_revoked"

    def __init__(self, consent_id: str) -> None:
        super().__init__(
            f"refused: consent revoked ({consent_id}).",
            remedy="Nothing of this voice and likeness is kept or made again; ask for a new consent.",
        )


class NotFound(InvalidInput):
    """The named avatar, request, batch or artifact does not exist."""

    code = "not_found"


class Conflict(InvalidInput):
    """The name is taken by something else."""

    code = "conflict"


class ProviderDenied(AvatarError):
    """The voice provider refuses: the key is not valid, the plan does not allow it, or it will not say this."""

    code = "provider_denied"


class AccountRefused(ProviderDenied):
    """The provider refuses us whatever we ask: the key or a setting is at fault, not what was asked for."""

    code = "provider_account"


class ProviderBusy(AvatarError):
    """The voice provider cannot answer now; the same call may succeed later."""

    code = "provider_busy"


class QuotaExhausted(AvatarError):
    """The provider's credits are used up until `resets_at` (None: nobody knows); what is left waits."""

    code = "quota_exhausted"

    def __init__(self, message: str, *, remedy: str, resets_at: datetime | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.resets_at = resets_at


class VoiceNotReady(AvatarError):
    """The provider wants the voice verified by a person before it speaks; what is asked of it waits."""

    code = "voice_not_ready"


class QualityTooLow(AvatarError):
    """A result was made and did not pass its own checks; it is not delivered."""

    code = "quality_too_low"


class BudgetHold(AvatarError):
    """A budget has no room for the work now; it waits until `retry_at` (None: until the limit `limit_id` is raised)."""

    code = "budget_hold"

    def __init__(self, message: str, *, remedy: str, limit_id: str = "", retry_at: datetime | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.limit_id = limit_id
        self.retry_at = retry_at


class WorkerLost(AvatarError):
    """Whoever worked on it died, again and again: what was asked for kills its workers."""

    code = "worker_lost"


class DeadlinePassed(AvatarError):
    """A request was not begun before its deadline."""

    code = "deadline_passed"


class AvatarFailed(AvatarError):
    """The avatar that a clip was asked of could not be made."""

    code = "avatar_failed"


class EnvironmentProblem(AvatarError):
    """The machine lacks something: a system library, an optional package, a model file, a working OpenGL."""

    code = "environment"
    exit_code = 3


class StoreCorrupt(AvatarError):
    """An artifact in the store does not match its manifest."""

    code = "store_corrupt"
    exit_code = 4


class Interrupted(AvatarError):
    """The user called the work off; it can go on where it was."""

    code = "interrupted"
    exit_code = 130

    def __init__(self) -> None:
        super().__init__("Interrupted.", remedy="Call the same command again to go on.")


def exit_code_of(code: str) -> int:
    """Return the exit code of the error class that has `code`; 1 if there is none."""
    kinds = [AvatarError]
    for kind in kinds:
        if kind.code == code:
            return kind.exit_code
        kinds += kind.__subclasses__()
    return 1


def package_missing(error: ImportError) -> EnvironmentProblem:
    """Say what to install where a package that the work needs cannot be imported."""
    return EnvironmentProblem(
        f"The package {error.name!r} cannot be imported: {error.msg}.".replace("..", "."),
        remedy="Install what a worker needs: pip install 'avatar-pipeline[engine,local-voice]' "
        "(and [aws] for a store in a bucket).",
    )
