"""Partitions: one key an avatar, one a batch of clips, one a day.

The first two are dynamic: a key is added when an avatar or a batch is wanted. Ask with `has_dynamic_partition`, never
list all. https://docs.dagster.io/guides/build/partitions-and-backfills
"""

import dagster as dg

avatars = dg.DynamicPartitionsDefinition(name="avatars")
"""Key: the avatar's immutable id."""

clip_batches = dg.DynamicPartitionsDefinition(name="clip_batches")
"""Key: a sortable batch id."""

days = dg.DailyPartitionsDefinition(start_date="2026-11-01", timezone="UTC")
"""Key: a day, in UTC."""
