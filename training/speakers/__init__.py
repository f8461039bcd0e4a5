"""Make `avatar_pipeline/voice/data/speakers.npz`: the space in which speakers are compared."""
