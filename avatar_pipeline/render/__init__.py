"""Talking clips: the person's own footage, with the lower face re-driven."""
