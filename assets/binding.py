"""From the engine's results to Dagster's: metadata, check results, and errors that say the remedy."""

import base64
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import dagster as dg

from avatar_pipeline.errors import AvatarError, Interrupted, QualityTooLow, package_missing
from avatar_pipeline.spot.guard import Preempted, StepDeadlineExceeded
from avatar_pipeline.stages.checks import Verdict
from avatar_pipeline.stages.line import Line, StageResult, cost_of

LEAVING = (Preempted, StepDeadlineExceeded, Interrupted)
"""Why work stops at a boundary although nothing is wrong with it."""

Outcome = Iterator[dg.MaterializeResult | dg.AssetCheckResult]


def blocking(name: str, asset: str, description: str) -> dg.AssetCheckSpec:
    """Declare a check that stops everything downstream when it fails."""
    return dg.AssetCheckSpec(name, asset=asset, description=description, blocking=True)


def warning(name: str, asset: str, description: str) -> dg.AssetCheckSpec:
    """Declare a check that is to be looked at when it fails, and stops nothing."""
    return dg.AssetCheckSpec(name, asset=asset, description=description, blocking=False)


def materialize(
    line: Line,
    work: Callable[[], StageResult],
    *,
    judge: Callable[[Mapping[str, Any]], list[Verdict]] = lambda _: [],
    on_error: Mapping[type[AvatarError], str] | None = None,
    give_up: Callable[[AvatarError], None] = lambda _: None,
) -> Outcome:
    """Run a stage and yield its materialization with checks.

    `on_error` names the check that an error is the verdict of: it is yielded as failed before the step fails.
    `give_up` is told what the work failed of, or which checks.
    """
    try:
        result = work()
    except LEAVING:
        # Not the work's fault: the guard around the step says what becomes of it.
        raise
    except ImportError as error:
        raise failure(package_missing(error)) from error
    except AvatarError as error:
        give_up(error)
        for kind, check in (on_error or {}).items():
            if isinstance(error, kind):
                yield dg.AssetCheckResult(check_name=check, passed=False, description=str(error))
        raise failure(error) from error
    verdicts = judge(result.facts)
    if bad := [verdict.description for verdict in verdicts if not verdict.passed and not verdict.warns]:
        give_up(QualityTooLow(" ".join(bad), remedy="See the asset's checks and pictures."))
    yield dg.MaterializeResult(
        metadata=metadata(line, result), check_results=[check_result(verdict) for verdict in verdicts]
    )


def failure(error: AvatarError) -> dg.Failure:
    """Turn an error of the engine into one that Dagster does not retry: trying again unchanged would fail again."""
    return dg.Failure(
        description=str(error),
        metadata={**error.as_dict(), "exit_code": error.exit_code},
        allow_retries=error.exit_code != 2,
    )


def check_result(verdict: Verdict) -> dg.AssetCheckResult:
    """Turn a verdict into a check result."""
    return dg.AssetCheckResult(
        check_name=verdict.name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN if verdict.warns else dg.AssetCheckSeverity.ERROR,
        description=verdict.description,
        metadata=dict(verdict.figures),
    )


def metadata(line: Line, result: StageResult) -> dict[str, Any]:
    """Return what a person wants to see of a materialization: facts, time, cost, place, and a picture."""
    artifact = result.artifact
    shown: dict[str, Any] = {
        "reused": result.reused,
        "stage_seconds": round(result.seconds, 3),
        **costs(line, result.cost, result.seconds),
        "size_bytes": artifact.size_bytes,
        "key": artifact.key,
        "dagster/uri": artifact.uri,
    }
    shown |= {name: plain(value) for name, value in result.facts.items()}
    shown |= {f"file {name}": dg.MetadataValue.path(f"{artifact.uri}/{name}") for name in artifact.files}
    frames = result.facts.get("frames")
    if isinstance(frames, int) and result.seconds > 0 and not result.reused:
        shown["frames_per_second"] = round(frames / result.seconds, 2)
    if "preview.jpg" in artifact.files:
        shown["preview"] = picture(line.store.local(artifact, "preview.jpg").read_bytes())
    return shown


def costs(line: Line, cost: Decimal, seconds: float) -> dict[str, float]:
    """Return what this attempt cost, in US dollars, and on a spot machine what it saved against on-demand.

    It is what the attempt knows itself; the ledger knows the real machine, its start and the attempts that died.
    """
    shown = {"cost": float(cost)}
    saved = line.meter.saved_per_hour
    if saved is not None:
        shown["cost_saved_by_spot"] = float(cost_of(seconds, saved))
    return shown


def plain(value: Any) -> Any:
    """Return a fact as metadata: numbers stay numbers, so that the UI plots them; lists become bullet points."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return dg.MetadataValue.md("\n".join(f"- {item}" for item in value) or "none")
    return value


def picture(jpeg: bytes) -> dg.MetadataValue:
    """Return a JPEG as inline metadata."""
    return dg.MetadataValue.md(f"![preview](data:image/jpeg;base64,{base64.b64encode(jpeg).decode()})")
