"""Takes away GPU Jobs whose run is over; only with the spot executor there is anything to do."""

import dagster as dg

from avatar_pipeline.errors import AvatarError


@dg.op(description="Deletes GPU Jobs that nobody looks after: their run ended, and its process could not say so.")
def delete_orphaned_jobs(context: dg.OpExecutionContext) -> None:
    """Delete the Jobs of steps whose run has ended or is not known."""
    from avatar_pipeline.spot.executor.sweep import open_door, sweep

    try:
        door, namespace = open_door(context.instance)
        gone = sweep(context.instance, door, namespace)
    except AvatarError as error:
        raise dg.Failure(str(error), metadata=error.as_dict()) from error
    for name in gone:
        context.log.warning(f"Deleted Job {name}: its run is over.")
    context.add_output_metadata({"deleted": len(gone)})


@dg.job(
    description="Every five minutes: GPU Jobs that would cost money for nothing.", executor_def=dg.in_process_executor
)
def sweep_gpu_jobs() -> None:
    """Delete what nobody waits for."""
    delete_orphaned_jobs()
