"""What the API server refuses, as the Status objects that Kubernetes clients read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with a body: the field's path, the reason, the message."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


@dataclass(eq=False)
class Refusal(Exception):
    """A request that is answered with a Status object of failure."""

    code: int
    reason: str
    message: str
    causes: list[Cause] = field(default_factory=list)
    kind: str = ""
    name: str = ""
    retry_after: int | None = None

    def __str__(self) -> str:
        return self.message

    def as_status(self) -> dict[str, Any]:
        """Return the Status object."""
        details: dict[str, Any] = {}
        if self.name:
            details["name"] = self.name
        if self.kind:
            details["kind"] = self.kind
        if self.causes:
            details["causes"] = [
                {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in self.causes
            ]
        if self.retry_after is not None:
            details["retryAfterSeconds"] = self.retry_after
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
            "reason": self.reason, "details": details, "code": self.code,
        }  # fmt: skip


def not_found(plural: str, name: str) -> Refusal:
    """Refuse what is not there."""
    return Refusal(404, "NotFound", f'{plural} "{name}" not found', kind=plural.partition(".")[0], name=name)


def already_exists(plural: str, name: str) -> Refusal:
    """Refuse a second object of a name."""
    return Refusal(409, "AlreadyExists", f'{plural} "{name}" already exists', kind=plural.partition(".")[0], name=name)


def bad_request(message: str) -> Refusal:
    """Refuse what cannot be read."""
    return Refusal(400, "BadRequest", message)


def invalid(kind: str, name: str, causes: list[Cause]) -> Refusal:
    """Refuse a body whose values are not allowed."""
    told = ", ".join(f"{cause.field}: {cause.message}" for cause in causes)
    told = f"[{told}]" if len(causes) > 1 else told
    return Refusal(422, "Invalid", f'{kind} "{name}" is invalid: {told}', causes=causes, kind=kind, name=name)
