"""How a plate's frame is bent: which part of the face moves, where to, and what it shows there.

The lips go to where the command puts them, whatever the plate's own mouth does; cheeks, chin and jaw keep their tracked
shape, less the plate's own expression, plus the commanded one, so that the outline of the face stays the footage's; the
nose and all above it are the footage. A ring around the face is pinned to the picture, so that the warp has no seam.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.face.pose import HeadPoses
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.topology import LEFT_EYE, MOUTH, OVAL, RIGHT_EYE
from avatar_pipeline.mesh.types import FACE_VERTICES, AvatarMesh
from avatar_pipeline.render.colour import atlas_to_ycbcr
from avatar_pipeline.render.curves import LOWER_LIP, UPPER_LIP
from avatar_pipeline.render.mouth import MouthPhotos, photo_triangles
from avatar_pipeline.render.renderer import Scene

RING_SCALE = 1.28
"""Size of the pinned ring, in face ovals."""
# fmt: off
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
"""The border of the red of the lips (20), in the order of `MOUTH`."""
# fmt: on
# fmt: off
_LIP_FLESH = (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292, 325, 319, 403, 316, 15, 86, 179, 89, 96)
# fmt: on
"""The ring of vertices next to the inner lips (20), in the order of `MOUTH`."""
_BITTEN = 0.3
_BITTEN_SHUT = 0.45
_PARTED_GAP = 3.0
_NOSE_BASE = 2
_RIDGE = 0.03
_FULLY_LIT_GAP = 14.0
_PHOTO_LIT_GAP = 3.0
"""Photos are of mouths open by about this much and more: they bring the shadows of wider gaps with them."""
_SHADOW = 0.35
_CONTACT_SHADOW = 0.4
_MARGIN = 4
_INSIDE_START = FACE_VERTICES + len(OVAL)


def smoothstep(low: float, high: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0 below `low`, 1 above `high`, and a smooth rise between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    rise: NDArray[np.float64] = t * t * (3.0 - 2.0 * t)
    return rise


def moving_share(vertices: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far each face vertex (468,) follows the command: 1 below the nose, 0 from its bridge upwards."""
    height = vertices[:FACE_VERTICES, 1].astype(np.float64)
    nose = height[_NOSE_BASE]
    eyes = float(np.mean(height[list(LEFT_EYE + RIGHT_EYE)]))
    return 1.0 - smoothstep(0.05, 0.6, (height - nose) / (eyes - nose))


