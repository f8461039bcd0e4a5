"""One part of a text, spoken once and paid for once, whatever happens in between."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

from avatar_pipeline.clock import Clock
from avatar_pipeline.errors import AvatarError, ProviderBusy, ProviderDenied
from avatar_pipeline.voice.elevenlabs.aligner import Aligner
from avatar_pipeline.voice.elevenlabs.answers import HistoryItem, Reply
from avatar_pipeline.voice.elevenlabs.cache import SpeechCache, Take
from avatar_pipeline.voice.elevenlabs.door import Door
from avatar_pipeline.voice.elevenlabs.errors import UNKNOWN_RESET, Halt, error_of, quota_exhausted
from avatar_pipeline.voice.elevenlabs.failures import Failure, Kind, ProviderFailure
from avatar_pipeline.voice.elevenlabs.gate import Gate
from avatar_pipeline.voice.elevenlabs.keeping import keep
from avatar_pipeline.voice.elevenlabs.patience import PASSING, Patience
from avatar_pipeline.voice.elevenlabs.ports import Charge
from avatar_pipeline.voice.elevenlabs.slots import Slots
from avatar_pipeline.voice.elevenlabs.till import Call, Till
from avatar_pipeline.voice.elevenlabs.wanted import Order, Progress, Timed
from avatar_pipeline.voice.elevenlabs.worklist import Again
from avatar_pipeline.voice.types import VoiceModel

GRACE_SECONDS = 10.0
"""How long after a call came to nothing its outcome may still appear in the history, at least."""
LONGEST_GENERATION = 30.0
"""A call that was cut off is not finished by the other side later than this."""
_OFTEN = 60

_LOG = logging.getLogger(__name__)


class _Overtaken(Exception):
    """Another worker took the same work up a moment before."""


class Speaker:
    """Speaks orders. `enrolments` finds the WAV file that a voice is made from again when it was parked."""

    def __init__(
        self,
        door: Door,
        gate: Gate,
        till: Till,
        slots: Slots,
        cache: SpeechCache,
        patience: Patience,
        *,
        enrolments: Callable[[VoiceModel], Path | None],
        clock: Clock,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._door = door
        self._gate = gate
        self._till = till
        self._slots = slots
        self._cache = cache
        self._patience = patience
        self._enrolments = enrolments
        self._clock = clock
        self._grace = timedelta(seconds=grace)
        self._aligner = Aligner(door, gate, cache, patience)
        self._making: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def speak(self, order: Order, progress: Progress, closed: Callable[[], bool]) -> Timed | Again:
        """Take an order one step further.

        Raises:
            Halt: nothing more of a batch can be done.
            AvatarError: this order cannot.
            Shut: the gate lets nobody through.
        """
        order.permit()
        take = self._cache.get(order.voice_key, order.address)
        if take is None:
            with self._cache.at_work(order.address) as mine:
                if not mine:
                    return Again(0.1)
                take = self._cache.get(order.voice_key, order.address)
                if take is None:
                    gained = self._obtain(order, progress, closed)
                    if isinstance(gained, Again):
                        return gained
                    return self._aligner.timed(order, gained, progress, closed)
        self._settle_kept(order, take)
        return self._aligner.timed(order, take, progress, closed)

    # What was begun before

    def _settle_kept(self, order: Order, take: Take) -> None:
        """Settle a charge that a worker who was killed left open: its audio is here."""
        for item_key in _item_keys(order.address):
            charge = self._till.known(item_key)
            if charge is None or charge.state == "settled":
                if charge is None or charge.request_id == take.request_id:
                    return
                continue
            self._till.settle(item_key, take.credits, take.request_id)
            return

    def _obtain(self, order: Order, progress: Progress, closed: Callable[[], bool]) -> Take | Again:
        """Get audio that is not in the cache: from the history if it may have been paid for, else by a call."""
        for item_key in _item_keys(order.address):
            charge = self._till.known(item_key)
            if charge is not None and charge.state == "settled":
                # It was paid for, and the audio is gone from here: another machine's cache, or an old one.
                item = self._look(partial(self._till.paid_for, charge, self._call(order, charge)))
                if item is None:
                    continue
                return self._from_history(order, item, charge.settled or Decimal(0))
            if charge is not None and charge.state == "sent":
                found = self._look_back(order, progress, item_key, charge)
                if found is not None:
                    return found
                known = self._till.known(item_key)
                if known is not None and known.state == "settled":
                    continue
            return self._send(order, progress, item_key, closed)
        raise ProviderBusy("The same speech was paid for and lost again and again.", remedy="See the log.")

    def _look_back(self, order: Order, progress: Progress, item_key: str, charge: Charge) -> Take | Again | None:
        """See what became of a call whose outcome nobody knows; None if it came to nothing."""
        # The time is read first: what comes into the history after it was read is not to be missed.
        now = self._clock()
        item = self._look(lambda: self._till.claim(item_key, self._call(order, charge)))
        if item is not None:
            _LOG.info("what became of %s was found in the history", item_key)
            return self._from_history(order, item, Decimal(item.credits))
        sent_at = charge.sent_at or now
        if progress.unclear_at is not None:
            time = min(self._door.timeout, LONGEST_GENERATION)
            until = max(sent_at + timedelta(seconds=time), progress.unclear_at + self._grace)
        else:
            # Another worker sent it, and may be waiting for the answer now.
            until = sent_at + timedelta(seconds=self._door.timeout) + self._grace
        if now < until:
            progress.looks += 1
            return Again(min(self._patience.after(progress.looks), (until - now).total_seconds() + 0.001))
        if progress.billed is not None:
            # The answer said what it cost before it broke off, and there is nothing to be had for it.
            self._till.settle(item_key, Decimal(progress.billed), progress.billed_request)
            _LOG.warning("%s was billed and cannot be found: it is spoken again", item_key)
        else:
            # Only that call: another worker may have come to the same end, and be speaking it now.
            self._till.release(item_key, sent_at=charge.sent_at)
        progress.billed = progress.unclear_at = None
        progress.looks = 0
        return None

    def _look(self, find: Callable[[], HistoryItem | None]) -> HistoryItem | None:
        """Look into the history; where the account keeps none, or does not let us see it, nothing is found."""
        try:
            return find()
        except ProviderFailure as error:
            if error.failure.kind in PASSING or error.failure.code in {"invalid_api_key", "needs_authorization"}:
                raise
            _LOG.warning("the history of ElevenLabs cannot be read: %s", error)
            return None

    def _from_history(self, order: Order, item: HistoryItem, credits: Decimal) -> Take:
        pcm = self._patience.read(lambda: self._door.history_audio(item))
        take = Take(pcm, None, credits, item.request_id or item.item_id)
        keep(self._cache, order, take)
        return take

    def _call(self, order: Order, charge: Charge) -> Call:
        voice_id = order.voice_id or self._slots.id_of(order.voice_key)
        return Call(voice_id, order.voice_name, order.model.model_id, order.text, charge.sent_at or self._clock())

    # The call

    def _send(self, order: Order, progress: Progress, item_key: str, closed: Callable[[], bool]) -> Take | Again:
        voice_id = order.voice_id or self._ready(order, progress)
        if isinstance(voice_id, Again):
            return voice_id
        credits = order.model.credits(len(order.text))
        is_ours = False

        def reserve() -> None:
            nonlocal is_ours
            order.permit()
            charge = self._till.reserve(item_key, credits, tenant=order.tenant, reservation=order.reservation)
            is_ours = charge.state == "reserved"
            if not is_ours:
                raise _Overtaken

        was_sent = False
        try:
            with self._gate.place(order.model.group, closed, first=reserve):
                if not self._till.sent(item_key):
                    raise _Overtaken
                was_sent = True
                reply = self._door.speak(
                    voice_id,
                    order.text,
                    model=order.model.model_id,
                    language=order.language,
                    seed=order.seed,
                    speed=order.speed,
                    before=order.before,
                    after=order.after,
                )
        except _Overtaken:
            return Again(0.1)
        except ProviderFailure as error:
            if not was_sent:
                raise  # asking what the account has left failed, not this call
            return self._failed(order, progress, item_key, voice_id, error.failure)
        finally:
            if is_ours and not was_sent:
                self._till.release(item_key, sent_at=None)
        return self._kept(order, item_key, reply, credits)

    def _kept(self, order: Order, item_key: str, reply: Reply, expected: Decimal) -> Take:
        credits = expected if reply.credits is None else Decimal(reply.credits)
        take = Take(reply.pcm, reply.alignment, credits, reply.request_id)
        # First the audio, then the bill: who is killed in between finds the audio and settles.
        try:
            keep(self._cache, order, take)
        except AvatarError:
            self._till.settle(item_key, credits, reply.request_id)
            self._forget(order, reply.request_id)
            raise
        self._till.settle(item_key, credits, reply.request_id)
        self._gate.answered(order.model.group, reply.maximum)
        return take

    def _forget(self, order: Order, request_id: str | None) -> None:
        """Delete from the history what was spoken while its consent was revoked."""
        try:
            if order.voice_id is None and request_id is not None:
                self._till.forget_spoken(request_id)
        except ProviderFailure as error:
            _LOG.warning("request %s could not be deleted from the history: %s", request_id, error)

    def _failed(self, order: Order, progress: Progress, item_key: str, voice_id: str, failure: Failure) -> Again:
        """Say what follows from a failed call: another try, or an error.

        Raises:
            Halt, AvatarError: no other try.
        """
        group = order.model.group
        if failure.kind is Kind.UNCLEAR:
            progress.attempts += 1
            progress.unclear_at = self._clock()
            progress.billed, progress.billed_request = failure.credits, failure.request_id
            if self._patience.spent(progress.attempts):
                # The charge stays as it is: whoever comes next looks into the history first.
                raise error_of(failure)
            return Again(0.0)
        self._till.release(item_key)
        if failure.kind is Kind.CROWDED:
            self._gate.answered(group, failure.maximum, refused=True)
            return Again(self._patience.after(1, failure))
        if failure.kind is Kind.BUSY:
            progress.attempts += 1
            if self._patience.spent(progress.attempts):
                raise error_of(failure)
            return Again(self._patience.after(progress.attempts, failure))
        if failure.kind is Kind.QUOTA:
            now = self._clock()
            error, until = quota_exhausted(failure, self._resets_at(), now)
            # The pause is for those that still believe there are credits. More may be bought before they are renewed.
            self._gate.pause(group, min(until, now + UNKNOWN_RESET), failure.code)
            raise Halt(error)
        if failure.kind is Kind.KEY:
            raise Halt(error_of(failure))
        if order.voice_id is None and failure.kind is Kind.VOICE_GONE:
            self._slots.lost(order.voice_key, voice_id)
            return self._waited(progress, error_of(failure))
        if order.voice_id is None and failure.kind is Kind.UNVERIFIED:
            self._slots.doubted(order.voice_key)
        raise error_of(failure)

    def _resets_at(self) -> datetime | None:
        self._till.forget()
        try:
            return self._till.resets_at()
        except ProviderFailure as error:
            _LOG.warning("ElevenLabs does not say when the credits are renewed: %s", error)
            return None

    # The voice

    def _ready(self, order: Order, progress: Progress) -> str | Again:
        """Return the id of a voice of ours, made again if it was parked."""
        with self._making[order.voice_key]:
            voice_id = self._slots.ready(order.voice_key)
            if voice_id is not None:
                return voice_id
            path = self._enrolments(order.voice)
            if path is None or not path.is_file():
                raise ProviderDenied(
                    f"The voice {order.voice_key} is not at ElevenLabs, and its enrolment is gone.",
                    remedy="Materialize isolated_voice and voice_model of the avatar again.",
                )
            try:
                return self._slots.make(
                    order.voice_key,
                    path.read_bytes,
                    owner=None,
                    consent_id=order.voice.consent_id,
                    language=order.voice.language,
                )
            except ProviderBusy as error:
                return self._waited(progress, error)

    def _waited(self, progress: Progress, error: AvatarError) -> Again:
        progress.waits += 1
        if progress.waits > _OFTEN:
            raise error
        return Again(self._patience.after(min(progress.waits, 4)))


def _item_keys(address: str) -> list[str]:
    """Return the names under which speech is paid for: the first, and others for when what was paid for is lost."""
    return [address, *(f"{address}/{number}" for number in range(2, 10))]
