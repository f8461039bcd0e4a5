"""Makes the network that isolates voices: its data, its training, its scores. See the README beside this file."""
