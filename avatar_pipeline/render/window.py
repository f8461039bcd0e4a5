"""Which part of the footage becomes the plate: a calm, sharp stretch that looks into the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import FaceNotUsable
from avatar_pipeline.face.pose import to_camera
from avatar_pipeline.face.types import LandmarkTrack

LONGEST_SECONDS = 20.0
SHORTEST_SECONDS = 1.0

_LENGTHS = (LONGEST_SECONDS, 12.0, 8.0)
_SHORTNESS = 0.3
_MOST_TURNED = 25.0
_LEAST_SHARP = 0.35
_SHIFT_SECONDS = 0.5
_TRIM_SHARE = 0.1
_TRIM_SECONDS = 1.0
_EYE_CORNERS = (33, 263)
_LIPS = (13, 14)
_MOUTH_CORNERS = (61, 291)
_STILL_POINT = 168


@dataclass(frozen=True, slots=True)
class Window:
    """Source frames `first` to `last`, both included."""

    first: int
    last: int


def choose_window(track: LandmarkTrack) -> Window:
    """Choose the plate's part of a track: at most 20 s, with a face in every frame.

    Stretches where all frames are sharp and not turned away come first. Of those a long one with a quiet mouth and head
    wins: a shorter one (down to 8 s) only where it is much calmer. Its ends are moved to where the head hardly moves,
    as the plate turns back there.

    Raises:
        FaceNotUsable: no stretch of 1 s shows a face all the time.
    """
    times = track.seconds
    speed = _speed(track)
    unrest = np.concatenate([[0.0], np.cumsum(_unrest(track, speed))])

    def cost(window: Window) -> float:
        mean = (unrest[window.last + 1] - unrest[window.first]) / (window.last + 1 - window.first)
        shortness = 1.0 - (times[window.last] - times[window.first]) / LONGEST_SECONDS
        return float(mean + _SHORTNESS * shortness)

    for usable, shortest in ((_good(track), 2 * SHORTEST_SECONDS), (track.found, SHORTEST_SECONDS)):
        windows = [w for run in _runs(usable) for length in _LENGTHS for w in _windows(run, times, length)]
        enough = [w for w in windows if times[w.last] - times[w.first] >= shortest]
        if enough:
            return _trim(min(enough, key=cost), times, speed)
    raise FaceNotUsable(
        f"No {SHORTEST_SECONDS:g} s of the video show the face in every frame.",
        remedy="Record again with the face in the picture all the time.",
    )


def _good(track: LandmarkTrack) -> NDArray[np.bool_]:
    """Return which frames (T,) show a face that is sharp and not turned away, as this video goes."""
    if not track.found.any():
        return track.found
    yaw = np.where(track.found, track.angles[:, 0], np.nan)
    near = np.abs(np.nan_to_num(yaw - np.nanmedian(yaw), nan=np.inf)) <= _MOST_TURNED
    sharp = np.nan_to_num(track.blur) >= _LEAST_SHARP * np.nanmedian(track.blur[track.found])
    good: NDArray[np.bool_] = track.found & near & sharp
    return good


def _runs(flags: NDArray[np.bool_]) -> list[Window]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [Window(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def _windows(run: Window, times: NDArray[np.float64], length: float) -> list[Window]:
    """Return the windows of up to `length` seconds within a run, one every half second; the run if it is shorter."""
    windows = []
    start = times[run.first]
    while True:
        first = int(np.searchsorted(times, start - 1e-9))
        last = min(run.last, int(np.searchsorted(times, times[first] + length + 1e-9, side="right")) - 1)
        windows.append(Window(first, last))
        start += _SHIFT_SECONDS
        if last == run.last or start > times[run.last]:
            return windows


def _unrest(track: LandmarkTrack, speed: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much each frame (T,) disturbs a plate: an open or drawn mouth, a turned or moving head; about 1 at most."""
    camera = to_camera(track.landmarks, track.width, track.height)
    eyes = _distance(camera, _EYE_CORNERS)
    gap = _distance(camera, _LIPS) / eyes
    width = _distance(camera, _MOUTH_CORNERS) / eyes
    rise = (camera[:, list(_MOUTH_CORNERS), 1].mean(axis=1) - camera[:, list(_LIPS), 1].mean(axis=1)) / eyes
    turned = np.abs(track.angles[:, 0]) / 45.0
    found = track.found
    usual = (np.median(width[found]), np.median(rise[found])) if found.any() else (0.0, 0.0)
    drawn = np.abs(width - usual[0]) + np.abs(rise - usual[1])
    unrest: NDArray[np.float64] = np.nan_to_num(3.0 * (gap + drawn) + turned + 10.0 * speed, nan=10.0)
    return unrest


def _speed(track: LandmarkTrack) -> NDArray[np.float64]:
    """Speed of the nose's bridge (T,) in inter-ocular distances a frame; NaN beside frames without a face."""
    camera = to_camera(track.landmarks, track.width, track.height)
    if len(camera) < 2:
        return np.zeros(len(camera))
    moved = np.linalg.norm(np.gradient(camera[:, _STILL_POINT, :2], axis=0), axis=1)
    speed: NDArray[np.float64] = moved / _distance(camera, _EYE_CORNERS)
    return speed


def _distance(camera: NDArray[np.float64], pair: tuple[int, int]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.linalg.norm(camera[:, pair[0]] - camera[:, pair[1]], axis=1)
    return distance


def _trim(window: Window, times: NDArray[np.float64], speed: NDArray[np.float64]) -> Window:
    """Move both ends inwards, by a tenth of the length or 1 s at most, to where the head is slowest."""
    slack = min(_TRIM_SECONDS, _TRIM_SHARE * (times[window.last] - times[window.first]))
    index = np.arange(window.first, window.last + 1)
    calm = np.nan_to_num(speed, nan=np.inf)
    head = index[times[index] <= times[window.first] + slack]
    tail = index[times[index] >= times[window.last] - slack]
    return Window(int(head[np.argmin(calm[head])]), int(tail[np.argmin(calm[tail])]))
