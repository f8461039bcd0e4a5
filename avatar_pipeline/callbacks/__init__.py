"""Webhooks: signed, guarded against private addresses, delivered at least once."""