def lip_share(vertices: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far each face vertex (468,) forgets its tracked place: 1 on the lips, 0 from 25 mm away of them."""
    face = vertices[:FACE_VERTICES, :2].astype(np.float64)
    border = face[list(OUTER_LIPS)]
    share = 1.0 - smoothstep(3.0, 25.0, np.linalg.norm(face[:, None] - border[None], axis=2).min(axis=1))
    share[list(MOUTH)] = 1.0
    return share


def own_expression(mesh: AvatarMesh, shape: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the part of the pose-free shape (T, 468, 3) mm that the mesh's own mouth and jaw targets explain.

    A ridge fit of the targets to the lower face: what is left (tracking noise, the outline's slide as the head turns)
    is no expression and stays in the picture.
    """
    chosen = [k for k, name in enumerate(mesh.morph_names) if name.startswith(("jaw", "mouth", "cheek"))]
    share = np.sqrt(moving_share(mesh.vertices))[None, :, None]
    basis = mesh.morphs[chosen, :FACE_VERTICES].astype(np.float64)
    design = (basis * share).reshape(len(chosen), -1)
    offsets = ((shape - mesh.vertices[:FACE_VERTICES]) * share).reshape(len(shape), -1)
    gram = design @ design.T
    ridge = _RIDGE * float(np.trace(gram)) / max(len(chosen), 1) + 1e-9
    fitted = np.linalg.solve(gram + ridge * np.eye(len(chosen)), design @ offsets.T).T
    own: NDArray[np.float32] = (fitted @ basis.reshape(len(chosen), -1)).reshape(shape.shape).astype(np.float32)
    return own


@dataclass(frozen=True, slots=True)
class Tracked:
    """The tracked face of one plate frame, or of several with a leading axis of frames.

    `landmarks` (468, 3): camera pixels (x right, y up, z near); `shape` (468, 3): the same without pose, mm;
    `own` (468, 3): the plate's own expression, mm.
    """

    landmarks: NDArray[np.float64]
    shape: NDArray[np.float64]
    own: NDArray[np.float64]


class Warp:
    """The fixed part of the warp of one mesh; `scene` gives the part of a frame."""

    def __init__(self, mesh: AvatarMesh, photos: MouthPhotos) -> None:
        """Prepare; without `photos` of the mouth its inside is the mesh's."""
        self._neutral = mesh.vertices.astype(np.float64)
        self._moving = moving_share(mesh.vertices)[:, None]
        self._lips = lip_share(mesh.vertices)[:, None]
        self._photos = photos
        interior, self._interior_uv = _interior(mesh)
        if len(photos):
            interior = photo_triangles()
        self._inside = len(MOUTH) if len(photos) else len(mesh.vertices)
        self.triangles = np.concatenate([_skin(self._moving[:, 0]), interior + _INSIDE_START])
        self.vertices = _INSIDE_START + self._inside
        self.atlas = photos.atlas() if len(photos) else atlas_to_ycbcr(mesh.texture)

    def target(self, tracked: Tracked, displacement: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where the face's vertices (468, 3) go, mm without pose, for a commanded `displacement` (V, 3)."""
        asked = displacement[:FACE_VERTICES]
        absolute = self._neutral[:FACE_VERTICES] - tracked.shape
        change = self._lips * absolute - (1.0 - self._lips) * tracked.own + asked
        moved: NDArray[np.float64] = tracked.shape + self._moving * change
        return moved

    def scene(
        self,
        tracked: Tracked,
        pose: HeadPoses,
        displacement: NDArray[np.float64],
        *,
        corner: tuple[int, int],
        gain: float,
    ) -> Scene:
        """Return the scene that shows `displacement` (V, 3) mm on one plate frame.

        `pose` is that frame's; `corner` the crop's upper left pixel; `gain` the brightness of the plate's face over
        that of the mouth's inside, see `Plate.gain`.
        """
        face = self.target(tracked, displacement)
        inside = self._neutral + displacement
        inside[:FACE_VERTICES] = face
        inside = face[list(MOUTH)] if len(self._photos) else inside
        image = _to_image(pose.project(np.concatenate([face, inside]))[0])
        gap = lip_distance(face)
        own_gap = lip_distance(tracked.shape)
        shown = skin_source(_to_image(tracked.landmarks)[:, :2], gap, own_gap)
        ring = ring_points(_to_image(tracked.landmarks)[:, :2])
        near, far = image[:, 2].max(), image[:, 2].min()
        depth = (near - image[:, 2]) / max(near - far, 1e-6)
        positions = np.zeros((self.vertices, 3))
        positions[:, :2] = np.concatenate([image[:FACE_VERTICES, :2], ring, image[FACE_VERTICES:, :2]]) - corner
        positions[:FACE_VERTICES, 2] = 0.02 + 0.45 * depth[:FACE_VERTICES]
        positions[FACE_VERTICES:_INSIDE_START, 2] = 0.48
        # the interior lies behind all skin: it shows only through the gap between the lips
        positions[_INSIDE_START:, 2] = 0.52 + 0.45 * depth[FACE_VERTICES:]
        sources = np.full((self.vertices, 3), -1.0)
        sources[:_INSIDE_START, :2] = np.concatenate([shown, ring]) - corner
        seconds = np.zeros((self.vertices, 3))
        seconds[list(MOUTH), 2] = _CONTACT_SHADOW * shutting(gap, own_gap)
        if len(self._photos):
            sources[_INSIDE_START:, :2], seconds[_INSIDE_START:, :2], share = self._photos.sources(gap)
            seconds[_INSIDE_START:, 2] = share
            sources[_INSIDE_START:, 2] = interior_light(gap, _PHOTO_LIT_GAP)
        else:
            sources[_INSIDE_START:, :2] = self._interior_uv
            sources[_INSIDE_START:, 2] = interior_light(gap, _FULLY_LIT_GAP)
        return Scene(positions.astype(np.float32), sources.astype(np.float32), seconds.astype(np.float32), gain)


def lip_distance(face: NDArray[np.float64]) -> float:
    """Return the inner-lip gap of a face (468 or more, 3) without pose, in mm: 0 where the lips touch or overlap."""
    return max(float(face[UPPER_LIP, 1] - face[LOWER_LIP, 1]), 0.0)


def skin_source(image: NDArray[np.float64], gap: float, own_gap: float) -> NDArray[np.float64]:
    """Return the image points (468, 2) that the skin's vertices show: `image`, but for the inner lips.

    The tracked edge of the lips takes in a rim of teeth, or of the other lip. As the lips part, by command (`gap` mm)
    or in the footage (`own_gap`), the edge moves into their flesh, or that rim would line the mouth: most of all where
    an open mouth is drawn shut, as then the rim would be all there is to see.
    """
    parted = float(smoothstep(0.0, _PARTED_GAP, np.asarray(max(gap, own_gap))))
    bitten = _BITTEN * parted + _BITTEN_SHUT * shutting(gap, own_gap)
    moved = image.copy()
    edge, flesh = list(MOUTH), list(_LIP_FLESH)
    moved[edge] += bitten * (image[flesh] - image[edge])
    return moved


def shutting(gap: float, own_gap: float) -> float:
    """Return how far an open mouth is drawn shut: 1 for lips that touch (`gap` mm) and are parted in the footage.

    Lips that touch shade each other; lips drawn shut bring no such shadow with them and are given one.
    """
    parted, closed = smoothstep(0.0, _PARTED_GAP, np.asarray(own_gap)), 1.0 - smoothstep(0.5, 4.0, np.asarray(gap))
    return float(parted * closed)


def interior_light(gap: float, fully_lit: float) -> float:
    """Return how much light reaches the inside of the mouth: little through a narrow gap, 1 from `fully_lit` mm on."""
    return float(_SHADOW + (1.0 - _SHADOW) * smoothstep(0.0, fully_lit, np.asarray(gap)))


def ring_points(source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pinned ring (..., 36, 2) around image points (..., 468, 2): the oval, scaled about their mean."""
    centre = source.mean(axis=-2, keepdims=True)
    ring: NDArray[np.float64] = centre + (source[..., list(OVAL), :] - centre) * RING_SCALE
    return ring


def crop_boxes(
    landmarks: NDArray[np.float64], targets: NDArray[np.float64], moving: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Return the crops' corners (T, 2) and their one size (width, height), all even, inside a picture of `size`.

    `landmarks` and `targets` (T, 468, 3) are tracked and resting places in camera pixels; `moving` (468,) says which
    vertices move.
    """
    drawn = np.unique(_skin(moving))
    points = np.concatenate(
        [
            np.concatenate([_to_image(landmarks)[..., :2], ring_points(_to_image(landmarks)[..., :2])], axis=1)[
                :, drawn
            ],
            _to_image(targets)[:, moving > 0, :2],
        ],
        axis=1,
    )
    limit = np.array(size) // 2 * 2
    low = np.clip(np.floor(points.min(axis=1)).astype(np.int64) - _MARGIN, 0, limit) // 2 * 2
    high = np.clip((np.ceil(points.max(axis=1)).astype(np.int64) + _MARGIN + 1) // 2 * 2, 0, limit)
    extent = np.clip((high - low).max(axis=0), 2, limit)
    corners = np.clip(low, 0, limit - extent)
    return corners, (int(extent[0]), int(extent[1]))


def _to_image(camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera coordinates (y up) to image coordinates (y down); z unchanged."""
    image: NDArray[np.float64] = camera * np.array([1.0, -1.0, 1.0])
    return image


def _skin(moving: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the triangles that can move: of the face, and between its oval and the ring (468 + position in oval)."""
    ring = []
    for i, vertex in enumerate(OVAL):
        j = (i + 1) % len(OVAL)
        ring += [(vertex, OVAL[j], FACE_VERTICES + i), (OVAL[j], FACE_VERTICES + j, FACE_VERTICES + i)]
    triangles = np.concatenate([topology.TRIANGLES, np.array(ring, np.int32)])
    share = np.concatenate([moving, np.zeros(len(OVAL))])
    kept: NDArray[np.int32] = triangles[(share[triangles] > 0).any(axis=1)].astype(np.int32)
    return kept


def _interior(mesh: AvatarMesh) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the mouth's triangles over all mesh vertices, and each vertex's atlas coordinate inside the mouth.

    Lip vertices that the interior shares with the skin have the skin's coordinate in the mesh; here they take the mean
    of their interior neighbours, so that the lips' red does not run into the mouth.
    """
    uv = mesh.uv.astype(np.float64)
    for vertex in np.unique(mesh.mouth[mesh.mouth < FACE_VERTICES]):
        around = np.unique(mesh.mouth[(mesh.mouth == vertex).any(axis=1)])
        inner = around[around >= FACE_VERTICES]
        if len(inner):
            uv[vertex] = mesh.uv[inner].mean(axis=0)
    return mesh.mouth.astype(np.int32), uv
