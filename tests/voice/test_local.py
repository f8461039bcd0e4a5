"""The embedded provider: stock and matched voices, consent, and the same bytes each time."""

from __future__ import annotations

import itertools
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import ConsentMissing, EnvironmentProblem, InvalidInput, InvalidText, SpeechNotUsable
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.local import LocalVoiceProvider
from avatar_pipeline.voice.pitch import track_pitch
from avatar_pipeline.voice.provider import say_one
from avatar_pipeline.voice.spectrum import apply_filter, average_spectrum, spectral_distance
from avatar_pipeline.voice.types import VoiceModel, VoiceSettings
from tests.voice.conftest import NOW, PASSAGE, join, load, say

SENTENCES = (
    "My voice model was built from a short video and now it can read anything you type.",
    "Imagine buying dozens or even hundreds of investments with a single click.",
    "Peter Piper picked a peck of pickled peppers while Bob bought a big blue boat.",
    "How are you today? I hope that the weather treats you well over there.",
)


@pytest.fixture(scope="module")
def stock(provider: LocalVoiceProvider) -> VoiceModel:
    return provider.create_voice(None, None, language="en")


@pytest.fixture(scope="module")
def enrolment() -> Audio:
    """Somebody else's voice: another accent and height, through a telephone-like channel."""
    other = say(PASSAGE * 2, voice="gmw/en-GB-scotland", pitch=70, range=60, rate=150)
    dull = apply_filter(other.samples.astype(np.float64), np.array([0.25, 0.5, 0.25]))
    return Audio(dull.astype(np.float32), other.rate)


@pytest.fixture(scope="module")
def matched(provider: LocalVoiceProvider, enrolment: Audio, consent: ConsentRecord) -> VoiceModel:
    return provider.create_voice(enrolment, consent, language="en")


def read_aloud(provider: LocalVoiceProvider, voice: VoiceModel) -> Audio:
    return join(*(say_one(provider, voice, sentence).audio for sentence in SENTENCES))


def test_a_stock_voice_needs_no_consent_and_says_what_it_is(stock: VoiceModel) -> None:
    assert (stock.provider, stock.label, stock.language) == ("local", "stock voice", "en")
    assert stock.enrolment_sha256 is None
    assert stock.consent_id is None


def test_a_matched_voice_says_that_it_is_no_clone_and_whose_consent_it_has(
    matched: VoiceModel, enrolment: Audio
) -> None:
    assert matched.label == "voice-matched, not cloned"
    assert matched.consent_id == "consent-1"
    assert len(matched.enrolment_sha256 or "") == 64
    assert matched.enrolment_seconds == enrolment.seconds


def test_a_matched_voice_has_the_pitch_and_the_spectrum_of_its_enrolment(
    provider: LocalVoiceProvider, matched: VoiceModel, stock: VoiceModel, enrolment: Audio
) -> None:
    spoken, plain = read_aloud(provider, matched), read_aloud(provider, stock)
    wanted, _ = track_pitch(enrolment).median_and_spread()
    assert track_pitch(spoken).median_and_spread()[0] == pytest.approx(wanted, rel=0.05)
    assert abs(track_pitch(plain).median_and_spread()[0] / wanted - 1) > 0.1
    target = average_spectrum(enrolment)
    assert spectral_distance(average_spectrum(spoken), target) < 1.5
    assert spectral_distance(average_spectrum(plain), target) > 2.2


def test_a_voice_survives_its_json(matched: VoiceModel, provider: LocalVoiceProvider) -> None:
    again = VoiceModel.model_validate_json(matched.model_dump_json())
    assert again == matched
    one, two = (say_one(provider, voice, "The same voice.").audio for voice in (matched, again))
    assert one.samples.tobytes() == two.samples.tobytes()


def test_the_same_enrolment_gives_the_same_voice(
    provider: LocalVoiceProvider, matched: VoiceModel, enrolment: Audio, consent: ConsentRecord
) -> None:
    assert LocalVoiceProvider(clock=lambda: NOW).create_voice(enrolment, consent, language="en") == matched


@pytest.mark.parametrize("kind", ["stock", "matched"])
def test_speech_is_levelled_timed_and_free(
    provider: LocalVoiceProvider, request: pytest.FixtureRequest, kind: str
) -> None:
    speech = say_one(provider, request.getfixturevalue(kind), PASSAGE)
    samples = speech.audio.samples
    assert (speech.audio.rate, samples.dtype, samples.ndim) == (22_050, np.float32, 1)
    assert np.abs(samples).max() <= 10 ** (-1 / 20) + 1e-6
    assert 20 * np.log10(np.sqrt(np.mean(samples**2))) == pytest.approx(-20, abs=2)
    assert speech.cost == 0
    assert speech.phonemes[0].start == 0
    assert speech.phonemes[-1].end == pytest.approx(speech.audio.seconds, abs=1 / 22_050)
    assert [word.text for word in speech.words][:4] == ["The", "harbour", "was", "quiet"]
    assert len(speech.words) == len(PASSAGE.split())


