"""A ledger with its book of requests for a test, a clock that is set by hand, and short ways to ask for things."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.ledger.records import Arrival, AvatarState
from avatar_pipeline.ledger.requests import RequestBook

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CONSENT = ConsentRecord(
    consent_id="consent-1",
    subject="A person",
    statement="I agree that my likeness and voice are used.",
    statement_version="1",
    scope=frozenset({"likeness", "voice"}),
    given_at=NOW,
)
BROKEN = InvalidMedia("Broken.", remedy="Mend it.")


def clip(name: str | int, avatar_id: str = "ada", text: str = "Hello.", **fields: Any) -> ClipRequest:
    return ClipRequest(request_id=f"clip-{name}", avatar_id=avatar_id, text=text, **fields)


def avatar(avatar_id: str = "ada", **fields: Any) -> AvatarRequest:
    return AvatarRequest(avatar_id=avatar_id, video_uri="a.mp4", consent_uri="consent.json", **fields)


def register(ledger: Ledger, avatar_id: str = "ada", **changes: str):
    values = {"voice": "enrol:en", "greeting": "Hello.", "upload_key": "k1", "source_name": "ada.mp4"} | changes
    return ledger.register_avatar(avatar_id, consent=CONSENT, **values)


class Desk:
    def __init__(self, url: str, *, weights: Mapping[str, float] | None = None) -> None:
        self.now = NOW
        self.ledger = Ledger(url, clock=self.clock)
        self.book = RequestBook(self.ledger.engine, clock=self.clock, weights=weights)

    def clock(self) -> datetime:
        return self.now

    def has(self, avatar_id: str = "ada", state: AvatarState = "ready") -> None:
        """There is this avatar, in this state."""
        if not self.ledger.has_avatar(avatar_id):
            register(self.ledger, avatar_id)
        self.ledger.set_avatar_state(avatar_id, state, BROKEN if state == "failed" else None)

    def arrive(self, *requests: ClipRequest | AvatarRequest) -> None:
        """These come out of a queue."""
        assert self.book.take_in([Arrival(request, self.now) for request in requests]) == [None] * len(requests)

    def claim(self, batch_id: str = "batch-1", limit: int = 100) -> list[str]:
        """The names of the clips that a batch gets."""
        return [request.request_id.removeprefix("clip-") for request in self.book.claim(batch_id, limit)]

    def state(self, name: str | int) -> str:
        return self.book.get(f"clip-{name}").state

    def steps(self, name: str | int) -> list[str]:
        return [event.state for event in self.book.history(f"clip-{name}")]

    def code(self, name: str | int) -> str | None:
        error = self.book.get(f"clip-{name}").error
        return error and error["code"]
