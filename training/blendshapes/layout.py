"""The fixed topology and its UV layout, from MediaPipe's ordered tesselation and its canonical face model.

The tesselation is in the package as an ordered list of edges, three to a triangle. The canonical face (468 vertices in
centimetres, exactly symmetric, nobody's face) is inside the FaceLandmarker bundle. The layout is a mean-value map
(M. S. Floater, "Mean value coordinates", CAGD 2003): a convex combination map of a disk onto a convex polygon has no
flipped triangle (W. T. Tutte, 1963), so the face oval goes to an ellipse and the three holes are closed by fans first.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.face.pose import RIGID
from avatar_pipeline.mesh.topology import LEFT_EYE, MOUTH, OVAL, RIGHT_EYE, loop_triangles, signed_uv_area

GEOMETRY_FILE = "geometry_pipeline_metadata_landmarks.binarypb"
SEMI_AXES = (0.44, 0.48)
"""Of the ellipse that the oval is mapped to, in units of the atlas; the corners stay free for teeth and palate."""

STRETCH_STEPS = 4
EYE_IMPORTANCE = 0.5
EYE_RADIUS = 18.0
"""In mm."""


def tesselation() -> NDArray[np.int32]:
    """Return MediaPipe's face-mesh triangles (852, 3), counter-clockwise seen from the front."""
    from mediapipe.tasks.python.vision.face_landmarker import FaceLandmarksConnections

    starts = [edge.start for edge in FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION]
    return np.array(starts, np.int32).reshape(-1, 3)


def canonical_face(bundle: Path) -> NDArray[np.float64]:
    """Read the canonical face (468, 3) in mm from a FaceLandmarker bundle, upright, centred on `RIGID`."""
    from mediapipe.tasks.cc.vision.face_geometry.proto import geometry_pipeline_metadata_pb2

    metadata = geometry_pipeline_metadata_pb2.GeometryPipelineMetadata()
    with zipfile.ZipFile(bundle) as archive:
        metadata.ParseFromString(archive.read(GEOMETRY_FILE))
    face = np.array(metadata.canonical_mesh.vertex_buffer).reshape(-1, 5)[:, :3] * 10.0
    up = face[10] - face[152]
    up /= np.linalg.norm(up)
    x = np.array([1.0, 0.0, 0.0])
    face = face @ np.stack([x, up, np.cross(x, up)]).T
    centred: NDArray[np.float64] = face - face[RIGID].mean(axis=0)
    return centred


