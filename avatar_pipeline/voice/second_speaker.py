"""Is there a second person in a recording, and where: the speech is split in two and the halves compared.

Pieces of speech go to whichever of two groups they are likelier of, from several first guesses, until nothing moves
(k-means with the likelihoods of `speaker_space`); the split that is least likely to be of one speaker decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.activity import FRAME_SECONDS
from avatar_pipeline.voice.speaker_space import Evidence, SpeakerSpace, gather, speaker_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.voice.speakers import VoicePrint

PIECE_FRAMES = 150
MOST_PIECES = 400
"""Longer recordings are split into longer pieces: the work does not grow with them."""
FEWEST_PIECES = 4
SMALLEST_GROUP = 2
PASSES = 8
TWO_SPEAKERS = -15.0
"""ln likelihood ratio of the halves below which they are of two people; `benchmarks.enrolment` measures its errors."""
DOUBT = 6.0
SMOOTHING = (0.25, 0.5, 0.25)


@dataclass(frozen=True, slots=True)
class SecondSpeaker:
    """What was heard of a second person: the `share` of the speech that is theirs, and `times` in seconds.

    `confidence` goes from 0 (one person) over 0.5 (at the threshold) to 1. `share` and `times` are of the better split
    whether it convinces or not.
    """

    share: float
    confidence: float
    times: tuple[tuple[float, float], ...]

    @property
    def present(self) -> bool:
        """Whether there is a second person."""
        return self.confidence > 0.5


NOBODY = SecondSpeaker(0.0, 0.0, ())


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The evidence of N pieces of speech, and where each lies."""

    space: SpeakerSpace
    evidence: list[Evidence]
    places: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.evidence)

    def place_of(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return where the speaker of the chosen pieces lies, all evidence together."""
        parts = [self.evidence[i] for i in np.flatnonzero(chosen)]
        return self.space.place(
            Evidence(
                np.sum([part.counts for part in parts], axis=0),
                np.sum([part.sums for part in parts], axis=0),
                np.sum([part.total for part in parts], axis=0),
                np.concatenate([part.log_f0 for part in parts]),
            )
        )

    def likeness(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the likelihood ratio of each piece with a place (N,)."""
        return self.space.likelihood_ratios(self.places, place)


def find_second_speaker(heard: VoicePrint) -> SecondSpeaker:
    """Look for a second speaker; under six seconds of speech nothing can be said, and nobody is found."""
    space = speaker_space()
    count = min(MOST_PIECES, max(1, round(len(heard.frames) / PIECE_FRAMES)))
    edges = np.linspace(0, len(heard.frames), count + 1).astype(int)
    spans, evidence = [], []
    for start, stop in pairwise(edges):
        part = heard.part(int(start), int(stop))
        found = gather(space.mixture, part.frames, part.log_f0)
        if found.enough:
            spans.append((int(start), int(stop)))
            evidence.append(found)
    if len(evidence) < FEWEST_PIECES:
        return NOBODY
    pieces = _Pieces(space, evidence, np.array([space.place(found) for found in evidence]))
    ratio, group = _best_split(pieces)
    if group is None:
        return NOBODY
    lengths = np.array([stop - start for start, stop in spans])
    if lengths[group].sum() > lengths[~group].sum():
        group = ~group
    confidence = float(1 / (1 + np.exp(np.clip((ratio - TWO_SPEAKERS) / DOUBT, -50, 50))))
    share = float(lengths[group].sum() / lengths.sum())
    return SecondSpeaker(share, confidence, _times(heard, [spans[i] for i in np.flatnonzero(group)]))


def _best_split(pieces: _Pieces) -> tuple[float, NDArray[np.bool_] | None]:
    """Return the split whose halves are least likely to be of one speaker, and their likelihood ratio."""
    best: tuple[float, NDArray[np.bool_] | None] = (np.inf, None)
    seen: set[bytes] = set()
    for guess in _guesses(pieces):
        group = _settled(pieces, guess)
        if group is None or group.tobytes() in seen:
            continue
        seen.add(group.tobytes())
        ratio = pieces.space.likelihood_ratio(pieces.place_of(group), pieces.place_of(~group))
        if ratio < best[0]:
            best = (ratio, group)
    return best


def _settled(pieces: _Pieces, group: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Move pieces, neighbours together, to the likelier half until none moves; None if one half becomes too small."""
    for _ in range(PASSES):
        if not _both_big_enough(group):
            return None
        leaning = pieces.likeness(pieces.place_of(group)) - pieces.likeness(pieces.place_of(~group))
        moved = _smooth(leaning) > 0
        if np.array_equal(moved, group):
            break
        group = moved
    return group if _both_big_enough(group) else None


def _both_big_enough(group: NDArray[np.bool_]) -> bool:
    return SMALLEST_GROUP <= int(np.count_nonzero(group)) <= len(group) - SMALLEST_GROUP


def _guesses(pieces: _Pieces) -> Iterator[NDArray[np.bool_]]:
    """Yield first guesses: along the widest directions, at a moment, one part of the time, and what is least usual."""
    count = len(pieces)
    weights = np.sqrt(pieces.space.between / (1 + pieces.space.between))
    directions = np.linalg.svd((pieces.places - pieces.places.mean(axis=0)) * weights, full_matrices=False)[0]
    for axis in directions.T[:2]:
        yield axis > 0
        yield axis > np.median(axis)
    order = np.arange(count)
    for moment in np.unique(np.linspace(SMALLEST_GROUP, count - SMALLEST_GROUP, 6).astype(int)):
        yield order >= moment
    for parts in (4, 10):
        for part in range(parts if count >= SMALLEST_GROUP * parts or parts == 4 else 0):
            yield (order >= part * count // parts) & (order < (part + 1) * count // parts)
    usual = pieces.likeness(pieces.place_of(np.ones(count, dtype=bool)))
    smooth = _smooth(usual)
    for percent in (10, 25):
        yield smooth <= np.percentile(smooth, percent)
    for strange in np.argsort(smooth, kind="stable")[:3]:
        yield pieces.likeness(pieces.places[strange]) > usual


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(np.pad(values, 1, mode="edge"), SMOOTHING, mode="valid")


def _times(heard: VoicePrint, spans: list[tuple[int, int]]) -> tuple[tuple[float, float], ...]:
    """Return when the spans of speech frames were, those that follow one another as one."""
    times: list[tuple[float, float]] = []
    last = -1
    for start, stop in spans:
        begin = round(float(heard.positions[start]) * FRAME_SECONDS, 2)
        end = round(float(heard.positions[stop - 1] + 1) * FRAME_SECONDS, 2)
        times[-1:] = [(times[-1][0], end)] if times and start == last else [*times[-1:], (begin, end)]
        last = stop
    return tuple(times)
