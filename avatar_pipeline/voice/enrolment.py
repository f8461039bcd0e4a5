"""From an isolated voice to what a voice is made from: the best minute or two, one speaker, at the level wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_pipeline.voice.activity import FRAME_SECONDS, frame_power, measure_speech, require_speech
from avatar_pipeline.voice.loudness import Loudness, normalise
from avatar_pipeline.voice.music import MusicReport, detect_music
from avatar_pipeline.voice.phrases import Phrase, VoiceFrames, find_phrases, voice_frames
from avatar_pipeline.voice.second_speaker import SecondSpeaker, find_second_speaker
from avatar_pipeline.voice.speakers import VoicePrint, voice_print
from avatar_pipeline.voice.stretches import Candidate, choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

FADE_SECONDS = 0.01
LONGEST_CANDIDATE = 1_500
SHORTEST_CANDIDATE = 300
BREAK_FRAMES = 100
NEARBY_FRAMES = 500
FEWEST_QUIET = 20
BEST_SNR_DB = 60.0
CLIPPED = 0.999
COLOUR = 6
MOST_OTHER_SPEAKER = 0.2
"""A stretch with more of the other speaker in it than this is not the person's."""
SPEAKER_CHANGE_SECONDS = 0.75
"""When one speaker ends and another begins is known to half a piece of speech."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of the recording that was taken: from `start` to `end` in seconds, why, and its speech over its noise."""

    start: float
    end: float
    why: str
    snr_db: float


