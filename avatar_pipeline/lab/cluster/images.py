"""Pulling images: how long it takes, and which cannot be pulled just now."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.cluster.settings import Image

REASONS = ("ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


@dataclass(slots=True)
class Images:
    """What the registry answers. Patterns are those of the shell (`avatar:*`); the newest that fits counts."""

    known: Mapping[str, Image]
    _failing: dict[str, str] = field(default_factory=dict)
    _delays: dict[str, float] = field(default_factory=dict)

    def get(self, name: str) -> Image:
        """Return what an image stands for; any name stands for something."""
        return self.known.get(name) or Image()

    def fail(self, pattern: str, reason: str) -> None:
        """Let pulls of images fail. Raises InvalidInput for a reason that no kubelet gives."""
        if reason not in REASONS:
            raise InvalidInput(f"No pull fails with {reason!r}.", remedy=f"Reasons are {', '.join(REASONS)}.")
        self.mend(pattern)  # so that it is the newest
        self._failing[pattern] = reason

    def mend(self, pattern: str | None) -> None:
        """Let pulls succeed again: those of one pattern, or all."""
        self._failing = {each: reason for each, reason in self._failing.items() if pattern not in (None, each)}

    def delay(self, pattern: str, seconds: float) -> None:
        """Let containers of images be ContainerCreating for a time."""
        self._delays.pop(pattern, None)  # so that it is the newest
        self._delays[pattern] = seconds

    def problem(self, name: str) -> str | None:
        """Return why an image cannot be pulled now, or None."""
        reasons = [reason for pattern, reason in self._failing.items() if fnmatch.fnmatch(name, pattern)]
        return reasons[-1] if reasons else None

    def seconds(self, name: str) -> float:
        """Return how long a container of an image is ContainerCreating."""
        delays = [seconds for pattern, seconds in self._delays.items() if fnmatch.fnmatch(name, pattern)]
        return delays[-1] if delays else self.get(name).pull_seconds


def pull_message(name: str, reason: str) -> str:
    """Return the kubelet's message of a pull that failed."""
    if reason == "InvalidImageName":
        return (
            f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": invalid reference format'
        )
    if reason == "ErrImageNeverPull":
        return f'Container image "{name}" is not present with pull policy of Never'
    if reason == "RegistryUnavailable":
        return f"image pull failed for {name} because the registry is unavailable"
    return f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {name}: not found'
