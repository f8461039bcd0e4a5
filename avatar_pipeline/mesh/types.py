"""The borders of the mesh room: the person's head as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FACE_VERTICES = 468
"""The first vertices of every mesh are MediaPipe's face-mesh landmarks 0 to 467, in order."""


@dataclass(frozen=True, slots=True)
class AvatarMesh:
    """A person's face, ready to animate. Lengths in millimetres, x to the subject's left, y up, z out of the face.

    `vertices` (V, 3) float32: 0..467 the face, then the mouth interior (cavity and teeth). `uv` (V, 2) float32 with
    v down, as images have it. `skin` (S, 3), `eyes` (E, 3) and `mouth` (M, 3) int32 triangles, counter-clockwise
    seen from the front; `faces` is all of them. `morph_names` (K): 52 ARKit names, then 15 `viseme_*`; `morphs`
    (K, V, 3) float32 displacements for weight 1. `texture` (S, S, 3) uint8 sRGB.
    """

    vertices: NDArray[np.float32]
    uv: NDArray[np.float32]
    skin: NDArray[np.int32]
    eyes: NDArray[np.int32]
    mouth: NDArray[np.int32]
    morph_names: tuple[str, ...]
    morphs: NDArray[np.float32]
    texture: NDArray[np.uint8]

    @property
    def faces(self) -> NDArray[np.int32]:
        """All triangles (F, 3)."""
        import numpy as np

        return np.concatenate([self.skin, self.eyes, self.mouth])

    def morph(self, name: str) -> NDArray[np.float32]:
        """Return the displacement (V, 3) of one morph target by its name."""
        displacement: NDArray[np.float32] = self.morphs[self.morph_names.index(name)]
        return displacement


@dataclass(frozen=True, slots=True)
class MeshReport:
    """What the mesh's checks found."""

    vertices: int
    triangles: int
    morph_targets: int
    degenerate_triangles: int
    flipped_uv_triangles: int
    flipped_normals: int
    """Skin triangles of the neutral that face backwards."""
    texture_coverage: float
    """Share of the skin's texels seen well enough in the chosen frames."""
    reprojection_error: float
    """RMS distance of the posed neutral's rigid points to the tracked landmarks, over the inter-ocular distance."""

    @property
    def sane(self) -> bool:
        """No degenerate and no flipped triangle."""
        return not (self.degenerate_triangles or self.flipped_uv_triangles or self.flipped_normals)
