"""The crash test: the whole line at work while its processes are killed, and a verdict on what came out."""
