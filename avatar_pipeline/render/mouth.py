"""The inside of the person's own mouth, photographed: frames of the footage in which it is open by different amounts.

Each photo is the picture inside the inner lips. Drawn between the lips of another frame, it brings the person's real
teeth, tongue and shadows, with the light they had. Image-based mouths go back to C. Bregler et al., "Video Rewrite"
(SIGGRAPH 1997).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh.topology import MOUTH, loop_triangles
from avatar_pipeline.render.colour import BLACK

PHOTO_SIZE = (192, 96)
"""Width and height of a photo in pixels."""
GAPS = (6.0, 9.0, 13.0, 18.0)
"""Inner-lip gaps in mm that photos are looked for at. Narrower mouths show teeth that lips half cover: they
come out jagged, and a wider photo, squeezed, looks better."""

_TOLERANCE = 0.25
_LEAST_OPEN = 4.0
_BORDER = 4.0
_MOST_TURNED = 20.0
_FADE = 0.35
_DARKER, _BRIGHTER = 0.6, 1.7
_INSET = 0.12
"""How far the photos' edge keeps off the tracked lips, over the gap there (at the corners: over their own distance to
the next pair of lip vertices, four times): lips in a photo would line those in the picture."""


@dataclass(frozen=True, slots=True)
class MouthPhotos:
    """N photos in order of their gap; N is 0 where the footage never shows an open mouth.

    `frames` (N,) plate frames they are from; `gaps` (N,) mm; `loops` (N, 20, 2) where the inner lips (`MOUTH`) are, in
    photo widths and heights; `pictures` (N, 96, 192, 3) uint8 Y, Cb, Cr.
    """

    frames: NDArray[np.int32]
    gaps: NDArray[np.float32]
    loops: NDArray[np.float32]
    pictures: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.gaps)

    def atlas(self) -> NDArray[np.uint8]:
        """Return all photos in one picture, beneath one another."""
        return np.ascontiguousarray(self.pictures.reshape(-1, PHOTO_SIZE[0], 3))

    def sources(self, gap: float) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return the inner lips (20, 2) in the atlas of the two photos next to a gap in mm, and the second's share.

        The share rises steeply between the two: teeth that fade through one another are grey.
        """
        place = float(np.interp(gap, self.gaps, np.arange(len(self))))
        first = min(int(place), max(len(self) - 2, 0))
        second = min(first + 1, len(self) - 1)
        share = float(np.clip((place - first - 0.5) / _FADE + 0.5, 0.0, 1.0))
        return self._in_atlas(first), self._in_atlas(second), share

    def _in_atlas(self, photo: int) -> NDArray[np.float64]:
        loop = self.loops[photo].astype(np.float64)
        return np.stack([loop[:, 0], (photo + loop[:, 1]) / len(self)], axis=1)


def photo_triangles() -> NDArray[np.int32]:
    """Return the triangles (F, 3) that span the inner lips, over positions in `MOUTH`."""
    position = {vertex: k for k, vertex in enumerate(MOUTH)}
    return np.array([[position[v] for v in triangle] for triangle in loop_triangles(MOUTH)], np.int32)


def choose_photos(
    gap: NDArray[np.floating[Any]], width: NDArray[np.floating[Any]], yaw: NDArray[np.floating[Any]], rest_width: float
) -> NDArray[np.int32]:
    """Choose the frames to take photos from, by inner-lip gap and mouth width (T,) in mm and yaw (T,) in degrees.

    For each of `GAPS`, the frame within 25 % of it that looks ahead and whose mouth is about as wide as at rest
    (`rest_width`), as teeth bared by a smile are not what speech shows. No frame where the mouth never opens by 4 mm.
    """
    facing = np.abs(yaw) <= _MOST_TURNED
    chosen = []
    for target in GAPS:
        near = np.flatnonzero(facing & (np.abs(gap - target) <= _TOLERANCE * target))
        if len(near):
            cost = (
                np.abs(gap[near] / target - 1) / _TOLERANCE
                + np.abs(width[near] - rest_width) / 4
                + np.abs(yaw[near]) / 15
            )
            chosen.append(int(near[np.argmin(cost)]))
    if not chosen or gap[chosen].max() < _LEAST_OPEN:
        return np.zeros(0, np.int32)
    kept = sorted(set(chosen), key=lambda frame: float(gap[frame]))
    return np.array(kept, np.int32)


