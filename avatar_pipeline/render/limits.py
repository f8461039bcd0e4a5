"""What a clip must reach to be delivered: light to import, for whoever only wants to know the limits."""

MIN_SYNC = 0.85
"""Least correlation of the lip gap commanded with the one seen."""
MAX_LAG_FRAMES = 1
"""Most frames between them, early or late."""
