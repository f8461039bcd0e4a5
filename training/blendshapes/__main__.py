"""`python -m training.blendshapes topology|prior`: make the mesh room's shipped data again.

Reads the evaluation data in the folder that `AVATAR_EVAL_DATA` names; see the README beside this file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh import prior, topology
from avatar_pipeline.store.atomic import atomic_file

MODEL = "models/face_landmarker.task"


def main(arguments: list[str]) -> int:
    """Run one of the two recipes; return the exit code."""
    folder = os.environ.get("AVATAR_EVAL_DATA")
    if arguments not in (["topology"], ["prior"]) or not folder:
        print("usage: AVATAR_EVAL_DATA=<folder> python -m training.blendshapes topology|prior", file=sys.stderr)
        return 2
    arrays: Mapping[str, NDArray[np.generic]]
    target = topology.TOPOLOGY_FILE
    if arguments == ["topology"]:
        from training.blendshapes.layout import build_topology

        arrays = build_topology(Path(folder) / MODEL)
    else:
        from training.blendshapes.fit import build_prior

        target, arrays = prior.PRIOR_FILE, build_prior(Path(folder), Path(folder) / MODEL)
    target.parent.mkdir(exist_ok=True)
    with atomic_file(target) as path, path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{target}: {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
