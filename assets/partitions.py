"""Partitions: one key an avatar, one key a batch of clips. https://docs.dagster.io/guides/build/partitions-and-backfills

Both are dynamic: a key is added when an avatar or a batch is wanted. Ask with `has_dynamic_partition`, never list all.
"""

import dagster as dg

avatars = dg.DynamicPartitionsDefinition(name="avatars")
"""Key: the avatar's immutable id."""

clip_batches = dg.DynamicPartitionsDefinition(name="clip_batches")
"""Key: a sortable batch id."""
