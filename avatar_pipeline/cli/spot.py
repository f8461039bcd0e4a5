"""`avatar spot`: what the spot executor would ask Kubernetes for, before it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from avatar_pipeline.cli import console
from avatar_pipeline.cli.options import AsJson
from avatar_pipeline.errors import EnvironmentProblem, InvalidInput
from avatar_pipeline.spot.catalog import price
from avatar_pipeline.spot.classification import CONSEQUENCES, RULES
from avatar_pipeline.spot.manifests import run_pod_config
from avatar_pipeline.spot.offerings import suitable
from avatar_pipeline.spot.profiles import DEFAULT_PROFILES, ComputeProfile, load_profiles
from avatar_pipeline.spot.rendering import render_manifests
from avatar_pipeline.spot.types import CapacityType

spot_app = typer.Typer(
    help="GPU steps on Kubernetes: profiles, manifests, and how ends are judged.", no_args_is_help=True
)

ProfilesFile = Annotated[Path | None, typer.Option(help="YAML or JSON file with more compute profiles.")]


@spot_app.command()
def profiles(file: ProfilesFile = None, as_json: AsJson = False) -> None:
    """List the compute profiles, and the machines that each may run on."""
    found = [_described(profile) for profile in _profiles(file)]
    if as_json:
        console.say_json(found)
        return
    table = Table("profile", "GPUs", "GPU GiB", "cores", "GiB", "machines, cheapest first ($/h spot, on-demand)")
    for one in found:
        machines = ", ".join(f"{m['type']} ({m['spot']}, {m['on_demand']})" for m in one["machines"][:4])
        more = len(one["machines"]) - 4
        shown = f"{machines}{f' and {more} more' if more > 0 else ''}"
        table.add_row(*(str(one[name]) for name in ("profile", "gpus", "gpu_gib", "cpus", "memory_gib")), shown)
    console.print_table(table)


@spot_app.command()
def manifests(
    file: ProfilesFile = None,
    image: Annotated[str, typer.Option(help="Image of the steps, where a profile names none.")] = "avatar-pipeline:1",
    check: Annotated[bool, typer.Option(help="Validate against the Kubernetes versions that are known here.")] = False,
) -> None:
    """Print the Jobs of a run and of its GPU steps as YAML, for every profile on spot and on-demand."""
    try:
        import yaml

        from avatar_pipeline.spot.executor.stock import run_job, step_job
    except ImportError as error:
        raise EnvironmentProblem(
            f"The package {error.name!r} cannot be imported.", remedy="Install it: pip install 'avatar-pipeline[k8s]'."
        ) from error
    rendered = [run_job(run_pod_config(), image=image), *render_manifests(step_job(image=image), _profiles(file))]
    for version in _versions() if check else ():
        for manifest in rendered:
            _validate(manifest, version)
    typer.echo(yaml.safe_dump_all(rendered, sort_keys=False), nl=False)


@spot_app.command()
def endings(as_json: AsJson = False) -> None:
    """Print how the end of an attempt is recognised, first rule that applies, and what follows from it."""
    rows = [(rule.name, rule.ending.value if rule.ending else "-", rule.meaning, _follows(rule)) for rule in RULES]
    if as_json:
        console.say_json([dict(zip(("rule", "ending", "meaning", "then"), row, strict=True)) for row in rows])
        return
    table = Table("rule", "ending", "what is seen", "then")
    for row in rows:
        table.add_row(*row)
    console.print_table(table)


def _profiles(file: Path | None) -> list[ComputeProfile]:
    more = load_profiles(file) if file else {}
    return list({**DEFAULT_PROFILES, **more}.values())


def _described(profile: ComputeProfile) -> dict[str, Any]:
    spot = suitable(profile, CapacityType.SPOT)
    on_demand = {one.instance_type: str(price(one)) for one in suitable(profile, CapacityType.ON_DEMAND)}
    machines = {
        one.instance_type: {
            "type": one.instance_type,
            "spot": str(price(one)),
            "on_demand": on_demand[one.instance_type],
        }
        for one in reversed(spot)
    }
    return {
        "profile": profile.name,
        "gpus": profile.gpus,
        "gpu_gib": profile.gpu_memory_gib,
        "cpus": profile.cpus,
        "memory_gib": profile.memory_gib,
        "zones": list(profile.zones),
        "bigger": profile.bigger,
        "machines": list(reversed(machines.values())),
    }


def _follows(rule: Any) -> str:
    if rule.ending is None:
        return "wait"
    then = CONSEQUENCES[rule.ending]
    if not then.retry:
        return "no other attempt"
    return f"again, paid by {then.budget.value}"


def _versions() -> Iterator[str]:
    """Yield the two latest minors of Kubernetes that can be validated against."""
    try:
        from kubernetes_validate.utils import all_versions
    except ImportError as error:
        raise EnvironmentProblem(
            "kubernetes-validate cannot be imported.", remedy="Install it: pip install 'avatar-pipeline[lab]'."
        ) from error
    known = {tuple(int(part) for part in version.lstrip("v").split(".")[:2]) for version in all_versions()}
    yield from (f"{major}.{minor}" for major, minor in sorted(known)[-2:])


def _validate(manifest: dict[str, Any], version: str) -> None:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        where = ".".join(str(part) for part in error.path)
        raise InvalidInput(
            f"Job {manifest['metadata']['name']} is not valid in Kubernetes {version}: {where}: {error.message[:200]}",
            remedy="Look at the profile's labels, tolerations and affinity.",
        ) from error
    console.err.print(f"valid in Kubernetes {version}: {manifest['metadata']['name']}", soft_wrap=True)
