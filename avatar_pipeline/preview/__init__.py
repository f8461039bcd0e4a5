"""Pictures for people: contact sheets, landmark overlays, waveforms and spectrograms, small enough for metadata."""
