"""The embedded voice: eSpeak NG, plain or fitted to a person's pitch and spectrum. No account, no network, no cost."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.errors import AvatarError, ConsentMissing, EnvironmentProblem, InvalidInput, InvalidText
from avatar_pipeline.voice import espeak
from avatar_pipeline.voice.activity import measure_speech, require_speech
from avatar_pipeline.voice.matching import MatchedVoice, describe_voice, match_voice, play_faster
from avatar_pipeline.voice.provider import Permit, ProviderLimits, Spoken, Utterance, always
from avatar_pipeline.voice.spectrum import apply_filter
from avatar_pipeline.voice.tempo import slow_down
from avatar_pipeline.voice.text import MAX_CHARACTERS, check_text
from avatar_pipeline.voice.types import Phoneme, Speech, VoiceModel, VoiceSettings, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.consent import ConsentRecord
    from avatar_pipeline.media.types import Audio

STOCK_LABEL = "stock voice"
MATCHED_LABEL = "voice-matched, not cloned"
SOUND_VERSION = "1"
"""Raise it with any change by which the same voice model, text and settings sound otherwise."""
WORKERS = 2
"""Utterances spoken at once: a process each, and some filtering in a thread."""
PROBE = "1 2 3"
"""Digits are read in every language."""
LEVEL = 10 ** (-20 / 20)
PEAK = 10 ** (-1 / 20)


def _now() -> datetime:
    return datetime.now(UTC)


class LocalVoiceProvider:
    """Voices of the installed eSpeak NG (`pip install avatar-pipeline[local-voice]`), each utterance in a process.

    `clock` says what time consent is checked at; `time_limit` is how long one utterance may take, in seconds;
    `worker` is the command of the speech process; `workers` is how many utterances are spoken at once, which does not
    change a byte of any; `permit` is asked before each.
    """

    name = "local"

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = _now,
        time_limit: float = espeak.TIME_LIMIT_SECONDS,
        worker: Sequence[str] = espeak.WORKER,
        workers: int = WORKERS,
        permit: Permit = always,
    ) -> None:
        self._clock = clock
        self._time_limit = time_limit
        self._worker = tuple(worker)
        self._workers = workers
        self._permit = permit

    @property
    def fingerprint(self) -> str:
        """The version of our matching, and of the package that brings eSpeak NG and its data."""
        return f"{SOUND_VERSION}/espeakng-loader-{_loader_version()}"

    @cached_property
    def voices(self) -> tuple[espeak.EspeakVoice, ...]:
        """The voices that eSpeak NG has.

        Raises:
            EnvironmentProblem: eSpeak NG is not installed or does not work.
        """
        return espeak.list_voices(self._worker, self._time_limit)

    def create_voice(
        self, enrolment: Audio | None, consent: ConsentRecord | None, *, language: str, owner: str = ""
    ) -> VoiceModel:
        """Make a stock voice, or fit one to `enrolment` (a few seconds of work). Nothing leaves the machine.

        `owner` changes nothing: a voice model is all there is of a voice here.

        Raises:
            ConsentMissing: there is an enrolment and no consent for voice in force now.
            SpeechNotUsable: the enrolment holds too little speech.
            InvalidInput: no voice speaks `language`.
            EnvironmentProblem: eSpeak NG is not installed or does not work.
        """
        if enrolment is not None:
            if consent is None:
                raise ConsentMissing(
                    "There is no consent for the voice of the enrolment.",
                    remedy="Give a consent file whose scope holds 'voice', or use a stock voice: --voice local:en",
                )
            consent.require("voice", self._clock())
        voice = espeak.resolve_voice(language, self.voices)
        if enrolment is None:
            settings = espeak.Settings(voice.identifier)
            return VoiceModel(
                provider=self.name, language=language, label=STOCK_LABEL, parameters=_settings_as_parameters(settings)
            )
        report = measure_speech(enrolment)
        require_speech(report, "The enrolment")
        profile = describe_voice(enrolment)
        matched = match_voice(profile, voice.identifier, self._speak_plainly)
        return VoiceModel(
            provider=self.name,
            language=language,
            label=MATCHED_LABEL,
            enrolment_sha256=_sha256(enrolment),
            enrolment_seconds=enrolment.seconds,
            consent_id=consent.consent_id if consent else None,
            parameters=_settings_as_parameters(matched.settings)
            | {
                "alpha": matched.alpha,
                "eq_fir": matched.taps.tolist(),
                "f0_median": profile.f0_median,
                "f0_logsd": profile.f0_logsd,
                "ltas": profile.ltas.tolist(),
            },
        )

    def synthesize(self, batch: Sequence[Utterance]) -> Iterator[Spoken]:
        """Speak texts of 1 to 5,000 characters at 22,050 Hz and -20 dBFS, peaks below -1 dBFS; see `provider`.

        The speed is eSpeak NG's own: it shortens vowels and pauses more than consonants, as people do, and keeps the
        pitch. Measured over two texts: 0.96 to 1.08 of the speed asked for from 0.5 to 1.6, 0.93 to 0.98 at 2. Below 85
        words a minute it is stretched.

        Phoneme and word times are those of the synthesizer, exact to the sample; to 8 ms where it is stretched.
        The same voice, text, settings and version give the same bytes.

        Errors that come out with an utterance:
            InvalidText: the text is empty, too long, has nothing to speak, or eSpeak NG dies of it.
            InvalidInput: the voice was not made by this provider.
            EnvironmentProblem: eSpeak NG is not installed, crashed or took too long.
        """
        from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

        waiting = deque(batch)
        running: set[Future[Spoken]] = set()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="speech") as pool:
            while waiting or running:
                # Twice as many as can run, so that none idles while the last result is being written.
                while waiting and len(running) < 2 * self._workers:
                    running.add(pool.submit(self._spoken, waiting.popleft()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()

    def limits(self) -> ProviderLimits:
        """Return the languages that eSpeak NG lists and the length of a text; there are no other limits.

        Raises:
            EnvironmentProblem: eSpeak NG is not installed or does not work.
        """
        return ProviderLimits(
            in_flight=None,
            text_characters=MAX_CHARACTERS,
            credits_left=None,
            resets_at=None,
            voices=None,
            voices_used=0,
            languages=frozenset(tag for voice in self.voices for tag in voice.languages),
        )

    def delete_voice(self, voice: VoiceModel) -> None:
        """Do nothing: the voice model is all there is of the voice, and its owner deletes it."""

    def _spoken(self, utterance: Utterance) -> Spoken:
        try:
            self._permit(utterance)
            return Spoken(utterance, self._speak(utterance.voice, utterance.text, utterance.settings))
        except AvatarError as error:
            return Spoken(utterance, error=error)

    def _speak(self, voice: VoiceModel, text: str, settings: VoiceSettings) -> Speech:
        from avatar_pipeline.media.types import Audio

        matched = _matched_voice(voice)
        pace, slower = espeak.at_speed(matched.settings, settings.speed)
        spoken = self._ask(check_text(text), pace)
        audio = Audio(_to_float(spoken.samples), spoken.rate)
        if slower < 1.0:
            audio = slow_down(audio, slower)
        if matched.alpha != 1.0:
            audio = play_faster(audio, matched.alpha)
        samples = audio.samples.astype(np.float64)
        if len(matched.taps):
            samples = apply_filter(samples, matched.taps)
        audio = Audio(_level(samples), spoken.rate)
        scale = 1.0 / (matched.alpha * slower)
        return Speech(
            audio=audio,
            phonemes=tuple(Phoneme(p.symbol, p.start * scale, p.end * scale) for p in spoken.phonemes),
            words=tuple(Word(w.text, w.start * scale, w.end * scale) for w in spoken.words),
            cost=Decimal("0"),
        )

    def _ask(self, text: str, settings: espeak.Settings) -> espeak.Utterance:
        """Have a text spoken. Where the process dies of one text again, and not of another, the text is at fault."""
        try:
            return espeak.speak(text, settings, self._worker, self._time_limit)
        except EnvironmentProblem:
            pass
        try:
            return espeak.speak(text, settings, self._worker, self._time_limit)
        except EnvironmentProblem as error:
            espeak.speak(PROBE, settings, self._worker, self._time_limit)
            raise InvalidText(
                f"eSpeak NG speaks other texts, and not this one: {error.message}",
                remedy="Write it in another way, in shorter sentences and without unusual characters.",
            ) from error

    def _speak_plainly(self, text: str, settings: espeak.Settings) -> Audio:
        from avatar_pipeline.media.types import Audio

        spoken = espeak.speak(text, settings, self._worker, self._time_limit)
        return Audio(_to_float(spoken.samples), spoken.rate)


def _loader_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("espeakng-loader")
    except PackageNotFoundError:
        return "absent"


def _settings_as_parameters(settings: espeak.Settings) -> dict[str, float | int | str | list[float]]:
    return {
        "voice": settings.voice,
        "rate": settings.rate,
        "pitch": settings.pitch,
        "range": settings.range,
    }


def _matched_voice(voice: VoiceModel) -> MatchedVoice:
    """Read the parameters of a voice that `create_voice` made; a stock voice has alpha 1 and no filter.

    Raises:
        InvalidInput: they are not those of a local voice.
    """
    if voice.provider != LocalVoiceProvider.name:
        raise InvalidInput(
            f"The voice belongs to the provider {voice.provider!r}, not 'local'.",
            remedy="Speak with the provider that made the voice, or make a new one.",
        )
    parameters = voice.parameters
    name, alpha, taps = parameters.get("voice"), parameters.get("alpha", 1.0), parameters.get("eq_fir", [])
    numbers = [parameters.get(key) for key in ("rate", "pitch", "range")]
    if not (isinstance(name, str) and isinstance(alpha, int | float) and isinstance(taps, list) and alpha > 0):
        raise InvalidInput("The voice model lacks a voice, alpha or filter.", remedy="Make the voice again.")
    rate, pitch, range_ = (number if isinstance(number, int) else -1 for number in numbers)
    if min(rate, pitch, range_) < 0:
        raise InvalidInput("The voice model lacks a rate, pitch or range.", remedy="Make the voice again.")
    return MatchedVoice(espeak.Settings(name, rate, pitch, range_), float(alpha), np.array(taps, dtype=np.float64))


def _to_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return (samples / np.float32(32768.0)).astype(np.float32, copy=False)


def _level(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale to -20 dBFS RMS, or less where the peak would pass -1 dBFS."""
    rms = float(np.sqrt(np.mean(samples**2)))
    peak = float(np.max(np.abs(samples)))
    gain = min(LEVEL / max(rms, 1e-6), PEAK / max(peak, 1e-6))
    return (samples * gain).astype(np.float32)


def _sha256(audio: Audio) -> str:
    digest = hashlib.sha256(f"{audio.rate}:".encode())
    digest.update(np.ascontiguousarray(audio.samples, dtype="<f4").tobytes())
    return digest.hexdigest()
