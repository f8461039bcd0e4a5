"""The assets of one batch of clips. Partition key: the batch's id."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial

import dagster as dg

from assets.avatars import OWNERS
from assets.binding import LEAVING, Outcome, costs, failure, materialize, metadata, picture
from assets.compute import CPU_TAGS, GPU_POOL, GPU_TAGS
from assets.partitions import clip_batches
from avatar_pipeline.errors import AvatarError, package_missing
from avatar_pipeline.stages import batches, clips, speech
from avatar_pipeline.stages.batches import BatchResult
from avatar_pipeline.stages.line import Line
from resources.line import LineResource

clip_asset = partial(dg.asset, partitions_def=clip_batches, group_name="clips", owners=OWNERS)


@clip_asset(
    kinds={"python"},
    code_version=batches.MANIFEST_VERSION,
    op_tags=CPU_TAGS,
)
def clip_batch_manifest(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """The requests of this batch, claimed once and written down: every later run makes the same clips."""
    with line.open(context) as bench:
        yield from materialize(bench, lambda: batches.make_manifest(bench, context.partition_key))


@clip_asset(
    deps=[clip_batch_manifest],
    kinds={"python"},
    code_version=speech.SPEECH_VERSION,
    op_tags=CPU_TAGS,
)
def synthesized_speech(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """Each request of the batch, spoken with its avatar's voice, with phoneme, word and viseme times."""
    with line.open(context) as bench:
        yield from _batch(context, bench, batches.synthesize_batch)


@clip_asset(
    deps=[synthesized_speech],
    kinds={"opengl", "ffmpeg"},
    code_version=clips.CLIP_VERSION,
    op_tags=GPU_TAGS,
    pool=GPU_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            "all_rendered",
            asset="rendered_clips",
            description="Every clip is as long as its sound, and its mouth does what it was told, in time.",
            # One clip that cannot be made is no reason to call the batch failed: its request says so.
            blocking=False,
        )
    ],
)
def rendered_clips(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """Each request of the batch as a finished clip; clips that exist are not rendered again."""
    with line.open(context) as bench:
        yield from _batch(context, bench, batches.render_batch, check="all_rendered")


def _batch(
    context: dg.AssetExecutionContext, line: Line, work: Callable[[Line, str], BatchResult], *, check: str | None = None
) -> Outcome:
    try:
        batch = work(line, context.partition_key)
    except LEAVING:
        raise
    except (AvatarError, ImportError) as error:
        raise failure(error if isinstance(error, AvatarError) else package_missing(error)) from error
    shown = metadata(line, batch.index) | {
        "stage_seconds": round(batch.seconds, 3),
        **costs(line, batch.cost, batch.seconds),
        "items_made": len(batch.done) - batch.reused,
        "items_reused": batch.reused,
        "items_held": len(batch.held),
        "items_failed": len(batch.failed),
        "items": _table(batch),
    }
    shown |= _provider_figures(batch) | _cost_figures(batch)
    for result in list(batch.done.values())[:1]:
        if "preview.jpg" in result.artifact.files:
            shown["preview"] = picture(line.store.local(result.artifact, "preview.jpg").read_bytes())
    results = []
    if check is not None:
        told = "; ".join(f"{name}: {error}" for name, error in batch.failed.items())
        description = told or f"All {len(batch.done)} clips are made and passed their checks."
        passed = not batch.failed
        results = [
            dg.AssetCheckResult(
                check_name=check, passed=passed, severity=dg.AssetCheckSeverity.WARN, description=description
            )
        ]
    yield dg.MaterializeResult(metadata=shown, check_results=results)


def _provider_figures(batch: BatchResult) -> dict[str, float | int]:
    """Sum up what voices' providers were asked for in this attempt, and what they charged."""
    made = [result.facts for result in batch.done.values() if not result.reused and "provider_cost" in result.facts]
    if not made:
        return {}
    return {
        "characters_spoken": sum(facts["characters"] for facts in made),
        "provider_credits": float(sum(Decimal(facts["provider_credits"]) for facts in made)),
        "provider_cost_usd": float(sum(Decimal(facts["provider_cost"]) for facts in made)),
    }


def _cost_figures(batch: BatchResult) -> dict[str, float]:
    """Return what a clip, and a finished minute of clips, cost in this attempt."""
    made = [result for result in batch.done.values() if not result.reused]
    if not made:
        return {}
    spent = sum((result.cost for result in made), Decimal(0))
    minutes = sum(result.facts.get("seconds", 0.0) for result in made) / 60
    per_minute = {"cost_per_finished_minute": float(spent) / minutes} if minutes else {}
    return {"cost_per_clip": float(spent / len(made)), **per_minute}


def _table(batch: BatchResult) -> dg.MetadataValue:
    rows = ["| request | avatar | result | seconds | USD |", "|---|---|---|---|---|"]
    for name, result in batch.done.items():
        state = "reused" if result.reused else "made"
        owner = result.artifact.slot.owner
        rows.append(f"| {name} | {owner} | {state} | {result.seconds:.1f} | {result.cost} |")
    rows += [f"| {name} | | waits: {error.code} | | |" for name, error in batch.held.items()]
    rows += [f"| {name} | | failed: {error.code} | | |" for name, error in batch.failed.items()]
    return dg.MetadataValue.md("\n".join(rows))


clip_assets = [clip_batch_manifest, synthesized_speech, rendered_clips]
