"""Jobs: one builds an avatar, one makes a batch of clips, one writes a day's report. https://docs.dagster.io/guides/build/jobs"""

import dagster as dg

from assets.avatars import avatar_assets
from assets.clips import clip_assets
from assets.report import report_assets
from avatar_pipeline.spot.manifests import run_pod_config

LINE_TAG = "avatar/line"
"""Which of the lines a run belongs to; dagster.yaml limits each, so that a flood of one leaves room for the other."""

RECOVERED = {"dagster/max_retries": "0"}
"""Lost runs are run again by the sensors, which know what is left to do and pause in between; not by Dagster too."""

RUN_POD = {"dagster-k8s/config": run_pod_config()}
"""On Kubernetes a run's own pod stays where it is: on on-demand capacity, and nobody moves it to save a machine."""

build_avatar = dg.define_asset_job(
    "build_avatar",
    selection=dg.AssetSelection.assets(*avatar_assets),
    description="Everything of one avatar, from its upload to its greeting.",
    tags={LINE_TAG: "avatar", **RECOVERED, **RUN_POD},
)

make_clip_batch = dg.define_asset_job(
    "make_clip_batch",
    selection=dg.AssetSelection.assets(*clip_assets),
    description="One batch of clip requests: claimed, spoken, rendered.",
    tags={LINE_TAG: "clips", **RECOVERED, **RUN_POD},
)

report_day = dg.define_asset_job(
    "report_day",
    selection=dg.AssetSelection.assets(*report_assets),
    description="The report of one day.",
    executor_def=dg.in_process_executor,
)

jobs = [build_avatar, make_clip_batch, report_day]