def test_times_of_a_matched_voice_are_those_of_its_sound(provider: LocalVoiceProvider, matched: VoiceModel) -> None:
    """Playing faster moves sound and times alike: closures of /p/ are still where the times say."""
    shifted = matched.model_copy(update={"parameters": matched.parameters | {"alpha": 1.2}})
    speech = say_one(provider, shifted, "A happy puppy stopped upon the open paper.")
    samples, rate = speech.audio.samples, speech.audio.rate
    level = np.sqrt(np.mean(samples**2))
    for phoneme in speech.phonemes:
        if phoneme.symbol == "p":
            start = int((phoneme.start + 0.008) * rate)
            assert np.sqrt(np.mean(samples[start : start + 200] ** 2)) < 0.15 * level


@pytest.mark.parametrize("kind", ["stock", "matched"])
def test_the_voices_own_speed_is_no_setting(
    provider: LocalVoiceProvider, request: pytest.FixtureRequest, kind: str
) -> None:
    voice = request.getfixturevalue(kind)
    one, two = say_one(provider, voice, PASSAGE), say_one(provider, voice, PASSAGE, VoiceSettings(speed=1.0))
    assert one.audio.samples.tobytes() == two.audio.samples.tobytes()
    assert (one.phonemes, one.words) == (two.phonemes, two.words)


@pytest.mark.parametrize("kind", ["stock", "matched", "high"])
@pytest.mark.parametrize("speed", [0.5, 0.7, 1.25, 1.6, 2.0])
def test_speech_has_the_speed_asked_for_the_same_pitch_and_times_of_its_own_sound(
    provider: LocalVoiceProvider, matched: VoiceModel, request: pytest.FixtureRequest, kind: str, speed: float
) -> None:
    """A high voice, played 1.3 times as fast, asks eSpeak NG at half speed for less than it can: 64 words a minute."""
    high = matched.model_copy(update={"parameters": matched.parameters | {"alpha": 1.3, "rate": 127}})
    voice = high if kind == "high" else request.getfixturevalue(kind)
    natural = say_one(provider, voice, PASSAGE)
    speech = say_one(provider, voice, PASSAGE, VoiceSettings(speed=speed))
    assert natural.audio.seconds / speech.audio.seconds == pytest.approx(speed, rel=0.1)
    pitches = [track_pitch(said.audio).median_and_spread()[0] for said in (natural, speech)]
    assert pitches[1] == pytest.approx(pitches[0], rel=0.06)
    assert speech.phonemes[0].start == 0
    assert speech.phonemes[-1].end == pytest.approx(speech.audio.seconds, abs=1 / 22_050)
    assert all(one.end == two.start for one, two in itertools.pairwise(speech.phonemes))
    assert all(phoneme.end > phoneme.start for phoneme in speech.phonemes)
    assert [word.text for word in speech.words] == [word.text for word in natural.words]
    assert all(one.start < one.end <= two.start for one, two in itertools.pairwise(speech.words))
    assert speech.words[-1].end <= speech.audio.seconds


@pytest.mark.parametrize("alpha", [1.0, 1.3])
@pytest.mark.parametrize("speed", [0.5, 1.6])
def test_at_any_speed_the_lips_are_shut_where_the_sound_is(
    provider: LocalVoiceProvider, stock: VoiceModel, alpha: float, speed: float
) -> None:
    voice = stock.model_copy(update={"parameters": stock.parameters | {"alpha": alpha, "rate": round(165 / alpha)}})
    speech = say_one(provider, voice, "A happy puppy stopped upon the open paper.", VoiceSettings(speed=speed))
    samples, rate = speech.audio.samples, speech.audio.rate
    level = np.sqrt(np.mean(samples**2))
    closures = [phoneme for phoneme in speech.phonemes if phoneme.symbol == "p"]
    assert len(closures) > 5
    for phoneme in closures:
        start = int((phoneme.start + 0.010) * rate)
        assert np.sqrt(np.mean(samples[start : start + 150] ** 2)) < 0.15 * level


def test_other_languages_speak(provider: LocalVoiceProvider) -> None:
    voice = provider.create_voice(None, None, language="fr-fr")
    speech = say_one(provider, voice, "Bonjour à tous.")
    assert [word.text for word in speech.words] == ["Bonjour", "à", "tous"]
    assert any("ʁ" in phoneme.symbol for phoneme in speech.phonemes)