def mirror_map(face: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return for each vertex of a symmetric face the vertex that is its mirror image."""
    distance = np.linalg.norm(face[:, None] - (face * [-1, 1, 1])[None], axis=2)
    if distance.min(axis=1).max() > 1e-6:
        raise ValueError("the canonical face is not symmetric")
    nearest: NDArray[np.int32] = distance.argmin(axis=1).astype(np.int32)
    return nearest


def eye_triangles() -> NDArray[np.int32]:
    """Return the triangles (28, 3) that close both eyes."""
    return np.array([*loop_triangles(RIGHT_EYE), *loop_triangles(LEFT_EYE)], np.int32)


def uv_layout(
    face: NDArray[np.float64], triangles: NDArray[np.int32], mirror: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Map a symmetric face (468, 3) into the unit square: (468, 2), v down, symmetric about u = ½.

    The weights are then divided by the stretch of the vertex they pull to, a few times over, which evens out the
    resolution (S. Yoshizawa et al., "A fast and simple stretch-minimizing mesh parameterization", SMI 2004); they stay
    positive, and the map stays free of flips.
    """
    points, closed = _close_holes(face, triangles)
    rows, columns, weights = _mean_value_weights(points, closed)
    oval = list(OVAL)
    rim = face[oval, :2] - (face[oval, :2].max(axis=0) + face[oval, :2].min(axis=0)) / 2
    angle = np.arctan2(rim[:, 1], rim[:, 0])
    uv = np.zeros((len(points), 2))
    uv[oval] = np.stack([0.5 + SEMI_AXES[0] * np.cos(angle), 0.5 - SEMI_AXES[1] * np.sin(angle)], axis=1)
    importance = _importance(points)
    for step in range(STRETCH_STEPS + 1):
        if step:
            weights = weights / (_stretch(points, uv, closed) * importance)[columns]
        uv = _convex_combination_map(rows, columns, weights, uv, fixed=np.array(oval))
    uv = uv[: len(face)]
    return ((uv + uv[mirror] * [-1, 1] + [1, 0]) / 2).astype(np.float32)


def _close_holes(
    face: NDArray[np.float64], triangles: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Add a vertex in the middle of each hole and a fan of triangles around it."""
    vertices, faces = [face], triangles.tolist()
    for hole in (LEFT_EYE, RIGHT_EYE, MOUTH):
        centre = len(face) + len(vertices) - 1
        vertices.append(face[list(hole)].mean(axis=0, keepdims=True))
        faces += [(b, a, centre) for a, b in zip(hole, hole[1:] + hole[:1], strict=True)]
    return np.concatenate(vertices), np.array(faces)


def _mean_value_weights(
    points: NDArray[np.float64], triangles: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return Floater's weights as (row, column, weight): how much each vertex is pulled to each neighbour."""
    rows, columns, weights = [], [], []
    for k in range(3):
        i, j, m = triangles[:, k], triangles[:, (k + 1) % 3], triangles[:, (k + 2) % 3]
        a, b = points[j] - points[i], points[m] - points[i]
        la, lb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        half = np.tan(np.arccos(np.clip((a * b).sum(axis=1) / la / lb, -1, 1)) / 2)
        rows += [i, i]
        columns += [j, m]
        weights += [half / la, half / lb]
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)


def _convex_combination_map(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    weights: NDArray[np.float64],
    uv: NDArray[np.float64],
    *,
    fixed: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Place each free vertex at the weighted mean of its neighbours."""
    import scipy.sparse as sp
    import scipy.sparse.linalg as sl

    n = len(uv)
    W = sp.csr_matrix((weights, (rows, columns)), shape=(n, n))
    system = (sp.eye(n) - sp.diags(1 / np.asarray(W.sum(axis=1)).ravel()) @ W).tocsr()
    free = np.setdiff1d(np.arange(n), fixed)
    placed = uv.copy()
    placed[free] = sl.spsolve(system[free][:, free].tocsc(), -(system[free][:, fixed] @ uv[fixed]))
    return placed


def _importance(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much more than its share of the atlas a place gets: the eyes are small, and looked at first."""
    weight = np.ones(len(points))
    for loop in (LEFT_EYE, RIGHT_EYE):
        distance = np.linalg.norm(points - points[list(loop)].mean(axis=0), axis=1)
        weight += EYE_IMPORTANCE * np.exp(-0.5 * (distance / EYE_RADIUS) ** 2)
    return weight


def _stretch(points: NDArray[np.float64], uv: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each vertex's L2 stretch (P. Sander et al., "Texture mapping progressive meshes", SIGGRAPH 2001)."""
    q, s = points[triangles], uv[triangles]
    area = 0.5 * np.linalg.norm(np.cross(q[:, 1] - q[:, 0], q[:, 2] - q[:, 0]), axis=1)
    edges = np.stack([s[:, 1] - s[:, 0], s[:, 2] - s[:, 0]], axis=-1)
    jacobian = np.stack([q[:, 1] - q[:, 0], q[:, 2] - q[:, 0]], axis=-1) @ np.linalg.inv(edges)
    squared = (jacobian**2).sum(axis=(1, 2)) / 2
    total, stretch = np.zeros(len(points)), np.zeros(len(points))
    for k in range(3):
        np.add.at(total, triangles[:, k], area)
        np.add.at(stretch, triangles[:, k], area * squared)
    root: NDArray[np.float64] = np.sqrt(stretch / total)
    return root


def build_topology(bundle: Path) -> dict[str, NDArray[np.int32] | NDArray[np.float32]]:
    """Return the arrays of the shipped topology file.

    Raises:
        ValueError: the layout has a flipped triangle.
    """
    face, triangles, eyes = canonical_face(bundle), tesselation(), eye_triangles()
    mirror = mirror_map(face)
    uv = uv_layout(face, triangles, mirror)
    if signed_uv_area(uv, np.concatenate([triangles, eyes])).min() <= 0:
        raise ValueError("the UV layout has a flipped triangle")
    return {
        "triangles": triangles,
        "eye_triangles": eyes,
        "mirror": mirror,
        "uv": uv,
        "template": face.astype(np.float32),
    }
