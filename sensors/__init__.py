"""Sensors, schedules and automation conditions: thin shells over decisions of the engine."""