def cut_photo(
    planes: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]], lips: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut a photo out of a frame's I420 `planes`, with its inner lips at `lips` (20, 2) in pixels.

    Returns the picture (96, 192, 3) and, in widths and heights, the edge in it (20, 2): just inside the lips.
    """
    import cv2

    low = lips.min(axis=0) - _BORDER
    extent = lips.max(axis=0) + _BORDER - low
    width, height = PHOTO_SIZE
    x = (np.arange(width) + 0.5) / width * extent[0] + low[0]
    y = (np.arange(height) + 0.5) / height * extent[1] + low[1]
    at_x, at_y = (grid.astype(np.float32) for grid in np.meshgrid(x, y))
    layers = [cv2.remap(planes[0], at_x - 0.5, at_y - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)]
    for plane in planes[1:]:
        # chroma samples sit on even luma columns, between two luma rows
        layers.append(
            cv2.remap(plane, at_x / 2 - 0.25, at_y / 2 - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )
    picture: NDArray[np.uint8] = np.stack(layers, axis=2)
    return picture, ((_inset(lips) - low) / extent).astype(np.float32)


def _inset(lips: NDArray[np.float64]) -> NDArray[np.float64]:
    opposite = lips[-np.arange(len(lips))]
    inner: NDArray[np.float64] = lips + _INSET * (opposite - lips)
    for corner, step in ((0, 1), (len(lips) // 2, -1)):
        next_pair = (lips[corner + step] + lips[corner - step]) / 2
        inner[corner] = lips[corner] + 4 * _INSET * (next_pair - lips[corner])
    return inner


def collect_photos(
    cuts: Mapping[int, tuple[NDArray[np.uint8], NDArray[np.float32]]],
    gap: NDArray[np.floating[Any]],
    gain: NDArray[np.floating[Any]],
) -> MouthPhotos:
    """Put what `cut_photo` gave, by plate frame, in order of the lip gap (T,) in mm.

    Pictures are brought to the brightness at which `gain` (T,), see `Plate.gain`, is 1. A photo much darker or brighter
    inside than both its neighbours is left out: teeth would flash when the mouth passes through its gap.
    """
    everything = sorted(cuts, key=lambda frame: float(gap[frame]))
    prepared = {}
    for frame in everything:
        picture = cuts[frame][0].copy()
        luma = (picture[..., 0] - BLACK) / float(gain[frame]) + BLACK
        picture[..., 0] = np.clip(np.rint(luma), 0, 255).astype(np.uint8)
        prepared[frame] = picture
    frames = _even([_inner_luma(prepared[frame], cuts[frame][1]) for frame in everything], everything)
    pictures = np.zeros((len(frames), PHOTO_SIZE[1], PHOTO_SIZE[0], 3), np.uint8)
    for k, frame in enumerate(frames):
        pictures[k] = prepared[frame]
    return MouthPhotos(
        frames=np.array(frames, np.int32),
        gaps=np.array([gap[frame] for frame in frames], np.float32),
        loops=np.array([cuts[frame][1] for frame in frames], np.float32).reshape(len(frames), len(MOUTH), 2),
        pictures=pictures,
    )


def _inner_luma(picture: NDArray[np.uint8], loop: NDArray[np.float32]) -> float:
    """Return the mean luma of a photo inside the lips, `loop` (20, 2) in widths and heights."""
    import cv2

    inside = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.rint(loop * PHOTO_SIZE).astype(np.int32)], (1.0,))
    return float(picture[..., 0][inside > 0].mean()) if inside.any() else float(picture[..., 0].mean())


def _even(luma: list[float], frames: list[int]) -> list[int]:
    """Return the frames without those whose photo stands out against both its neighbours."""
    return [
        frame
        for k, frame in enumerate(frames)
        if not 0 < k < len(frames) - 1
        or _DARKER * min(luma[k - 1], luma[k + 1]) <= luma[k] <= _BRIGHTER * max(luma[k - 1], luma[k + 1])
    ]
