"""Compute profiles: what a GPU step needs, where it may run, and how long each thing may take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.catalog import CATALOG, InstanceType
from avatar_pipeline.spot.labels import PREFIX, is_label_key, is_label_value, label_value
from avatar_pipeline.spot.views import CAPACITY_TYPE_LABELS, INSTANCE_TYPE_LABEL, ZONE_LABEL

ENOUGH_TYPES = 15
"""Instance types that a profile should fit on: what Karpenter asks for before it replaces a spot node by another.

With fewer, a shortage of one GPU leaves too little to turn to.
"""
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_GO_DURATION = re.compile(r"(?=.*[1-9])(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_PLACED = (*CAPACITY_TYPE_LABELS, INSTANCE_TYPE_LABEL, ZONE_LABEL)
_RESERVED = (PREFIX, "dagster/", "kubernetes.io/", "batch.kubernetes.io/", "job-name", "controller-uid")


class _Wrong(ValueError):
    """A field's value cannot be used; `remedy` for a person."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Toleration(_Part):
    """A taint that the pod puts up with, as in Kubernetes; `value` only with the operator Equal."""

    key: str = Field(min_length=1)
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = "NoSchedule"

    @model_validator(mode="after")
    def _value_goes_with_equal(self) -> Self:
        if (self.operator == "Exists") != (self.value is None):
            raise _Wrong(
                f"operator {self.operator} with value {self.value!r}", "Give a value with Equal, none with Exists."
            )
        return self


