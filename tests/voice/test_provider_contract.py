"""What every voice provider does, the embedded and the hosted one alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import ConsentMissing, ConsentRevoked, InvalidInput, InvalidText, SpeechNotUsable
from avatar_pipeline.ledger.charges import Charges
from avatar_pipeline.ledger.leases import Leases
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.voices import VoiceBook
from avatar_pipeline.media.types import Audio
from avatar_pipeline.settings import Settings
from avatar_pipeline.voice.elevenlabs import open_elevenlabs
from avatar_pipeline.voice.local import LocalVoiceProvider
from avatar_pipeline.voice.provider import Permit, Spoken, Utterance, VoiceProvider, always, say_one
from avatar_pipeline.voice.types import Speech, VoiceModel, VoiceSettings
from tests.elevenlabs.server import StandIn
from tests.voice.conftest import NOW

TEXTS = ("The harbour was quiet.", "Nobody had left a light on.", "What would you have done?")


@dataclass(frozen=True)
class Case:
    """A provider, and how to open it again: as another worker does, under a rule, or at another time."""

    provider: VoiceProvider
    open: Callable[..., VoiceProvider]


def local(permit: Permit = always, now: datetime = NOW) -> VoiceProvider:
    return LocalVoiceProvider(clock=lambda: now, permit=permit)


@pytest.fixture(scope="module", params=["local", "elevenlabs"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    if request.param == "local":
        yield Case(local(), local)
        return
    folder = tmp_path_factory.mktemp("hosted")
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    with StandIn(speech="beeps", tier="creator") as standin:

        def hosted(permit: Permit = always, now: datetime = NOW) -> VoiceProvider:
            settings = {"AVATAR_ELEVENLABS_API_KEY": standin.api_key, "elevenlabs_url": standin.url}
            return open_elevenlabs(
                Settings(**settings),
                Leases(ledger.engine),
                Charges(ledger.engine),
                VoiceBook(ledger.engine),
                cache_folder=folder / "cache",
                enrolments=lambda _: None,
                clock=lambda: now,
                permit=permit,
            )

        yield Case(hosted(), hosted)
    ledger.close()


@pytest.fixture(scope="module")
def provider(case: Case) -> VoiceProvider:
    return case.provider


@pytest.fixture(scope="module")
def voice(provider: VoiceProvider, speech: Audio, consent: ConsentRecord) -> VoiceModel:
    return provider.create_voice(speech, consent, language="en", owner="ada")


def batch(voice: VoiceModel, *texts: str, settings: VoiceSettings | None = None) -> list[Utterance]:
    return [
        Utterance(f"{number}", voice, text, settings or VoiceSettings(), tenant="acme")
        for number, text in enumerate(texts)
    ]


def heard(spoken: Spoken) -> Speech:
    assert spoken.error is None, spoken.error
    assert spoken.speech is not None
    return spoken.speech


def test_a_provider_says_who_it_is_and_what_its_sound_depends_on(case: Case) -> None:
    assert case.provider.name in {"local", "elevenlabs"}
    assert case.provider.fingerprint
    assert case.open().fingerprint == case.provider.fingerprint


def test_a_voice_says_whose_it_is_by_which_consent_and_what_it_is(
    provider: VoiceProvider, voice: VoiceModel, speech: Audio
) -> None:
    assert (voice.provider, voice.language, voice.consent_id) == (provider.name, "en", "consent-1")
    assert voice.label
    assert len(voice.enrolment_sha256 or "") == 64
    assert voice.enrolment_seconds == pytest.approx(speech.seconds)
    assert VoiceModel.model_validate_json(voice.model_dump_json()) == voice


def test_the_same_enrolment_of_the_same_owner_is_the_same_voice(
    case: Case, voice: VoiceModel, speech: Audio, consent: ConsentRecord
) -> None:
    assert case.open().create_voice(speech, consent, language="en", owner="ada") == voice


def test_no_voice_is_made_of_speech_without_a_consent_in_force(
    case: Case, speech: Audio, consent: ConsentRecord
) -> None:
    likeness_only = consent.model_copy(update={"scope": frozenset({"likeness"})})
    expired = consent.model_copy(update={"expires_at": NOW - timedelta(days=1)})
    for record in (None, likeness_only, expired):
        with pytest.raises(ConsentMissing):
            case.provider.create_voice(speech, record, language="en", owner="eve")
    with pytest.raises(ConsentMissing, match="in the future"):
        case.open(now=consent.given_at - timedelta(days=1)).create_voice(speech, consent, language="en", owner="eve")


def test_no_voice_is_made_of_silence_nor_for_a_language_that_nobody_speaks(
    provider: VoiceProvider, speech: Audio, consent: ConsentRecord
) -> None:
    with pytest.raises(SpeechNotUsable):
        provider.create_voice(Audio(np.zeros(100_000, np.float32), 16_000), consent, language="en", owner="eve")
    with pytest.raises(InvalidInput, match="tlh"):
        provider.create_voice(speech, consent, language="tlh", owner="eve")


def test_every_utterance_comes_out_once_with_its_speech(provider: VoiceProvider, voice: VoiceModel) -> None:
    wanted = batch(voice, *TEXTS)
    spoken = list(provider.synthesize(wanted))
    assert sorted(one.utterance.key for one in spoken) == ["0", "1", "2"]
    assert all(one.utterance in wanted for one in spoken)
    assert len({heard(one).audio.samples.tobytes() for one in spoken}) == 3
    assert list(provider.synthesize([])) == []


def test_speech_is_sound_with_times_inside_it(provider: VoiceProvider, voice: VoiceModel) -> None:
    text = "Good morning. It is 9 o'clock, and the harbour is quiet."
    speech = say_one(provider, voice, text)
    samples = speech.audio.samples
    assert (samples.dtype, samples.ndim) == (np.float32, 1)
    assert np.isfinite(samples).all()
    assert 0.01 < np.abs(samples).max() <= 1.0
    end = speech.audio.seconds + 1e-6
    assert speech.phonemes[0].start == pytest.approx(0.0)
    assert speech.phonemes[-1].end == pytest.approx(speech.audio.seconds, abs=0.02)
    for marks in (speech.phonemes, speech.words, speech.characters):
        assert all(mark.start <= mark.end <= end for mark in marks)
        assert all(one.end <= two.start + 1e-6 for one, two in itertools.pairwise(marks))
    assert sum(bool(phoneme.symbol) for phoneme in speech.phonemes) > 20
    assert [word.text.strip(".,").lower() for word in speech.words[-4:]] == ["the", "harbour", "is", "quiet"]


def test_times_are_the_synthesizers_own_or_come_with_those_of_the_letters(
    provider: VoiceProvider, voice: VoiceModel
) -> None:
    speech = say_one(provider, voice, TEXTS[0])
    assert speech.exact != bool(speech.characters)
    if speech.characters:
        assert "".join(mark.character for mark in speech.characters).strip() == TEXTS[0]


def test_what_it_costs_is_said(provider: VoiceProvider, voice: VoiceModel) -> None:
    speech = say_one(provider, voice, TEXTS[1])
    assert isinstance(speech.cost, Decimal)
    assert isinstance(speech.credits, Decimal)
    assert (speech.cost > 0) == (speech.credits > 0) == bool(speech.request_ids)


def test_the_same_text_sounds_the_same_on_every_worker(case: Case, voice: VoiceModel) -> None:
    one, two = (say_one(worker, voice, TEXTS[2]) for worker in (case.provider, case.open()))
    assert one.audio.samples.tobytes() == two.audio.samples.tobytes()
    assert (one.phonemes, one.words) == (two.phonemes, two.words)


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_speech_has_about_the_speed_asked_for(provider: VoiceProvider, voice: VoiceModel, speed: float) -> None:
    natural = say_one(provider, voice, TEXTS[0])
    other = say_one(provider, voice, TEXTS[0], VoiceSettings(speed=speed))
    assert natural.audio.seconds / other.audio.seconds == pytest.approx(speed, rel=0.2)
    assert other.words[-1].end <= other.audio.seconds + 1e-6


@pytest.mark.parametrize("text", ["", " \n", "...", "a\x00b", "x" * 5_001])
def test_a_text_that_cannot_be_spoken_fails_alone(provider: VoiceProvider, voice: VoiceModel, text: str) -> None:
    spoken = {one.utterance.text: one for one in provider.synthesize(batch(voice, TEXTS[0], text, TEXTS[1]))}
    assert isinstance(spoken[text].error, InvalidText)
    assert spoken[text].speech is None
    assert heard(spoken[TEXTS[0]]).words
    assert heard(spoken[TEXTS[1]]).words


def test_a_voice_of_another_provider_fails_alone(provider: VoiceProvider, voice: VoiceModel) -> None:
    foreign = voice.model_copy(update={"provider": "somebody"})
    wanted = [Utterance("a", foreign, TEXTS[0]), Utterance("b", voice, TEXTS[0])]
    spoken = {one.utterance.key: one for one in provider.synthesize(wanted)}
    assert isinstance(spoken["a"].error, InvalidInput)
    assert heard(spoken["b"])


def test_what_may_not_be_spoken_comes_out_with_the_reason_and_the_rest_is_spoken(case: Case, voice: VoiceModel) -> None:
    def permit(utterance: Utterance) -> None:
        if utterance.key == "1":
            raise ConsentRevoked("consent-1")

    texts = [f"{text} Said under a rule." for text in TEXTS]
    spoken = {one.utterance.key: one for one in case.open(permit=permit).synthesize(batch(voice, *texts))}
    assert isinstance(spoken["1"].error, ConsentRevoked)
    assert heard(spoken["0"])
    assert heard(spoken["2"])


def test_whoever_stops_listening_stops_the_batch(case: Case, voice: VoiceModel) -> None:
    asked: list[str] = []
    texts = [f"This is sentence number {number}." for number in range(200)]
    spoken = case.open(permit=lambda utterance: asked.append(utterance.key)).synthesize(batch(voice, *texts))
    assert heard(next(spoken))
    spoken.close()  # type: ignore[attr-defined]
    begun = len(asked)
    assert 1 <= begun < 150
    assert len(asked) == begun, "and none begins afterwards"


def test_limits_name_the_languages_and_the_longest_text(provider: VoiceProvider) -> None:
    limits = provider.limits()
    assert {"en", "fr", "de", "es"} <= limits.languages
    assert limits.text_characters is not None and limits.text_characters >= 1000
    assert limits.in_flight is None or limits.in_flight >= 1
    assert limits.credits_left is None or limits.credits_left >= 0
    assert limits.voices is None or limits.voices_used <= limits.voices


def test_a_voice_can_be_deleted_twice(provider: VoiceProvider, speech: Audio, consent: ConsentRecord) -> None:
    short = replace(speech, samples=speech.samples[: 8 * speech.rate])
    voice = provider.create_voice(short, consent, language="en", owner="bob")
    provider.delete_voice(voice)
    provider.delete_voice(voice)
