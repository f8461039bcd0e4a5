"""The media room: what a file is, its frames, its sound, and clips written to disk."""