@dataclass(frozen=True, slots=True)
class EnrolmentReport:
    """What was chosen and what was found.

    `seconds` is the length of the enrolment, `speech_seconds` how much of that is speech. `snr_db` is the speech over
    what is left between the words, in what was chosen. `second_speaker` and `music` are of the whole recording.
    """

    seconds: float
    speech_seconds: float
    stretches: tuple[Stretch, ...]
    loudness: Loudness
    snr_db: float
    clipped_ratio: float
    second_speaker: SecondSpeaker
    music: MusicReport

    def facts(self) -> dict[str, Any]:
        """Return the figures as an artifact keeps them."""
        return {
            "enrolment_seconds": round(self.seconds, 2),
            "enrolment_speech_seconds": round(self.speech_seconds, 2),
            "enrolment_stretches": [f"{s.start:.2f}–{s.end:.2f} s: {s.why}" for s in self.stretches],
            "enrolment_snr_db": round(self.snr_db, 1),
            "enrolment_clipped_ratio": round(self.clipped_ratio, 5),
            "lufs": round(self.loudness.lufs, 2),
            "true_peak_db": round(self.loudness.true_peak_db, 2),
            "loudness_given_up": self.loudness.given_up or "nothing",
            "second_speaker": self.second_speaker.present,
            "second_speaker_share": round(self.second_speaker.share, 3),
            "second_speaker_confidence": round(self.second_speaker.confidence, 3),
            "second_speaker_times": [f"{start:.1f}–{end:.1f} s" for start, end in self.second_speaker.times],
            "music": self.music.present,
            "music_share": round(self.music.share, 3),
            "music_times": [f"{start:.1f}–{end:.1f} s" for start, end in self.music.times],
        }


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a voice is made from, and how it was chosen."""

    audio: Audio
    report: EnrolmentReport = field(repr=False)


def choose_enrolment(isolated: Audio, original: Audio | None = None, *, name: str = "The recording") -> Enrolment:
    """Choose the best 60 to 120 s of `isolated`, or what there is, and bring it to -20 LUFS and -3 dBTP.

    `original` is the recording before isolation, on the same clock; noise, clipping and music are judged by it where it
    is given. `name` is what to call the recording in messages. Cuts lie in pauses, with fades of 10 ms. Where two
    people speak, only the one who speaks more is kept. The same audio gives the same enrolment.

    Raises:
        SpeechNotUsable: there is less than two seconds of speech, in all or of the one speaker.
    """
    from avatar_pipeline.media.types import Audio
    from avatar_pipeline.voice.pitch import RATE, resample

    voice = Audio(resample(isolated, RATE), RATE)
    require_speech(measure_speech(voice), name)
    before = voice if original is None else Audio(resample(original, RATE), RATE)
    frames = voice_frames(voice)
    heard = voice_print(voice, frames)
    second = find_second_speaker(heard)
    music = detect_music(before)
    candidates = _candidates(frames, heard, second, music, isolated if original is None else original, before)
    stretches = tuple(
        # The last frame starts before the end, and what follows it belongs to it.
        Stretch(
            start * FRAME_SECONDS,
            stop * FRAME_SECONDS if stop < len(frames.speech) else isolated.seconds,
            why,
            snr,
        )
        for start, stop, why, snr in choose(candidates)
    )
    audio = _joined(isolated, [(stretch.start, stretch.end) for stretch in stretches])
    speech = measure_speech(audio)
    require_speech(speech, name)
    audio, loudness = normalise(audio)
    report = EnrolmentReport(
        seconds=audio.seconds,
        speech_seconds=speech.speech_seconds,
        stretches=stretches,
        loudness=loudness,
        snr_db=float(np.average([s.snr_db for s in stretches], weights=[s.end - s.start for s in stretches])),
        clipped_ratio=speech.clipped_ratio,
        second_speaker=second,
        music=music,
    )
    return Enrolment(audio, report)


def _candidates(
    frames: VoiceFrames,
    heard: VoicePrint,
    second: SecondSpeaker,
    music: MusicReport,
    untouched: Audio,
    before: Audio,
) -> list[Candidate]:
    """Describe what could be taken: neighbouring phrases together, 3 to 15 s where the pauses allow it."""
    power_before = _power_of(before, len(frames.speech))
    other = _mask(second.times if second.present else (), len(frames.speech), SPEAKER_CHANGE_SECONDS)
    musical = _mask(music.times if music.present else (), len(frames.speech))
    found = []
    for phrase in _together(find_phrases(frames), other):
        span = slice(phrase.start, phrase.stop)
        if other[span].mean() > MOST_OTHER_SPEAKER:
            continue
        rows = slice(*np.searchsorted(heard.positions, [phrase.start, phrase.stop]))
        part = heard.part(rows.start, rows.stop)
        log_f0 = part.log_f0
        samples = untouched.samples[
            int(phrase.start * FRAME_SECONDS * untouched.rate) : int(phrase.stop * FRAME_SECONDS * untouched.rate)
        ]
        found.append(
            Candidate(
                start=phrase.start,
                stop=phrase.stop,
                speech=phrase.speech,
                snr_db=_snr(frames.power, frames, phrase),
                snr_before_db=_snr(power_before, frames, phrase),
                clipped=float(np.count_nonzero(np.abs(samples) >= CLIPPED)) / max(1, len(samples)),
                music=float(musical[span].mean()),
                level_db=10 * float(np.log10(max(float(frames.power[span][frames.speech[span]].mean()), 1e-12))),
                pitch=float(np.median(log_f0)) if len(log_f0) else 0.0,
                pitch_spread=float(np.std(log_f0)) if len(log_f0) else 0.0,
                colour=part.frames[:, :COLOUR].mean(axis=0).astype(np.float64),
            )
        )
    return found


def _power_of(audio: Audio, count: int) -> NDArray[np.float64]:
    """Return the mean square of `count` frames, 10 ms apart and 40 ms long."""
    from avatar_pipeline.voice.pitch import HOP

    missing = max(0, (count + 3) * HOP - len(audio.samples))
    return frame_power(np.pad(audio.samples, (0, missing)), HOP, count)


def _together(phrases: list[Phrase], other: NDArray[np.bool_]) -> list[Phrase]:
    """Join neighbouring phrases until they are 3 s long, but not across a pause of a second or another speaker."""
    joined: list[Phrase] = []
    for phrase in phrases:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.stop - last.start < SHORTEST_CANDIDATE
            and phrase.stop - last.start <= LONGEST_CANDIDATE
            and phrase.start - last.stop < BREAK_FRAMES
            and other[phrase.start : phrase.stop].any() == other[last.start : last.stop].any()
        ):
            joined[-1] = Phrase(last.start, phrase.stop, last.speech + phrase.speech)
        else:
            joined.append(phrase)
    return joined


def _mask(times: tuple[tuple[float, float], ...], count: int, around: float = 0.0) -> NDArray[np.bool_]:
    """Mark the frames of these times; `around` seconds before and after them too."""
    mask = np.zeros(count, dtype=bool)
    for start, end in times:
        mask[max(0, round((start - around) / FRAME_SECONDS)) : round((end + around) / FRAME_SECONDS)] = True
    return mask


def _snr(power: NDArray[np.float64], frames: VoiceFrames, phrase: Phrase) -> float:
    """Return speech over noise in dB, 0 to 60; the noise is that of quiet frames in the phrase and within 5 s of it."""
    around = slice(max(0, phrase.start - NEARBY_FRAMES), phrase.stop + NEARBY_FRAMES)
    quiet = power[around][frames.quiet[around]]
    # Quiet frames hold ends of words too: the noise is what the quieter of them have.
    noise = float(np.percentile(quiet, 20)) if len(quiet) >= FEWEST_QUIET else float(np.percentile(power[around], 5))
    inside = slice(phrase.start, phrase.stop)
    speech = power[inside][frames.speech[inside]]
    loud = float(speech.mean()) if len(speech) else 0.0
    return float(np.clip(10 * np.log10(max(loud - noise, 1e-12) / max(noise, 1e-12)), 0.0, BEST_SNR_DB))


def _joined(audio: Audio, spans: list[tuple[float, float]]) -> Audio:
    """Cut the spans (in seconds) out and put them one after the other, faded at both ends."""
    from avatar_pipeline.media.types import Audio

    fade = max(1, round(FADE_SECONDS * audio.rate))
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / fade)).astype(np.float32)
    parts = []
    for start, end in spans:
        part = audio.samples[round(start * audio.rate) : round(end * audio.rate)].copy()
        if len(part) >= 2 * fade:
            part[:fade] *= rise
            part[-fade:] *= rise[::-1]
        parts.append(part)
    return Audio(np.concatenate(parts) if parts else np.zeros(0, np.float32), audio.rate)