class NodeRequirement(_Part):
    """A requirement on a node's labels, as in Kubernetes' node affinity."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = "In"
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _values_go_with_the_operator(self) -> Self:
        if not is_label_key(self.key):
            raise _Wrong(f"{self.key!r} is not the key of a label", "Use name or domain/name.")
        if self.key in _PLACED:
            raise _Wrong(f"{self.key} is what a placement decides", "Use families, sizes and zones of the profile.")
        count = len(self.values)
        fits = {"Exists": count == 0, "DoesNotExist": count == 0, "Gt": count == 1, "Lt": count == 1}
        if not fits.get(self.operator, count > 0):
            raise _Wrong(
                f"operator {self.operator} with {count} values",
                "In and NotIn take one or more, Gt and Lt one, Exists and DoesNotExist none.",
            )
        return self


class ComputeProfile(_Part):
    """What a GPU step needs, where it may run, and how long each thing may take. Sizes in GiB, times in seconds.

    A step gets machines with as few GPUs as will do, so that nobody pays for idle ones. `families`, `sizes` and `zones`
    narrow the choice; empty `sizes` and `zones` mean any. `gpu_speed` is the measured speed of the work on a GPU
    (`{"l4": 1.4}`), 1 where it is not given; ranking divides prices by it. `spot_tolerations` are added on spot only.
    `bigger` names the profile that the step goes on with after it ran out of memory.

    `do_not_disrupt` ("true", a duration such as "30m", or None) keeps Karpenter from consolidating the node away. With
    it, Karpenter does not evict the pod on a spot interruption either, unless the NodePool has a
    `terminationGracePeriod`: set one of about 110 s, or rely on the worker's own look at the EC2 notice.
    """

    name: str
    gpus: int = Field(default=1, ge=1, le=8)
    gpu_memory_gib: float = Field(default=15, gt=0)
    cpus: float = Field(default=3, gt=0)
    memory_gib: float = Field(default=12, gt=0)
    ephemeral_storage_gib: float | None = Field(default=None, gt=0)
    families: tuple[str, ...] = Field(default=("g4dn", "g5", "g6", "g6e"), min_length=1)
    sizes: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    allow_few_types: bool = False
    gpu_speed: Mapping[str, float] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu"),)
    spot_tolerations: tuple[Toleration, ...] = (
        Toleration(key="karpenter.sh/capacity-type", operator="Equal", value="spot"),
    )
    node_affinity: tuple[NodeRequirement, ...] = ()
    capacity_label: Literal["karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType"] = (
        "karpenter.sh/capacity-type"
    )
    image: str | None = None
    driver_capabilities: str = "compute,graphics,video,utility"
    labels: Mapping[str, str] = Field(default_factory=dict)
    do_not_disrupt: str | None = "true"
    active_deadline_seconds: int | None = Field(default=6 * 3600, ge=60)
    termination_grace_seconds: int = Field(default=100, ge=1, le=3600)
    lost_node_seconds: int = Field(default=30, ge=0, le=600)
    pending_limit_seconds: int = Field(default=600, ge=1)
    image_pull_limit_seconds: int = Field(default=300, ge=1)
    bigger: str | None = None

    @field_validator("name", "bigger")
    @classmethod
    def _slug(cls, value: str | None) -> str | None:
        if value is not None and not _SLUG.fullmatch(value):
            raise _Wrong(
                f"{value[:80]!r} is not a slug",
                "Use up to 63 of a-z, 0-9 and '-', with a letter or digit at both ends.",
            )
        return value

    @field_validator("zones", "families", "sizes")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if not entry or not is_label_value(entry):
                raise _Wrong(
                    f"{entry!r} cannot be the value of a label", "Use names such as us-east-1a, g5 or 2xlarge."
                )
        return tuple(dict.fromkeys(value))

    @field_validator("labels")
    @classmethod
    def _kubernetes_takes_the_labels(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for key, text in value.items():
            if not is_label_key(key) or key.startswith(_RESERVED):
                raise _Wrong(
                    f"{key!r} cannot be used as a key", f"Use name or domain/name, not under {', '.join(_RESERVED)}."
                )
            if not is_label_value(text):
                raise _Wrong(f"{text!r} cannot be the value of {key}", f"Use for example {label_value(text)!r}.")
        return value

    @field_validator("gpu_speed")
    @classmethod
    def _speeds_are_positive(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        known = {kind.gpu_name for kind in CATALOG}
        for gpu, speed in value.items():
            if gpu not in known or not 0 < speed < 1e6:
                raise _Wrong(
                    f"speed {speed} of {gpu!r}", f"Give a speed above 0 for some of {', '.join(sorted(known))}."
                )
        return value

    @field_validator("do_not_disrupt")
    @classmethod
    def _karpenter_reads_it(cls, value: str | None) -> str | None:
        if value not in (None, "true") and not _GO_DURATION.fullmatch(value or ""):
            raise _Wrong(f"{value!r}", 'Give "true", a duration such as "30m" or "1h30m", or null.')
        return value

    @model_validator(mode="after")
    def _enough_machines(self) -> Self:
        count = len(self.instance_types())
        if count >= ENOUGH_TYPES or (count and self.allow_few_types):
            return self
        hints = [f"{field}: {more}" for field, more in self._without_each() if more > count]
        raise _Wrong(
            f"{count} instance types fit, {1 if self.allow_few_types else ENOUGH_TYPES} are needed"
            + (f" (types that would fit without the limit of one field: {', '.join(hints)})" if hints else ""),
            "Ask for less, allow more families or sizes"
            + (", or set allow_few_types: true and live with more shortages." if count else "."),
        )

    def instance_types(self, catalog: tuple[InstanceType, ...] = CATALOG) -> tuple[InstanceType, ...]:
        """Return the types that one such step fits on, of those with the fewest GPUs; in the catalog's order."""
        return _with_fewest_gpus(kind for kind in catalog if all(self._limits(kind).values()))

    def _limits(self, kind: InstanceType) -> dict[str, bool]:
        return {
            "families": kind.family in self.families,
            "sizes": not self.sizes or kind.size in self.sizes,
            "gpus": kind.gpus >= self.gpus,
            "gpu_memory_gib": kind.gpu_memory_mib >= self.gpu_memory_gib * 1024,
            "cpus": kind.free_cpus >= self.cpus,
            "memory_gib": kind.free_memory_mib >= self.memory_gib * 1024,
        }

    def _without_each(self) -> list[tuple[str, int]]:
        held = [(kind, self._limits(kind)) for kind in CATALOG]
        return [
            (
                name,
                len(
                    _with_fewest_gpus(
                        kind for kind, limits in held if all(limits[key] for key in limits if key != name)
                    )
                ),
            )
            for name in held[0][1]
        ]


def _with_fewest_gpus(kinds: Iterable[InstanceType]) -> tuple[InstanceType, ...]:
    fitting = tuple(kinds)
    fewest = min((kind.gpus for kind in fitting), default=0)
    return tuple(kind for kind in fitting if kind.gpus == fewest)


