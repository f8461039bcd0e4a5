"""Which stretches of a recording to take: clean ones first, then those that add something new. Pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_FRAMES = 6_000
MAX_FRAMES = 12_000
"""60 and 120 s in frames of 10 ms: what cloning asks for, and where more does not help."""
CLEAN_SNR_DB = 15.0
"""What goes beyond the minute must have this; what the minute lacks is made up with the rest."""
CLEAN_SNR_BEFORE_DB = 6.0
"""Before isolation: where the noise was nearly as loud as the voice, isolation leaves its own traces."""
MOST_CLIPPED = 0.001
MOST_MUSIC = 0.3
LEVEL_TOLERANCE_DB = 6.0
FULL_SNR_DB = 45.0
VARIETY = 0.35
NEW_ENOUGH = 0.5
SHORT_GAP_FRAMES = 30
"""A gap in which nothing could have been left out: it stays as it is rather than being cut."""
PITCH_UNIT = 0.15
SPREAD_UNIT = 0.1
COLOUR_UNIT = 1.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stretch from frame `start` to `stop` with `speech` frames of speech, and what is known of it.

    `snr_db` is after isolation, `snr_before_db` before it; `clipped` the share of samples at full scale, `music` the
    share with music; `pitch` the median of ln F0, `pitch_spread` its deviation, `colour` its mean low cepstra.
    """

    start: int
    stop: int
    speech: int
    snr_db: float
    snr_before_db: float
    clipped: float
    music: float
    level_db: float
    pitch: float
    pitch_spread: float
    colour: NDArray[np.float64]

    @property
    def frames(self) -> int:
        """Its length."""
        return self.stop - self.start

    @property
    def clean(self) -> bool:
        """Whether it is good enough to be more than a stopgap."""
        return (
            self.snr_db >= CLEAN_SNR_DB
            and self.snr_before_db >= CLEAN_SNR_BEFORE_DB
            and self.clipped <= MOST_CLIPPED
            and self.music <= MOST_MUSIC
        )


def cleanliness(candidate: Candidate, usual_level_db: float) -> float:
    """Score a stretch, about 0 to 1: noise before and after isolation, less clipping, music and an unusual level."""
    snr = 0.5 * min(candidate.snr_db, FULL_SNR_DB) + 0.5 * min(candidate.snr_before_db, FULL_SNR_DB)
    unusual = max(0.0, abs(candidate.level_db - usual_level_db) - LEVEL_TOLERANCE_DB)
    penalty = min(0.5, 100 * candidate.clipped) + 0.4 * candidate.music + 0.03 * unusual
    return snr / FULL_SNR_DB - penalty


def novelty(candidate: Candidate, chosen: list[Candidate]) -> float:
    """Return how far a stretch is in pitch and colour from the nearest of those chosen, 0 to 1."""
    if not chosen:
        return 0.0
    mine = _place(candidate)
    nearest = min(float(np.linalg.norm(mine - _place(other))) for other in chosen)
    return float(np.tanh(nearest / 3))


def _place(candidate: Candidate) -> NDArray[np.float64]:
    pitch = [candidate.pitch / PITCH_UNIT, candidate.pitch_spread / SPREAD_UNIT]
    return np.concatenate([pitch, candidate.colour / COLOUR_UNIT])


def choose(candidates: list[Candidate]) -> list[tuple[int, int, str, float]]:
    """Choose up to 120 s: (start, stop, why, snr_db) in order of time, neighbours joined.

    First clean stretches, each time the one with the best of cleanliness and novelty together; once there is a minute,
    only clean ones; below a minute also the others, best first.
    """
    if not candidates:
        return []
    usual = float(np.median([candidate.level_db for candidate in candidates]))
    scores = {id(candidate): cleanliness(candidate, usual) for candidate in candidates}
    chosen: list[Candidate] = []
    why: dict[int, str] = {}
    total = 0
    for pool, limit in (
        ([c for c in candidates if c.clean], MAX_FRAMES),
        ([c for c in candidates if not c.clean], MIN_FRAMES),
    ):
        left = list(pool)
        while left and total < limit:
            best = max(left, key=lambda c: (scores[id(c)] + VARIETY * novelty(c, chosen), -c.start))
            left.remove(best)
            if total + best.frames > MAX_FRAMES:
                continue
            why[id(best)] = _reason(best, novelty(best, chosen), first=not chosen)
            chosen.append(best)
            total += best.frames
    chosen.sort(key=lambda c: c.start)
    return _merged([(c.start, c.stop, why[id(c)], c.snr_db) for c in chosen])


def _reason(candidate: Candidate, new: float, *, first: bool) -> str:
    figures = f"{candidate.snr_db:.0f} dB over what is left of the noise"
    if not candidate.clean:
        return f"needed for length ({figures})"
    if first:
        return f"the cleanest ({figures})"
    return f"clean and different ({figures})" if new >= NEW_ENOUGH else f"clean ({figures})"


def _merged(spans: list[tuple[int, int, str, float]]) -> list[tuple[int, int, str, float]]:
    """Join spans with 0.3 s between them or less, as far as the length allows it: there is nothing to cut out."""
    room = MAX_FRAMES - sum(stop - start for start, stop, _, _ in spans)
    merged: list[tuple[int, int, str, float]] = []
    for start, stop, why, snr in spans:
        gap = start - merged[-1][1] if merged else MAX_FRAMES
        if gap <= min(SHORT_GAP_FRAMES, room):
            room -= gap
            first, _, reasons, level = merged[-1]
            weight = (stop - start) / (stop - first)
            told = reasons if why in reasons else f"{reasons}; {why}"
            merged[-1] = (first, stop, told, level * (1 - weight) + snr * weight)
        else:
            merged.append((start, stop, why, snr))
    return merged
