"""A space in which one speaker's speech lies close together, whatever is said and however it was recorded.

Speech is compared with a mixture of Gaussians that stands for all speakers (Reynolds, Quatieri & Dunn 2000, "Speaker
verification using adapted Gaussian mixture models", Digital Signal Processing 10); how its means differ from that
mixture's, together with its pitch and average spectrum, is projected to where speakers differ most and recordings of
one speaker least; two points are compared by the likelihood that they share a speaker (Prince & Elder 2007,
"Probabilistic linear discriminant analysis", ICCV). `training/speakers` makes the numbers and says from what.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).parent / "data" / "speakers.npz"
RELEVANCE = 8.0
"""How many frames weigh as much as the mixture's own mean (Reynolds et al., section 3.3)."""
PITCH_PERCENTILES = (10, 25, 50, 75, 90)
FEWEST_VOICED = 20
BATCH_FRAMES = 4096


@dataclass(frozen=True, slots=True)
class Mixture:
    """Gaussians with diagonal covariance: means and variances (K, D), and weights (K,)."""

    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    weights: NDArray[np.float64]

    def responsibilities(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how much each Gaussian accounts for each of (T, D) frames: (T, K), rows sum to 1."""
        precision = 1 / self.variances
        constant = ((self.means**2) * precision).sum(axis=1) + np.log(self.variances).sum(axis=1)
        logs = -0.5 * ((frames**2) @ precision.T - 2 * frames @ (self.means * precision).T + constant)
        logs += np.log(self.weights + 1e-9)
        logs -= logs.max(axis=1, keepdims=True)
        shares: NDArray[np.float64] = np.exp(logs)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was heard of a speaker, in sums that can be added: frames and sums for each Gaussian, spectrum, ln F0."""

    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    total: NDArray[np.float64]
    log_f0: NDArray[np.float64]

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            self.counts + other.counts,
            self.sums + other.sums,
            self.total + other.total,
            np.concatenate([self.log_f0, other.log_f0]),
        )

    @property
    def enough(self) -> bool:
        """Whether there is voice enough to say anything."""
        return len(self.log_f0) >= FEWEST_VOICED


def gather(mixture: Mixture, frames: NDArray[np.float32], log_f0: NDArray[np.float64]) -> Evidence:
    """Collect the evidence of (T, D) speech frames and the ln F0 of the voiced ones among them."""
    counts, sums = np.zeros(len(mixture.weights)), np.zeros_like(mixture.means)
    for first in range(0, len(frames), BATCH_FRAMES):
        part = frames[first : first + BATCH_FRAMES].astype(np.float64)
        shares = mixture.responsibilities(part)
        counts += shares.sum(axis=0)
        sums += shares.T @ part
    return Evidence(counts, sums, frames.sum(axis=0, dtype=np.float64), log_f0)


def describe(mixture: Mixture, evidence: Evidence) -> NDArray[np.float64]:
    """Return the raw description of a speaker: shifted means, pitch percentiles, mean cepstra."""
    shift = (evidence.sums - evidence.counts[:, None] * mixture.means) / (evidence.counts[:, None] + RELEVANCE)
    scaled = shift / np.sqrt(mixture.variances) * np.sqrt(mixture.weights)[:, None]
    pitch = np.percentile(evidence.log_f0, PITCH_PERCENTILES)
    mean = (evidence.total / max(1.0, float(evidence.counts.sum())))[: len(evidence.total) // 2]
    return np.concatenate([scaled.ravel(), pitch, mean])


@dataclass(frozen=True, slots=True)
class SpeakerSpace:
    """The projection, and how far speakers lie apart on each axis where one speaker's spread is 1."""

    mixture: Mixture
    projection: NDArray[np.float64]
    offset: NDArray[np.float64]
    between: NDArray[np.float64]

    def place(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return where a speaker lies."""
        return describe(self.mixture, evidence) @ self.projection + self.offset

    def likelihood_ratio(self, one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        """Return ln p(same speaker) / p(two speakers) of two places."""
        return float(self.likelihood_ratios(one[None], other)[0])

    def likelihood_ratios(self, places: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the same for each of several places (N, K) with another (K,)."""
        total = self.between + 1.0
        determinant = total**2 - self.between**2
        same = (places**2 * total - 2 * places * other * self.between + other**2 * total) / determinant
        apart = (places**2 + other**2) / total
        ratios: NDArray[np.float64] = 0.5 * (
            (apart - same).sum(axis=1) - np.sum(np.log(determinant) - 2 * np.log(total))
        )
        return ratios


@cache
def speaker_space() -> SpeakerSpace:
    """Load the space that comes with the package."""
    with np.load(FILE, allow_pickle=False) as file:
        data = {name: file[name].astype(np.float64) for name in file.files}
    mixture = Mixture(data["means"], data["variances"], data["weights"])
    return SpeakerSpace(mixture, data["projection"], data["offset"], data["between"])
