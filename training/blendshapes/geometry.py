"""Shapes that the clips hardly show, modelled on the template: bumps around landmarks, in mm.

Directions and sizes follow the reference pictures of Apple's ARFaceAnchor.BlendShapeLocation documentation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.deform import extend, vertex_normals
from avatar_pipeline.mesh.morphs import close_lids
from avatar_pipeline.mesh.regions import shape_mask

Field = NDArray[np.float64]

_RIGHT_CORNER, _LEFT_CORNER = 61, 291
_NOSE_BASE, _CHIN = 2, 152
_LIP_HALF_WIDTH = 20.0
_STILL = tuple(np.flatnonzero(shape_mask("jawOpen") < 0.02).tolist())


def _bump(vertex: int, radius: float) -> Field:
    """Return (468,) a Gaussian of the distance to a landmark."""
    face = topology.TEMPLATE.astype(np.float64)
    bump: Field = np.exp(-0.5 * (np.linalg.norm(face - face[vertex], axis=1) / radius) ** 2)
    return bump


def _upper_lip_share() -> Field:
    """Return (468,) how much a vertex belongs to the upper lip: harmonic, 1 and 0 on the two inner lips."""
    upper, lower = zip(*topology.LIP_PAIRS, strict=True)
    values = np.r_[np.ones(len(upper)), np.zeros(len(lower))][:, None]
    return extend(tuple(upper + lower), values, ())[:, 0]


def _lips() -> tuple[Field, Field, Field]:
    """Return (468,) masks of the upper lip and the lower lip, and x over the mouth's half-width."""
    face = topology.TEMPLATE.astype(np.float64)
    middle = face[list(topology.MOUTH)].mean(axis=0)
    across = (face[:, 0] - middle[0]) / _LIP_HALF_WIDTH
    away = np.hypot(across / 1.25, (face[:, 1] - middle[1]) / 13.0)
    near = np.exp(-0.5 * away**4)
    share = _upper_lip_share()
    return near * share, near * (1 - share), across


def _field(weight: Field, x: float | Field = 0.0, y: float | Field = 0.0, z: float | Field = 0.0) -> Field:
    """Return (468, 3) a weight times a direction."""
    direction = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in (x, y, z)))
    field: Field = weight[:, None] * np.stack(direction, axis=-1)
    return field


def _sided(name: str, field: Field) -> dict[str, Field]:
    """Return a symmetric field split into its Left and Right shapes."""
    return {f"{name}{side}": field * shape_mask(f"{name}{side}")[:, None] for side in ("Left", "Right")}


def modelled_shapes(jaw_open: Field) -> dict[str, Field]:
    """Return all shapes that can be modelled, by name: (468, 3) each. `jaw_open` tells what moves with the jaw."""
    return _jaw_and_lips(jaw_open) | _corners() | _cheeks_and_nose() | _eyes() | _brows()


def _jaw_and_lips(jaw_open: Field) -> dict[str, Field]:
    upper, lower, across = _lips()
    lips = upper + lower
    jaw = np.clip(-jaw_open[:, 1] / -jaw_open[_CHIN, 1], 0, 1)
    narrow = _bump(_LEFT_CORNER, 11) - _bump(_RIGHT_CORNER, 11)
    middle = np.exp(-0.5 * (across / 0.8) ** 2)
    shapes = {
        "mouthLeft": _field(lips, 9, 0, 0),
        "mouthRight": _field(lips, -9, 0, 0),
        "jawForward": _field(jaw, 0, 0, 6),
        "jawLeft": _field(jaw, 7, 0, 0),
        "jawRight": _field(jaw, -7, 0, 0),
        "mouthFunnel": _field(upper * middle, 0, 1.5, 6)
        + _field(lower * middle, 0, -2.5, 6)
        + _field(narrow, -7, 0, 0)
        + _field(np.abs(narrow), 0, 0, 3),
        "mouthPucker": _field(lips * middle, 0, 0, 6) + _field(narrow, -8, 0, 0) + _field(np.abs(narrow), 0, 0, 4),
        "mouthRollLower": _field(lower * middle, 0, 2.0, -3.5),
        "mouthRollUpper": _field(upper * middle, 0, -2.0, -3.5),
        "mouthShrugLower": _field(lower * middle, 0, 5, 2.5) + _field(_bump(_CHIN, 18), 0, 3, 1),
        "mouthShrugUpper": _field(upper * middle, 0, 4, 2),
        "tongueOut": np.zeros((len(jaw), 3)),
    }
    shapes |= _sided("mouthLowerDown", _field(lower, 0, -7, 1))
    shapes |= _sided("mouthUpperUp", _field(upper, 0, 6, 1))
    shapes |= _sided("mouthPress", _field(lower * middle, 0, 2, -1.5) + _field(upper * middle, 0, -1, -1.5))
    shapes["mouthClose"] = _close_lips(jaw_open)
    return shapes


