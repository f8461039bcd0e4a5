"""The blendshape prior: how an average face moves for each ARKit shape. No frame and no person's shape is in it.

Made by `python -m training.blendshapes prior` (its README tells from what): shapes that people showed are regressed
from tracked landmarks, pooled over people and mirrored; the others are modelled by hand on the template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PRIOR_FILE = Path(__file__).parent / "data" / "prior.npz"


@dataclass(frozen=True, slots=True)
class BlendshapePrior:
    """Displacements (52, 468, 3) float32 in mm for weight 1, in `names` order, for a face of the template's size.

    `measured` (52): True where the shape was regressed from people, False where it is modelled geometry.
    """

    names: tuple[str, ...]
    deltas: NDArray[np.float32]
    measured: tuple[bool, ...]


@cache
def load_prior() -> BlendshapePrior:
    """Read the shipped prior once; its arrays are read-only."""
    with np.load(PRIOR_FILE, allow_pickle=False) as file:
        deltas = file["deltas"].astype(np.float32) * np.float32(file["quantum"])
        names, measured = tuple(map(str, file["names"])), tuple(map(bool, file["measured"]))
    deltas.flags.writeable = False
    return BlendshapePrior(names, deltas, measured)
