"""Where speech can be cut: phrases between pauses, with some of the pause on either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.activity import PERHAPS_VOICED, SILENCE_DBFS, speech_of_pitch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio
    from avatar_pipeline.voice.pitch import PitchTrack

PAUSE_FRAMES = 20
"""0.2 s: the closure of a stop inside a word is seldom longer than 0.15 s."""
SHORT_PAUSE_FRAMES = 15
EDGE_FRAMES = 15
QUIET_SHARE = 0.3
"""How far from the noise up to the speech (in dB) a frame still counts as quiet."""
LEAST_ABOVE_FLOOR_DB = 6.0
VOICED_LEVEL_SHARE = 0.15
FRAME_SPAN = 3
"""A frame's power is that of 40 ms: sound reaches so many frames into the quiet before it."""
LONG_FRAMES = 2_000
ENDLESS_FRAMES = 4_000
SHORTEST_SPEECH = 30


@dataclass(frozen=True, slots=True)
class Phrase:
    """Frames `start` to `stop` (10 ms each) from pause to pause, and how many of them are speech."""

    start: int
    stop: int
    speech: int


@dataclass(frozen=True, slots=True)
class VoiceFrames:
    """A recording in frames of 10 ms: pitch, which of them are speech, which are quiet, and their power (T,)."""

    pitch: PitchTrack
    speech: NDArray[np.bool_]
    quiet: NDArray[np.bool_]
    power: NDArray[np.float64]


def voice_frames(audio: Audio) -> VoiceFrames:
    """Look at `audio` frame by frame. Quiet frames are near the noise between the words, and not voiced."""
    from avatar_pipeline.voice.pitch import track_pitch

    pitch = track_pitch(audio)
    speech, power = speech_of_pitch(audio, pitch)
    level = 10 * np.log10(np.maximum(power, 1e-12))
    if not speech.any():
        return VoiceFrames(pitch, speech, np.ones(len(speech), dtype=bool), power)
    heard = level[level > SILENCE_DBFS + 10]
    floor = float(np.percentile(heard, 10))
    span = max(0.0, float(np.median(level[speech])) - floor)
    quiet = level < floor + max(LEAST_ABOVE_FLOOR_DB, QUIET_SHARE * span)
    quiet &= (pitch.aperiodicity > PERHAPS_VOICED) | (level < floor + VOICED_LEVEL_SHARE * span)
    return VoiceFrames(pitch, speech, quiet, power)


def find_phrases(frames: VoiceFrames) -> list[Phrase]:
    """Cut a recording into phrases at pauses of 0.2 s or more; phrases over 20 s also at pauses from 0.15 s.

    Each begins and ends in its pauses, up to 0.15 s from the sound. They do not overlap. What goes on for 40 s without
    a pause, as nobody's speech does, is cut at its quietest moment.
    """
    pauses = _quiet_runs(frames.quiet, PAUSE_FRAMES)
    phrases = _between(frames, pauses, 0, len(frames.quiet))
    result: list[Phrase] = []
    for phrase in phrases:
        if phrase.stop - phrase.start <= LONG_FRAMES:
            result.append(phrase)
            continue
        inner = [
            run
            for run in _quiet_runs(frames.quiet, SHORT_PAUSE_FRAMES)
            if run[0] > phrase.start + EDGE_FRAMES and run[1] < phrase.stop - EDGE_FRAMES
        ]
        for part in _between(frames, inner, phrase.start, phrase.stop):
            result += _halved(frames, part)
    return [phrase for phrase in result if phrase.speech >= SHORTEST_SPEECH]


def _quiet_runs(quiet: NDArray[np.bool_], shortest: int) -> list[tuple[int, int]]:
    """Return [start, stop) of the quiet runs of at least `shortest` frames, less where sound reaches into them."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    runs = ((int(a), int(b)) for a, b in edges.reshape(-1, 2))
    # A frame is quiet only if all of its 40 ms are: the quiet goes on for as long after the last one's start.
    return [(start, stop + FRAME_SPAN) for start, stop in runs if stop + FRAME_SPAN - start >= shortest]


def _between(frames: VoiceFrames, pauses: list[tuple[int, int]], start: int, stop: int) -> list[Phrase]:
    bounds: list[tuple[int, int]] = []
    begin = start
    for first, last in pauses:
        edge = min(EDGE_FRAMES, (last - first) // 2)
        if first > begin:
            bounds.append((begin, min(first + edge, stop)))
        begin = max(start, last - edge)
    if begin < stop:
        bounds.append((begin, stop))
    return [Phrase(a, b, int(np.count_nonzero(frames.speech[a:b]))) for a, b in bounds if b > a]


def _halved(frames: VoiceFrames, phrase: Phrase) -> list[Phrase]:
    """Cut what is longer than 40 s at the quietest frame of its middle half, again and again."""
    length = phrase.stop - phrase.start
    if length <= ENDLESS_FRAMES:
        return [phrase]
    first = phrase.start + length // 4
    middle = first + int(np.argmin(frames.power[first : first + length // 2]))
    parts = ((phrase.start, middle), (middle, phrase.stop))
    halves = [Phrase(a, b, int(np.count_nonzero(frames.speech[a:b]))) for a, b in parts]
    return [part for half in halves for part in _halved(frames, half)]
