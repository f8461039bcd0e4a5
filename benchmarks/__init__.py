"""How fast the engine is, and how much memory it takes, beside the obvious way to do the same."""
