"""The callback sensor: delivers the webhooks that are due."""

import dagster as dg

from avatar_pipeline.callbacks.deliver import deliver_due
from resources.line import LineResource

CALLBACKS_A_TICK = 500


@dg.sensor(
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Delivers due webhooks. Off unless AVATAR_CALLBACKS is on.",
)
def callback_sensor(line: LineResource) -> dg.SkipReason:
    """Deliver what is due, within the time of a tick."""
    with line.look() as bench:
        done = deliver_due(bench.callbacks, bench.settings, clock=bench.clock, limit=CALLBACKS_A_TICK)
    return dg.SkipReason(str(done))
