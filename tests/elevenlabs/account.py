"""The account that the stand-in keeps: voices, credits, history, places in flight, and what was billed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.elevenlabs.offers import PREMADE, Offer
from tests.elevenlabs.refusals import Refusal
from tests.elevenlabs.rules import SPEECH, Fault, Rules
from tests.elevenlabs.speech import Sound, sound_of

MONTH_SECONDS = 30 * 86_400


@dataclass
class Voice:
    """A voice that someone made, or one of everybody's."""

    voice_id: str
    name: str
    sound: Sound
    category: str = "cloned"
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    samples: list[tuple[str, str, bytes]] = field(default_factory=list)
    """(file name, MIME type, content)."""
    requires_verification: bool = False
    is_verified: bool = False
    created_at: float = 0.0


@dataclass(frozen=True)
class Item:
    """An utterance in the history."""

    history_item_id: str
    request_id: str
    voice_id: str
    voice_name: str
    model_id: str
    text: str
    date: float
    count_from: int
    count_to: int
    output_format: str
    content_type: str
    audio: bytes
    alignment: dict[str, Any] | None
    normalized_alignment: dict[str, Any] | None
    settings: dict[str, Any]


class Account:
    """All state of the stand-in, safe for its threads.

    `billed` counts, for (voice id, model, text), how often it was billed; nothing ever leaves it.
    """

    def __init__(self, rules: Rules, clock: Callable[[], float] = time.time) -> None:
        self.rules = rules
        self.clock = clock
        self.lock = threading.Condition()
        self.voices = {
            voice_id: Voice(voice_id, name, sound_of(name.encode()), category="premade")
            for voice_id, name in PREMADE.items()
        }
        self.used = 0
        self.history: dict[str, Item] = {}
        self.billed: Counter[tuple[str, str, str]] = Counter()
        self.credits_billed = 0
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight: Counter[str] = Counter()
        self.over_limit: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.voices_made = 0
        self.voices_deleted: list[str] = []
        self._scripted: Counter[str] = Counter()
        self._verifications = list(rules.requires_verification)
        self._reserved = 0
        self._requests = 0

    def change(self, changes: dict[str, Any]) -> None:
        """Set rules anew; a new script of faults or of verifications starts from its beginning."""
        with self.lock:
            self.rules = self.rules.changed(changes)
            if "faults" in changes:
                self._scripted.clear()
                self.attempts.clear()
            if "requires_verification" in changes:
                self._verifications = list(self.rules.requires_verification)
            self.lock.notify_all()

    def next_request_id(self) -> str:
        """Return a name for a call."""
        with self.lock:
            self._requests += 1
            return f"req-{self._requests:08d}"

    # Faults

    def next_fault(self, group: str, voice_id: str = "", text: str = "") -> Fault | None:
        """Take what the next call of a route group is to meet."""
        with self.lock:
            fault = self.rules.faults.scripted(group, self._scripted[group])
            self._scripted[group] += 1
            if group == SPEECH:
                attempt = self.attempts[(voice_id, text)]
                self.attempts[(voice_id, text)] += 1
                fault = fault or self.rules.faults.drawn(voice_id, text, attempt)
            if fault:
                self.faults[fault] += 1
            return fault

    # Places in flight

    @contextmanager
    def place(self, group: str) -> Iterator[int]:
        """Hold one of the group's places; yields how many are held.

        Raises:
            Refusal: 429, all are taken and none became free within `queue_seconds`.
        """
        with self.lock:
            self.most_in_flight[group] = max(self.most_in_flight[group], self.in_flight[group] + 1)
            if not self.lock.wait_for(
                lambda: self.in_flight[group] < self.rules.limit(group), timeout=self.rules.queue_seconds
            ):
                self.over_limit[group] += 1
                raise too_many(self.rules.tier, self.rules.limit(group))
            self.in_flight[group] += 1
            held = self.in_flight[group]
        try:
            yield held
        finally:
            with self.lock:
                self.in_flight[group] -= 1
                self.lock.notify_all()

    # Credits

    def _reset_when_due(self) -> None:
        resets_at = self.rules.quota_resets_at
        if resets_at is not None and self.clock() >= resets_at:
            self.used = 0
            self.rules = self.rules.changed({"quota_resets_at": resets_at + MONTH_SECONDS})

    def credits_used(self) -> int:
        """Return what was used since the last reset."""
        with self.lock:
            self._reset_when_due()
            return self.used

    @contextmanager
    def reserved(self, credits: int) -> Iterator[None]:
        """Keep credits for a call while it is worked on.

        Raises:
            Refusal: 401 `quota_exceeded`, there are not so many left.
        """
        with self.lock:
            self._reset_when_due()
            left = max(0, self.rules.quota - self.used - self._reserved)
            if credits > left:
                message = (
                    f"This request exceeds your quota of {self.rules.quota}. You have {left} credits remaining, "
                    f"while {credits} credits are required for this request."
                )
                raise Refusal(401, "quota_exceeded", message)
            self._reserved += credits
        try:
            yield
        finally:
            with self.lock:
                self._reserved -= credits

    def bill(self, voice_id: str, offer: Offer, text: str, credits: int) -> tuple[int, int]:
        """Write a call in the account's books; returns the credits used before and after it."""
        with self.lock:
            before = self.used
            self.used += credits
            self.credits_billed += credits
            self.billed[(voice_id, offer.model_id, text)] += 1
            return before, self.used

    # History

    def remember(self, item: Item) -> None:
        """Put an utterance in the history."""
        with self.lock:
            self.history[item.history_item_id] = item

    def visible_history(self) -> list[Item]:
        """Return what shows in the history by now, newest first."""
        with self.lock:
            until = self.clock() - self.rules.history_lag_seconds
            return [item for item in reversed(self.history.values()) if item.date <= until]

    # Voices

    def own_voices(self) -> list[Voice]:
        """Return the voices that take a slot."""
        with self.lock:
            return [voice for voice in self.voices.values() if voice.category != "premade"]

    def add_voice(
        self, name: str, samples: Sequence[tuple[str, str, bytes]], description: str | None, labels: dict[str, str]
    ) -> Voice:
        """Make a voice. The same samples give a voice of the same sound, under another id.

        Raises:
            Refusal: the plan has no cloning, or all slots are taken.
        """
        with self.lock:
            if not self.rules.can_clone:
                message = "Your subscription has no access to use instant voice cloning, please upgrade."
                raise Refusal(403, "can_not_use_instant_voice_cloning", message)
            used, limit = len(self.own_voices()), self.rules.voice_limit
            if used >= limit:
                message = (
                    f"You have reached your maximum amount of custom voices ({used} / {limit}). You can upgrade your "
                    "subscription to increase your custom voice limit."
                )
                raise Refusal(400, "voice_limit_reached", message)
            self.voices_made += 1
            material = b"".join(content for _, _, content in samples)
            voice = Voice(
                voice_id=hashlib.sha256(f"{self.voices_made} {name}".encode()).hexdigest()[:20],
                name=name,
                sound=sound_of(material),
                description=description,
                labels=labels,
                samples=list(samples),
                requires_verification=bool(self._verifications and self._verifications.pop(0)),
                created_at=self.clock(),
            )
            self.voices[voice.voice_id] = voice
            return voice

    def delete_voice(self, voice_id: str) -> None:
        """Delete a voice with its samples.

        Raises:
            Refusal: there is none, or it is everybody's.
        """
        with self.lock:
            voice = self.voices.get(voice_id)
            if voice is None:
                raise Refusal(400, "voice_does_not_exist", f"A voice with voice_id {voice_id} does not exist.")
            if voice.category == "premade":
                raise Refusal(400, "voice_not_deletable", "Premade voices cannot be deleted.")
            del self.voices[voice_id]
            self.voices_deleted.append(voice_id)

    # What a test wants to know

    def report(self) -> dict[str, Any]:
        """Return counters and books as JSON; `Report` reads it."""
        with self.lock:
            self._reset_when_due()
            return {
                "billed": [
                    {"voice_id": voice, "model_id": model, "text": text, "times": times}
                    for (voice, model, text), times in self.billed.items()
                ],
                "credits_billed": self.credits_billed,
                "credits_used": self.used,
                "quota": self.rules.quota,
                "in_flight": dict(self.in_flight),
                "most_in_flight": dict(self.most_in_flight),
                "over_limit": dict(self.over_limit),
                "calls": dict(self.calls),
                "answers": dict(self.answers),
                "faults": dict(self.faults),
                "history_items": len(self.history),
                "history_by_voice": dict(Counter(item.voice_id for item in self.history.values())),
                "voices": {voice.voice_id: voice.name for voice in self.own_voices()},
                "voices_made": self.voices_made,
                "voices_deleted": list(self.voices_deleted),
            }


def too_many(tier: str, limit: int) -> Refusal:
    """Return the refusal of a call over the limit."""
    message = (
        f"Too many concurrent requests. Your current subscription ({tier}) is associated with a maximum of {limit} "
        "concurrent requests (running in parallel). Please upgrade your subscription or contact sales to increase this "
        "limit."
    )
    return Refusal(429, "too_many_concurrent_requests", message)
