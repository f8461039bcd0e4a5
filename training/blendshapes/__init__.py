"""Makes the mesh room's shipped data: the fixed topology with its UV layout, and the blendshape prior."""
