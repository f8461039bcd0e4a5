"""What a source of voices does, be it embedded (eSpeak NG) or hosted (ElevenLabs)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from avatar_pipeline.errors import AvatarError
from avatar_pipeline.voice.types import NATURAL, Speech, VoiceModel, VoiceSettings

if TYPE_CHECKING:
    from avatar_pipeline.consent import ConsentRecord
    from avatar_pipeline.media.types import Audio


@dataclass(frozen=True, slots=True)
class Utterance:
    """One text to be spoken by one voice. `key` is its identity: two utterances of one key are the same work.

    `tenant` is whose account of credits it goes to, `reservation` what a budget has put aside for it.
    """

    key: str
    voice: VoiceModel
    text: str
    settings: VoiceSettings = NATURAL
    tenant: str = "default"
    reservation: str | None = None


Permit = Callable[[Utterance], None]
"""Asked right before an utterance is spoken or sent. It raises an AvatarError where that must not be (the consent was
revoked a moment ago); the error then comes out with the utterance, and nothing was sent. Called from any thread."""


def always(utterance: Utterance) -> None:
    """Permit everything."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What became of an utterance: speech, or the error that is its own alone."""

    utterance: Utterance
    speech: Speech | None = None
    error: AvatarError | None = None


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What a provider allows now. None stands for no limit.

    `in_flight`: calls at once over all workers; `text_characters`: in one call; `credits_left`: until `resets_at`;
    `voices` and `voices_used`: slots for cloned voices; `languages`: tags that can be spoken.
    """

    in_flight: int | None
    text_characters: int | None
    credits_left: Decimal | None
    resets_at: datetime | None
    voices: int | None
    voices_used: int
    languages: frozenset[str]


class VoiceProvider(Protocol):
    """A source of voices."""

    @property
    def name(self) -> str:
        """Its name in settings, voice models and the ledger."""

    @property
    def fingerprint(self) -> str:
        """What else its sound depends on, such as the model: part of the key of all speech made with it."""

    def create_voice(
        self, enrolment: Audio | None, consent: ConsentRecord | None, *, language: str, owner: str = ""
    ) -> VoiceModel:
        """Make a voice from isolated speech, or a stock voice where `enrolment` is None. `owner` is the avatar's id.

        Raises:
            ConsentMissing: there is an enrolment and no consent that covers voice.
            SpeechNotUsable: the enrolment holds too little speech.
            VoiceNotReady: the provider wants the voice verified by a person first.
            ProviderDenied: it refuses for good, or the account may not.
            QuotaExhausted, ProviderBusy: not now.
        """

    def synthesize(self, batch: Sequence[Utterance]) -> Iterator[Spoken]:
        """Speak a batch; each utterance comes out once, as soon as it is done, in any order.

        An error that is one utterance's own comes out with it; the others go on. As many are in flight at once as the
        provider allows over all workers. Closing the iterator starts no more.

        Raises nothing of one utterance's own. `QuotaExhausted`, `ProviderBusy` and `VoiceNotReady` come out with the
        utterances that they keep waiting.
        """

    def delete_voice(self, voice: VoiceModel) -> None:
        """Forget the voice, remotely too; deleting what is gone already is not an error."""

    def limits(self) -> ProviderLimits:
        """Ask what is allowed now."""


def say_one(
    provider: VoiceProvider,
    voice: VoiceModel,
    text: str,
    settings: VoiceSettings = NATURAL,
    *,
    tenant: str = "default",
    reservation: str | None = None,
) -> Speech:
    """Speak one text; see `Utterance`.

    Raises:
        InvalidText: the text is empty, too long, or has nothing to speak.
        AvatarError: whatever else kept it from being spoken.
    """
    for spoken in provider.synthesize([Utterance("one", voice, text, settings, tenant, reservation)]):
        if spoken.error is not None:
            raise spoken.error
        if spoken.speech is not None:
            return spoken.speech
    raise AvatarError("The provider gave nothing back.", remedy="Try again; see the log of the worker.")