def _close_lips(jaw_open: Field) -> Field:
    """Return what brings the lips together while the jaw is open: more of the way is the lower lip's."""
    face = topology.TEMPLATE + jaw_open
    upper, lower = (np.array(v) for v in zip(*topology.LIP_PAIRS, strict=True))
    meeting = 0.7 * face[upper] + 0.3 * face[lower]
    values = np.concatenate([meeting - face[upper], meeting - face[lower]])
    return extend((*upper.tolist(), *lower.tolist()), values, (*_STILL, *topology.OVAL))


def _corners() -> dict[str, Field]:
    both = _bump(_LEFT_CORNER, 12) + _bump(_RIGHT_CORNER, 12)
    outwards = _bump(_LEFT_CORNER, 14) - _bump(_RIGHT_CORNER, 14)
    shapes = _sided("mouthFrown", _field(both, 0, -6, -0.5) + _field(outwards, 1, 0, 0))
    shapes |= _sided("mouthSmile", _field(both, 0, 6, -2) + _field(outwards, 5, 0, 0))
    shapes |= _sided("mouthDimple", _field(both, 0, 0.5, -3) + _field(outwards, 3, 0, 0))
    shapes |= _sided("mouthStretch", _field(both, 0, -2, -2) + _field(outwards, 6, 0, 0))
    return shapes


def _cheeks_and_nose() -> dict[str, Field]:
    normals = vertex_normals(topology.TEMPLATE.astype(np.float64), topology.TRIANGLES)
    puff = _bump(425, 17) + _bump(205, 17)
    squint = _bump(330, 13) + _bump(101, 13)
    sneer = _bump(358, 9) + _bump(129, 9)
    wrinkle = _bump(417, 9) + _bump(193, 9)
    return {
        "cheekPuff": puff[:, None] * normals * 7.0,
        **_sided("cheekSquint", _field(squint, 0, 4, 1)),
        **_sided("noseSneer", _field(sneer, 0, 4, 1) + _field(wrinkle, 0, -1, 0.5)),
    }


def _eyes() -> dict[str, Field]:
    shapes: dict[str, Field] = {}
    still = tuple(np.flatnonzero(shape_mask("eyeBlinkLeft") + shape_mask("eyeBlinkRight") < 0.02).tolist())
    motions = {
        "eyeWide": ((0, 2.5, 0), (0, -1.0, 0)),
        "eyeSquint": ((0, -0.8, 0), (0, 2.0, 0)),
        "eyeLookUp": ((0, 1.5, 0), (0, 0.6, 0)),
        "eyeLookDown": ((0, -3.0, 0), (0, -0.8, 0)),
    }
    for side, pairs in (("Left", topology.LEFT_LID_PAIRS), ("Right", topology.RIGHT_LID_PAIRS)):
        upper, lower = zip(*pairs, strict=True)
        profile = np.sin(np.linspace(0, np.pi, len(pairs) + 2))[1:-1, None]
        corners = (33, 133) if side == "Right" else (263, 362)
        outwards = 1.0 if side == "Left" else -1.0
        shapes[f"eyeBlink{side}"] = close_lids(topology.TEMPLATE.astype(np.float64), pairs)
        sideways = {"eyeLookIn": -0.6 * outwards, "eyeLookOut": 0.6 * outwards}
        for name, (up, down) in (motions | {n: ((x, 0, 0), (x, 0, 0)) for n, x in sideways.items()}).items():
            values = np.concatenate([profile * np.array(up), profile * np.array(down)])
            shapes[f"{name}{side}"] = extend(tuple(upper + lower), values, (*still, *corners))
    return shapes


def _brows() -> dict[str, Field]:
    inner, outer = _bump(107, 13) + _bump(336, 13), _bump(70, 14) + _bump(300, 14)
    whole = np.maximum(inner, outer)
    return {
        "browInnerUp": _field(inner, 0, 6, 0.5),
        **_sided("browOuterUp", _field(outer, 0, 5, 0.5)),
        **_sided("browDown", _field(whole, 0, -4, 0.5)),
    }
