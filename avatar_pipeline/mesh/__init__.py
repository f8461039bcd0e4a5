"""The person's head as data: shape, morph targets, texture, and the GLB file made of them."""
