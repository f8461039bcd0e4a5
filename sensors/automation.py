"""The nightly rebuild: avatars that are missing something or were made by older code, as one backfill."""

import warnings

import dagster as dg

from assets.avatars import avatar_assets
from assets.jobs import LINE_TAG

with warnings.catch_warnings():
    # Where the condition is evaluated is a beta parameter: a test holds it; users need not read of it at every command.
    warnings.simplefilter("ignore", dg.BetaWarning)
    nightly_rebuild = dg.AutomationConditionSensorDefinition(
        "nightly_rebuild",
        target=dg.AssetSelection.assets(*avatar_assets),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=300,
        emit_backfills=True,
        # Behind what people wait for, and within the limit of the line.
        run_tags={LINE_TAG: "avatar", "dagster/priority": "-10"},
        # The condition is partly the project's own, so it is evaluated where the project's code is.
        use_user_code_server=True,
        description="Rebuilds, at night and as one backfill, what is missing or was made by older code.",
    )