def test_an_enrolment_without_consent_is_refused(
    provider: LocalVoiceProvider, enrolment: Audio, consent: ConsentRecord
) -> None:
    likeness_only = consent.model_copy(update={"scope": frozenset({"likeness"})})
    expired = consent.model_copy(update={"expires_at": NOW - timedelta(days=1)})
    revoked = consent.model_copy(update={"revoked_at": NOW})
    for record in (None, likeness_only, expired, revoked):
        with pytest.raises(ConsentMissing):
            provider.create_voice(enrolment, record, language="en")


def test_consent_is_checked_at_the_time_of_the_clock(enrolment: Audio, consent: ConsentRecord) -> None:
    early = LocalVoiceProvider(clock=lambda: consent.given_at - timedelta(days=1))
    with pytest.raises(ConsentMissing, match="in the future"):
        early.create_voice(enrolment, consent, language="en")


def test_an_enrolment_without_speech_is_refused(provider: LocalVoiceProvider, consent: ConsentRecord) -> None:
    with pytest.raises(SpeechNotUsable, match="The enrolment holds no speech"):
        provider.create_voice(Audio(np.zeros(100_000, np.float32), 16_000), consent, language="en")


@pytest.mark.parametrize("text", ["", "   ", "...", "a\x00b", "x" * 5_001])
def test_text_that_cannot_be_spoken_is_refused(provider: LocalVoiceProvider, stock: VoiceModel, text: str) -> None:
    with pytest.raises(InvalidText):
        say_one(provider, stock, text)


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "elevenlabs"},
        {"parameters": {}},
        {"parameters": {"voice": "gmw/en-US"}},
        {"parameters": {"voice": "gmw/en-US", "rate": 165, "pitch": 50, "range": 50, "alpha": 0.0}},
        {"parameters": {"voice": "gmw/en-US", "rate": 165, "pitch": 50, "range": 50, "alpha": "x"}},
    ],
)
def test_a_voice_of_another_provider_or_a_damaged_one_is_refused(
    provider: LocalVoiceProvider, stock: VoiceModel, change: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        say_one(provider, stock.model_copy(update=change), "Hello.")


def test_a_text_that_the_synthesizer_dies_of_fails_alone(stock: VoiceModel, tmp_path: Path) -> None:
    """A worker that is killed by one text, as by a fault in eSpeak NG, and speaks all others."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import io, os, signal, sys\n"
        "from avatar_pipeline.voice import espeak_worker\n"
        "asked = sys.stdin.buffer.read()\n"
        "if b'abracadabra' in asked:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.stdin = io.TextIOWrapper(io.BytesIO(asked))\n"
        "sys.exit(espeak_worker.main())\n"
    )
    provider = LocalVoiceProvider(worker=(sys.executable, str(worker)))
    assert say_one(provider, stock, "Hello.").words
    with pytest.raises(InvalidText, match="signal 9"):
        say_one(provider, stock, "Say abracadabra.")


def test_a_synthesizer_that_does_not_work_is_no_texts_fault(stock: VoiceModel) -> None:
    provider = LocalVoiceProvider(worker=(sys.executable, "-c", "raise SystemExit(9)"))
    with pytest.raises(EnvironmentProblem):
        say_one(provider, stock, "Hello.")


def test_deleting_a_voice_twice_is_no_error(provider: LocalVoiceProvider, stock: VoiceModel) -> None:
    provider.delete_voice(stock)
    provider.delete_voice(stock)


def test_real_speakers_are_matched_in_pitch_and_spectrum(
    provider: LocalVoiceProvider, stock: VoiceModel, consent: ConsentRecord, recordings: Path
) -> None:
    """Enrol on all but the longest recording of each speaker; measure against that. See benchmarks.local_voice."""
    raw = average_spectrum(read_aloud(provider, stock))
    distances = []
    for folder in sorted((recordings / "librispeech").iterdir()):
        files = sorted(folder.glob("*.flac"), key=lambda path: path.stat().st_size)
        if not files:
            continue
        held_out = load(files.pop())
        enrolment = join(*map(load, files))
        spoken = read_aloud(provider, provider.create_voice(enrolment, consent, language="en"))
        wanted, _ = track_pitch(enrolment).median_and_spread()
        assert track_pitch(spoken).median_and_spread()[0] == pytest.approx(wanted, rel=0.03), folder.name
        target = average_spectrum(held_out)
        distances.append(spectral_distance(average_spectrum(spoken), target))
        assert distances[-1] < spectral_distance(raw, target), folder.name
    assert len(distances) == 4
    assert np.mean(distances) <= 2.0
