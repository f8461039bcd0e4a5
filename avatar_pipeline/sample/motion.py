"""How the head in the sample moves: smooth, seeded turns of the head, and blinks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.face.pose import HeadPoses
from avatar_pipeline.sample.head import PIVOT

YAW_REACH = 20.0
"""Degrees that the head turns to each side: what a good upload has, and what a single photograph still bears."""
_PITCH, _ROLL = 6.0, 3.5
_SHIFT = np.array([3.0, 2.0, 0.0])
"""Greatest nod, lean (degrees) and shift (mm: sideways, up) about the photograph's own pose."""
_BLINK = (0.08, 0.04, 0.14)
"""Seconds that lids take to close, stay shut, and open (H. R. Schiffman, "Sensation and Perception": 100-400 ms)."""
_BETWEEN_BLINKS = (2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Motion:
    """What the head does in each of T frames.

    `turn` (T, 3) degrees of yaw, pitch and roll on top of the photograph's pose; `shift` (T, 3) mm; `blink` (T,) how
    far the lids are shut, 0 to 1; `brows` (T,) how far the brows are raised, 0 to 1.
    """

    turn: NDArray[np.float64]
    shift: NDArray[np.float64]
    blink: NDArray[np.float64]
    brows: NDArray[np.float64]

    def poses(self, photograph: HeadPoses) -> HeadPoses:
        """Turn the head about its pivot, from the pose of the photograph."""
        from scipy.spatial.transform import Rotation

        yaw, pitch, roll = self.turn.T
        turned = Rotation.from_euler("YXZ", np.stack([yaw, -pitch, roll], axis=-1), degrees=True).as_matrix()
        R0, scale = photograph.rotation[0], float(photograph.scale[0])
        R = turned @ R0
        pivot = photograph.translation[0] + scale * (R0 @ PIVOT)
        translation = pivot + scale * (self.shift - R @ PIVOT)
        return HeadPoses(scale=np.full(len(R), scale), rotation=R, translation=translation)


def make_motion(frames: int, fps: float, seed: int) -> Motion:
    """Make `frames` frames of motion; the same arguments give the same motion."""
    rng = np.random.default_rng([seed, 1])
    time = np.arange(frames) / fps
    seconds = frames / fps
    drift = np.stack([_wander(time, rng) for _ in range(4)], axis=-1)
    yaw = _sweep(time, seconds, rng) + 0.6 * _wander(time, rng)
    turn = np.stack([yaw, _PITCH * drift[:, 0], _ROLL * drift[:, 1]], axis=-1)
    shift = np.stack([drift[:, 2], drift[:, 3], np.zeros(frames)], axis=-1) * _SHIFT
    brows = 0.35 * np.clip(_wander(1.7 * time, rng), 0, 1)
    return Motion(turn=turn, shift=shift, blink=_blinks(time, seconds, rng), brows=brows)


def _sweep(time: NDArray[np.float64], seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Look ahead, to one side, ahead, to the other side and ahead again, with pauses of uneven length."""
    from scipy.interpolate import PchipInterpolator

    side = rng.choice([-1.0, 1.0])
    stops = np.array([0, 0.12, 0.30, 0.38, 0.52, 0.70, 0.78, 0.94, 1.0])
    stops[1:-1] += rng.uniform(-0.015, 0.015, len(stops) - 2)
    look = np.array([0, 0.05, 0.96, 1, 0.1, -0.96, -1, -0.08, 0]) * side * YAW_REACH
    angles: NDArray[np.float64] = PchipInterpolator(stops * seconds, look)(time)
    # a head has mass: it neither starts nor stops at once
    return _smooth(angles, 0.12 / max(time[1] - time[0], 1e-9)) if len(time) > 1 else angles


def _wander(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A slow wandering between -1 and 1: three sines of 0.1 to 0.5 Hz with random phases."""
    rates = rng.uniform([0.10, 0.2, 0.35], [0.18, 0.32, 0.5])
    phases = rng.uniform(0, 2 * np.pi, 3)
    weights = np.array([0.55, 0.3, 0.15])
    wandering: NDArray[np.float64] = (weights * np.sin(2 * np.pi * rates * time[:, None] + phases)).sum(axis=1)
    return wandering


def _blinks(time: NDArray[np.float64], seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    close, shut, opening = _BLINK
    blink = np.zeros(len(time))
    start = float(rng.uniform(0.5, 1.2))
    while start + sum(_BLINK) < seconds:
        t = time - start
        falling = np.clip(t / close, 0, 1)
        rising = np.clip((t - close - shut) / opening, 0, 1)
        blink = np.maximum(blink, _ease(falling) - _ease(rising))
        start += float(rng.uniform(*_BETWEEN_BLINKS))
    return blink


def _ease(x: NDArray[np.float64]) -> NDArray[np.float64]:
    eased: NDArray[np.float64] = x * x * (3 - 2 * x)
    return eased


def _smooth(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter1d

    smoothed: NDArray[np.float64] = gaussian_filter1d(values, sigma, mode="nearest")
    return smoothed