Profiles = dict[str, ComputeProfile]
DEFAULT_PROFILES: Profiles = {
    profile.name: profile
    for profile in (
        # Each on 15 types or more, but the last: 20, 16 and 13.
        ComputeProfile(name="gpu-small", cpus=3, memory_gib=12, bigger="gpu-medium"),
        ComputeProfile(name="gpu-medium", cpus=6, memory_gib=26, bigger="gpu-large"),
        ComputeProfile(name="gpu-large", cpus=7, memory_gib=52, allow_few_types=True),
    )
}
"""One GPU of 16 GB or more each; a step that runs out of memory goes one up."""


def load_profiles(path: Path) -> Profiles:
    """Read a YAML or JSON file of profiles and return them with the default ones, by name.

    `profiles` maps names to fields; one that has the name of a default profile changes that one. `defaults` holds
    fields of all, the default profiles too, such as `zones`.

    Raises:
        InvalidInput: the file cannot be read, or a field in it cannot be used; says which and why.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The profiles in {path} cannot be read: {error}.", remedy="Name a YAML file.") from error
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"{path} is not YAML: {' '.join(str(error).split())}.", remedy="Correct it there."
        ) from error
    return profiles_from({} if content is None else content, str(path))


def profiles_from(content: object, source: str) -> Profiles:
    """Return the profiles of a mapping as `load_profiles` reads it, checked together; `source` is for messages.

    Raises:
        InvalidInput: a field cannot be used, or `bigger` names no profile with more memory.
    """
    top = _mapping(content, source)
    if unknown := top.keys() - {"defaults", "profiles"}:
        raise InvalidInput(f"{source}: unknown field {min(unknown)!r}.", remedy="Use defaults and profiles.")
    common = _mapping(top.get("defaults") or {}, f"{source}: defaults")
    named = _mapping(top.get("profiles") or {}, f"{source}: profiles")
    built_in = {name: profile.model_dump(exclude_unset=True) for name, profile in DEFAULT_PROFILES.items()}
    found: Profiles = {}
    for name in [*built_in, *(name for name in named if name not in built_in)]:
        own = _mapping(named.get(name) or {}, f"{source}: profiles.{name}")
        found[name] = profile_from(built_in.get(name, {}) | common | own | {"name": name}, f"{source}: profiles.{name}")
    _check_ladder(found, source)
    return found


def profile_from(fields: Mapping[str, Any], source: str) -> ComputeProfile:
    """Return a profile of these fields; `source` is for messages.

    Raises:
        InvalidInput: a field is unknown, or cannot be used; says which, why, and what would do.
    """
    try:
        return ComputeProfile.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        wrong = first.get("ctx", {}).get("error")
        where = ".".join(str(part) for part in first["loc"])
        remedy = wrong.remedy if isinstance(wrong, _Wrong) else "Give a value that the field allows."
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            remedy = f"The fields are {', '.join(ComputeProfile.model_fields)}."
        message = str(wrong) if isinstance(wrong, _Wrong) else f"{first['msg']} (it is {first['input']!r})"
        raise InvalidInput(f"{source}{f'.{where}' if where else ''}: {message}.", remedy=remedy) from error


def _check_ladder(profiles: Profiles, source: str) -> None:
    for profile in profiles.values():
        if profile.bigger is None:
            continue
        bigger = profiles.get(profile.bigger)
        if bigger is None:
            raise InvalidInput(
                f"{source}: profiles.{profile.name}.bigger: there is no profile {profile.bigger!r}.",
                remedy=f"Name one of {', '.join(profiles)}.",
            )
        if bigger.memory_gib <= profile.memory_gib:
            raise InvalidInput(
                f"{source}: profiles.{profile.name}.bigger: {bigger.name} has {bigger.memory_gib:g} GiB of memory, "
                f"{profile.name} has {profile.memory_gib:g}.",
                remedy="Name a profile with more memory, or null: the step would run out of it again.",
            )


def _mapping(content: object, where: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InvalidInput(f"{where}: expected fields with values.", remedy="Write it as in docs/spot-executor.md.")
    return content
