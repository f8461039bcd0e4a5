"""Jobs: one builds an avatar, one makes a batch of clips. https://docs.dagster.io/guides/build/jobs"""

import dagster as dg

from assets.avatars import avatar_assets
from assets.clips import clip_assets

build_avatar = dg.define_asset_job(
    "build_avatar",
    selection=dg.AssetSelection.assets(*avatar_assets),
    description="Everything of one avatar, from its upload to its greeting.",
    executor_def=dg.in_process_executor,
)

make_clip_batch = dg.define_asset_job(
    "make_clip_batch",
    selection=dg.AssetSelection.assets(*clip_assets),
    description="One batch of clip requests: claimed, spoken, rendered.",
    executor_def=dg.in_process_executor,
)

jobs = [build_avatar, make_clip_batch]
