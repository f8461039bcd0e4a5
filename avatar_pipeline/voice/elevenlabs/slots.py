"""Voices at ElevenLabs: each made once, found again after a crash, parked when others need the slot."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from avatar_pipeline.errors import ProviderBusy, ProviderDenied, QuotaExhausted, VoiceNotReady
from avatar_pipeline.voice.elevenlabs.answers import RemoteVoice
from avatar_pipeline.voice.elevenlabs.door import Door
from avatar_pipeline.voice.elevenlabs.failures import Kind, ProviderFailure
from avatar_pipeline.voice.elevenlabs.gate import Gate
from avatar_pipeline.voice.elevenlabs.patience import PASSING, Patience
from avatar_pipeline.voice.elevenlabs.ports import NAME, VoiceBook, VoiceRecord
from avatar_pipeline.voice.elevenlabs.till import Till

PREFIX = "avatar-pipeline "
"""Names of our voices begin so; no other is ever deleted."""
_CANDIDATES = 50
_FRESH = timedelta(seconds=10)

_LOG = logging.getLogger(__name__)


def key_of(owner: str, enrolment_sha256: str, consent_id: str | None) -> str:
    """Return the key of a voice: the same avatar, speech and consent have the same, in any ledger."""
    digest = hashlib.sha256(f"{owner}\0{enrolment_sha256}\0{consent_id or ''}".encode()).hexdigest()
    return f"{owner or 'voice'}-{digest[:16]}"


def name_of(voice_key: str) -> str:
    """Return what a voice of ours is called at ElevenLabs."""
    return PREFIX + voice_key


class Slots:
    """Our voices, in the slots that the plan has. Methods that ask ElevenLabs may raise ProviderFailure."""

    def __init__(self, door: Door, book: VoiceBook, gate: Gate, till: Till, patience: Patience) -> None:
        self._door = door
        self._book = book
        self._gate = gate
        self._till = till
        self._patience = patience

    def ready(self, voice_key: str) -> str | None:
        """Return the id of a voice that can speak now; None if it must be made (again) first.

        Raises:
            VoiceNotReady: a person must verify it first; ElevenLabs was asked whether that was done.
            ProviderDenied: it was deleted.
        """
        record = self._book.get(NAME, voice_key)
        if record is not None and record.state == "deleted":
            raise _deleted(voice_key)
        if record is None or record.voice_id is None or record.state in {"parked", "making"}:
            return None
        return self._verified(record) if record.state == "unverified" else record.voice_id

    def used(self, voice_key: str) -> None:
        """Note that a voice speaks now."""
        self._book.touch(NAME, voice_key)

    def id_of(self, voice_key: str) -> str | None:
        """Return the id that a voice has or had last, whatever its state."""
        record = self._book.get(NAME, voice_key)
        return record.voice_id if record is not None else None

    def doubted(self, voice_key: str) -> None:
        """Note that ElevenLabs wants a voice verified that could speak before."""
        if self._book.get(NAME, voice_key) is not None:
            self._book.set_state(NAME, voice_key, "unverified")

    def lost(self, voice_key: str, voice_id: str) -> None:
        """Note that ElevenLabs has no voice of that id any more: it is made again when it is needed."""
        record = self._book.get(NAME, voice_key)
        if record is not None and record.voice_id == voice_id and record.state != "deleted":
            self._book.set_state(NAME, voice_key, "parked", voice_id=None)

    def make(
        self,
        voice_key: str,
        audio: Callable[[], bytes],
        *,
        owner: str | None,
        consent_id: str | None,
        language: str,
    ) -> str:
        """Make a voice from a WAV file, or find the one that was made from it before; return its id.

        Raises:
            VoiceNotReady: a person must verify it first.
            ProviderBusy: another worker makes a voice now, or all slots are taken by voices that speak now.
            ProviderDenied: the plan has no cloned voices, or all slots are taken by voices that are not ours.
            QuotaExhausted: no more voices may be made until the plan's period is over.
        """
        # One at a time, whichever voice it is: two at once would each see the slot that the other one frees, or takes.
        with self._gate.alone("making") as alone:
            if not alone:
                raise ProviderBusy("Another worker makes a voice now.", remedy="Try again a little later.")
            record = self._book.get(NAME, voice_key)
            if record is not None and record.voice_id and record.state in {"ready", "unverified"}:
                known = record.voice_id if record.state == "ready" else self._verified(record)
                if known is not None:
                    return known
            remember = partial(
                self._book.remember,
                provider=NAME,
                voice_key=voice_key,
                avatar_id=owner or (record.avatar_id if record else None),
                consent_id=consent_id or (record.consent_id if record else None),
                name=name_of(voice_key),
            )
            voice = self._found(voice_key)
            if voice is None:
                remember(state="making")
                voice = self._created(voice_key, audio(), language)
            remember(state="ready" if voice.verified else "unverified", voice_id=voice.voice_id)
            _LOG.info("voice %s is made%s", voice_key, "" if voice.verified else ", and waits to be verified")
            if not voice.verified:
                raise _unverified(voice_key)
            return voice.voice_id

    def delete(self, voice_key: str) -> list[str]:
        """Delete a voice of ours, here and there; return the ids that it had. What is gone already is no error."""
        record = self._book.get(NAME, voice_key)
        ids = [record.voice_id] if record is not None and record.voice_id else []
        # By its name too: one that a crash left behind, or that another ledger made, has an id that we do not know. And
        # all of that name: one that did not show at once after a crash was made a second time.
        name = name_of(voice_key)
        for found in self._patience.read(lambda: self._door.voices_named(name)):
            if found.name == name and found.voice_id not in ids:
                ids.append(found.voice_id)
        for voice_id in ids:
            self._delete_remotely(voice_id)
        if record is not None:
            self._book.set_state(NAME, voice_key, "deleted", voice_id=None)
        return ids

    def _found(self, voice_key: str) -> RemoteVoice | None:
        return self._patience.read(lambda: self._door.find_voice(name_of(voice_key)))

    def _verified(self, record: VoiceRecord) -> str | None:
        """Ask whether a voice was verified meanwhile; None if it is gone."""
        voice_id = record.voice_id or ""
        try:
            voice = self._patience.read(lambda: self._door.voice(voice_id))
        except ProviderFailure as error:
            if error.failure.kind is not Kind.VOICE_GONE:
                raise
            self.lost(record.voice_key, voice_id)
            return None
        if not voice.verified:
            raise _unverified(record.voice_key)
        self._book.set_state(NAME, record.voice_key, "ready")
        return voice.voice_id

    def _created(self, voice_key: str, audio: bytes, language: str) -> RemoteVoice:
        """Create a voice, with retries of our own: the SDK's leave out all but the file."""
        self._require_cloning()
        name = name_of(voice_key)
        attempt = 0
        while True:
            try:
                return self._door.add_voice(
                    name, audio, description=f"Made by avatar-pipeline: {voice_key}", labels={"language": language}
                )
            except ProviderFailure as error:
                attempt += 1
                failure = error.failure
                if failure.kind is Kind.VOICES_FULL:
                    self._make_room()
                elif failure.kind in PASSING and not self._patience.spent(attempt):
                    self._patience.wait(attempt, failure)
                else:
                    raise
                if self._patience.spent(attempt):
                    raise
                # It may have been made although the answer did not come through.
                if failure.kind is Kind.UNCLEAR and (voice := self._found(voice_key)) is not None:
                    return voice

    def _require_cloning(self) -> None:
        account = self._till.subscription(older_than=_FRESH)[1]
        if not account.may_clone:
            raise ProviderDenied(
                "The ElevenLabs plan has no instant voice cloning.",
                remedy="Choose a larger plan, or AVATAR_VOICE_PROVIDER=local.",
            )
        if account.voice_changes_left == 0:
            raise QuotaExhausted(
                "The ElevenLabs plan lets no more voices be added or changed in this period.",
                remedy="It goes on when the period is over; a larger plan has more slots, and parks fewer voices.",
                resets_at=account.resets_at,
            )
        if account.voices_used >= account.voices:
            self._make_room()
        self._till.forget()

    def _make_room(self) -> None:
        """Park the voice of ours that has been silent for longest and is not in use."""
        in_use = False
        for record in self._book.park_candidates(NAME, limit=_CANDIDATES):
            if record.voice_id is None or not record.name.startswith(PREFIX):
                continue
            if self._gate.in_use(record.voice_key):
                in_use = True
                continue
            # First there, then here: a crash in between leaves a record of a voice that is gone, and that is noticed.
            self._delete_remotely(record.voice_id)
            self._book.set_state(NAME, record.voice_key, "parked", voice_id=None)
            _LOG.info("voice %s is parked: its slot is needed", record.voice_key)
            return
        orphan = self._orphan()
        if orphan is not None:
            self._delete_remotely(orphan)
            return
        if in_use:
            raise ProviderBusy("All voice slots are taken by voices that speak now.", remedy="Try again later.")
        raise ProviderDenied(
            "All voice slots of the ElevenLabs account are taken by voices that are not ours, or wait to be verified.",
            remedy="Delete voices that nobody needs in the ElevenLabs account, or choose a larger plan.",
        )

    def _orphan(self) -> str | None:
        """Find a voice of ours that a crash left at ElevenLabs: the ledger knows it, and not under that id.

        Voices of our prefix that the ledger does not know are another installation's.
        """
        for voice in self._patience.read(lambda: self._door.voices_named(PREFIX)):
            record = self._book.get(NAME, voice.name.removeprefix(PREFIX))
            if record is not None and record.voice_id != voice.voice_id:
                return voice.voice_id
        return None

    def _delete_remotely(self, voice_id: str) -> None:
        try:
            self._patience.read(lambda: self._door.delete_voice(voice_id))
        except ProviderFailure as error:
            if error.failure.kind is not Kind.VOICE_GONE:
                raise


def _unverified(voice_key: str) -> VoiceNotReady:
    return VoiceNotReady(
        f"ElevenLabs wants the voice {name_of(voice_key)!r} verified by its speaker before it speaks.",
        remedy="Verify it in the ElevenLabs account, under Voices. What is asked of it waits.",
    )


def _deleted(voice_key: str) -> ProviderDenied:
    return ProviderDenied(f"The voice {voice_key} was deleted.", remedy="Make the avatar's voice again.")
