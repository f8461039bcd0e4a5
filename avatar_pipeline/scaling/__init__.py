"""How much work is admitted at once: pure decisions over measured signals."""
