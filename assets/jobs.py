"""Jobs: one builds an avatar, one makes a batch of clips. https://docs.dagster.io/guides/build/jobs"""

import dagster as dg

from assets.avatars import avatar_assets
from assets.clips import clip_assets
from assets.partitions import avatars, clip_batches

build_avatar = dg.define_asset_job(
    "build_avatar",
    selection=dg.AssetSelection.assets(*avatar_assets),
    partitions_def=avatars,
    description="Everything of one avatar, from its upload to its greeting.",
    executor_def=dg.in_process_executor,
)

make_clip_batch = dg.define_asset_job(
    "make_clip_batch",
    selection=dg.AssetSelection.assets(*clip_assets),
    partitions_def=clip_batches,
    description="One batch of clip requests: claimed, spoken, rendered.",
    executor_def=dg.in_process_executor,
)

jobs = [build_avatar, make_clip_batch]
