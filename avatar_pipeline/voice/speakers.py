"""Who speaks: the print of a voice, and whether two recordings are of one person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.errors import SpeechNotUsable
from avatar_pipeline.voice.activity import FRAME_SECONDS, MIN_SPEECH_SECONDS
from avatar_pipeline.voice.cepstra import cepstra
from avatar_pipeline.voice.phrases import VoiceFrames, voice_frames
from avatar_pipeline.voice.pitch import RATE, resample
from avatar_pipeline.voice.speaker_space import Evidence, gather, speaker_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

SURELY_VOICED = 0.15
SAME_SPEAKER = -22.0
"""Likelihood ratio from which two recordings count as one person's: low, since a wrong refusal costs most.

`benchmarks.enrolment` measures what it gives.
"""


@dataclass(frozen=True, slots=True)
class VoicePrint:
    """The speech in a recording: cepstra (T, 38) of its speech frames, the F0 of each (0: not voiced), and when.

    `positions` are the numbers of the frames, 10 ms each, in the recording.
    """

    frames: NDArray[np.float32]
    f0: NDArray[np.float64]
    positions: NDArray[np.int64]

    @property
    def log_f0(self) -> NDArray[np.float64]:
        """ln F0 of the voiced frames."""
        voiced: NDArray[np.float64] = np.log(self.f0[self.f0 > 0])
        return voiced

    def part(self, start: int, stop: int) -> VoicePrint:
        """Return speech frames `start` to `stop`."""
        return VoicePrint(self.frames[start:stop], self.f0[start:stop], self.positions[start:stop])


def voice_print(audio: Audio, frames: VoiceFrames | None = None) -> VoicePrint:
    """Take the print of the speech in `audio`; `frames` may be given where they are known."""
    frames = frames or voice_frames(audio)
    positions = np.flatnonzero(frames.speech)
    level = float(np.sqrt(frames.power[positions].mean())) if len(positions) else 1.0
    found = cepstra(resample(audio, RATE), len(frames.speech), level)[positions]
    voiced = frames.pitch.aperiodicity[positions] < SURELY_VOICED
    return VoicePrint(found, np.where(voiced, frames.pitch.f0[positions], 0.0), positions)


@dataclass(frozen=True, slots=True)
class SpeakerMatch:
    """How alike two voices are: `score` is the ln likelihood ratio of one speaker to two, `same` the verdict."""

    score: float
    same: bool


def same_speaker(
    a: Audio, b: Audio, *, names: tuple[str, str] = ("The first recording", "The second recording")
) -> SpeakerMatch:
    """Compare the speakers of two recordings, whatever they say; each should hold one speaker, isolated from noise.

    The threshold lets an unlike voice through now and then rather than refuse the right person: it keeps out mix-ups
    and the careless, not a skilled imitator. `names` is what to call the recordings in messages.

    Raises:
        SpeechNotUsable: one of them holds less than two seconds of speech.
    """
    one, other = (speaker_space().place(_evidence(audio, name)) for audio, name in zip((a, b), names, strict=True))
    score = speaker_space().likelihood_ratio(one, other)
    return SpeakerMatch(score, score >= SAME_SPEAKER)


def _evidence(audio: Audio, name: str) -> Evidence:
    heard = voice_print(audio)
    evidence = gather(speaker_space().mixture, heard.frames, heard.log_f0)
    seconds = len(heard.frames) * FRAME_SECONDS
    if seconds < MIN_SPEECH_SECONDS or not evidence.enough:
        raise SpeechNotUsable(
            f"{name} holds {seconds:.1f} s of speech; to compare voices, {MIN_SPEECH_SECONDS:g} s are needed.",
            remedy="Give a longer recording of the person talking.",
        )
    return evidence
