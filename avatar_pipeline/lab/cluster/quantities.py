"""Kubernetes quantities (`500m`, `4Gi`, `1e3`) as exact numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from avatar_pipeline.errors import InvalidInput

Resources = dict[str, Decimal]

_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip
# As the API server's own: a signed decimal, then a decimal or binary suffix or an exponent.
_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)$")


def parse_quantity(value: str | int | float | Decimal) -> Decimal:
    """Return a quantity as an exact number of base units (cores, bytes, devices).

    Raises InvalidInput where it is not one.
    """
    text = str(value)
    match = _QUANTITY.match(text)
    if match is None:
        raise InvalidInput(
            f"{text!r} is not a Kubernetes quantity.", remedy="Write a number with a suffix, such as 500m, 2 or 4Gi."
        )
    number, exponent, suffix = match.groups()
    return Decimal(number + (exponent or "")) * _SUFFIXES[suffix or ""]


def as_resources(quantities: Mapping[str, Any] | None) -> Resources:
    """Return a resource list of the API (`{"cpu": "500m"}`) as numbers."""
    return {name: parse_quantity(value) for name, value in (quantities or {}).items()}


def requested(pod: Mapping[str, Any]) -> Resources:
    """Return what a pod asks a node for: the sum over its containers, or its greatest init container.

    The pod itself counts as one of `pods`. A container that states only a limit requests as much, as the API server's
    defaulting has it.
    """
    spec = pod["spec"]
    total = _sum(_container_requests(container) for container in spec.get("containers", ()))
    for container in spec.get("initContainers") or ():
        for name, amount in _container_requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    total = _sum([total, as_resources(spec.get("overhead"))])
    total["pods"] = Decimal(1)
    return total


def _container_requests(container: Mapping[str, Any]) -> Resources:
    resources = container.get("resources") or {}
    return as_resources(resources.get("limits")) | as_resources(resources.get("requests"))


def _sum(many: Iterable[Resources]) -> Resources:
    total: Resources = {}
    for resources in many:
        for name, amount in resources.items():
            total[name] = total.get(name, Decimal(0)) + amount
    return total


def total_requested(pods: Iterable[Mapping[str, Any]]) -> Resources:
    """Return what several pods ask for together."""
    return _sum(requested(pod) for pod in pods)
