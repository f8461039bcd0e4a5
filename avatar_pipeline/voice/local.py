"""The embedded voice: eSpeak NG, plain or fitted to a person's pitch and spectrum. No account, no network, no cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.errors import ConsentMissing, InvalidInput
from avatar_pipeline.voice import espeak
from avatar_pipeline.voice.activity import measure_speech, require_speech
from avatar_pipeline.voice.matching import MatchedVoice, describe_voice, match_voice, play_faster
from avatar_pipeline.voice.spectrum import apply_filter
from avatar_pipeline.voice.tempo import slow_down
from avatar_pipeline.voice.text import check_text
from avatar_pipeline.voice.types import NATURAL, Phoneme, Speech, VoiceModel, VoiceSettings, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.consent import ConsentRecord
    from avatar_pipeline.media.types import Audio

STOCK_LABEL = "stock voice"
MATCHED_LABEL = "voice-matched, not cloned"
LEVEL = 10 ** (-20 / 20)
PEAK = 10 ** (-1 / 20)


def _now() -> datetime:
    return datetime.now(UTC)


class LocalVoiceProvider:
    """Voices of the installed eSpeak NG (`pip install avatar-pipeline[local-voice]`), each utterance in a process.

    `clock` says what time consent is checked at; `time_limit` is how long one utterance may take, in seconds;
    `worker` is the command of the speech process.
    """

    name = "local"

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = _now,
        time_limit: float = espeak.TIME_LIMIT_SECONDS,
        worker: Sequence[str] = espeak.WORKER,
    ) -> None:
        self._clock = clock
        self._time_limit = time_limit
        self._worker = tuple(worker)

    @cached_property
    def voices(self) -> tuple[espeak.EspeakVoice, ...]:
        """The voices that eSpeak NG has.

        Raises:
            EnvironmentProblem: eSpeak NG is not installed or does not work.
        """
        return espeak.list_voices(self._worker, self._time_limit)

    def create_voice(self, enrolment: Audio | None, consent: ConsentRecord | None, *, language: str) -> VoiceModel:
        """Make a stock voice, or fit one to `enrolment` (a few seconds of work). Nothing leaves the machine.

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

    def synthesize(self, voice: VoiceModel, text: str, settings: VoiceSettings = NATURAL) -> Speech:
        """Speak `text` (1 to 5,000 characters) at 22,050 Hz and -20 dBFS, peaks below -1 dBFS.

        The speed is eSpeak NG's own: it shortens vowels and pauses more than consonants, as people do, and keeps the
        pitch. Measured over two texts: 0.96 to 1.02 of the speed asked for from 0.5 to 1.6, 0.93 to 0.98 at 2. Below 80
        words a minute, which only voices that are played faster can be asked for, it is stretched.

        Phoneme and word times are those of the synthesizer, exact to the sample; to 8 ms where it is stretched.
        The same voice, text, settings and version give the same bytes.

        Raises:
            InvalidText: the text is empty, too long, or has nothing to speak.
            InvalidInput: `voice` was not made by this provider.
            EnvironmentProblem: eSpeak NG is not installed, crashed or took too long.
        """
        from avatar_pipeline.media.types import Audio

        matched = _matched_voice(voice)
        pace, slower = espeak.at_speed(matched.settings, settings.speed)
        spoken = espeak.speak(check_text(text), pace, self._worker, self._time_limit)
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

    def delete_voice(self, voice: VoiceModel) -> None:
        """Do nothing: the voice model is all there is of the voice, and its owner deletes it."""

    def _speak_plainly(self, text: str, settings: espeak.Settings) -> Audio:
        from avatar_pipeline.media.types import Audio

        spoken = espeak.speak(text, settings, self._worker, self._time_limit)
        return Audio(_to_float(spoken.samples), spoken.rate)


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
