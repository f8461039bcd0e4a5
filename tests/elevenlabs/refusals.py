"""Errors in the shapes in which the API gives them."""

from __future__ import annotations

from typing import Any, Literal

_TYPES = {400: "validation_error", 401: "authentication_error", 403: "authorization_error", 404: "not_found"}
_CODES = {"too_many_concurrent_requests": "concurrent_limit_exceeded"}
"""Names that differ between the two shapes."""


class Refusal(Exception):
    """A call is refused: HTTP status, the API's name for the reason, and a sentence."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        self.message = message

    def body(self, shape: Literal["status", "code"], request_id: str) -> dict[str, Any]:
        """Return the body: `detail.status`, as most routes answer, or `detail.type` and `detail.code`."""
        if shape == "status":
            return {"detail": {"status": self.name, "message": self.message}}
        kind = "rate_limit_error" if self.status == 429 else _TYPES.get(self.status, "internal_error")
        code = _CODES.get(self.name, self.name)
        return {"detail": {"type": kind, "code": code, "message": self.message, "request_id": request_id}}


class Invalid(Refusal):
    """422: fields that are missing or wrong, in the list shape. `fields` are (place in the request, what is wrong)."""

    def __init__(self, *fields: tuple[tuple[str, ...], str]) -> None:
        super().__init__(422, "validation_error", "; ".join(f"{'.'.join(place)}: {what}" for place, what in fields))
        self.fields = fields

    def body(self, shape: Literal["status", "code"], request_id: str) -> dict[str, Any]:
        """Return the body, which has one shape only."""
        return {
            "detail": [
                {"loc": list(place), "msg": what, "type": "missing" if what == "Field required" else "value_error"}
                for place, what in self.fields
            ]
        }
