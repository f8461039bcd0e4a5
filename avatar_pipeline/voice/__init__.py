"""The voice room: isolated speech, voices and what they say, with times, and mouth shapes."""
