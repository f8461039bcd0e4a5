"""The isolator that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avatar_pipeline.voice.isolation.manifest import InvalidModel, WeightsManifest, read_manifest
from avatar_pipeline.voice.isolation.types import VoiceIsolator

if TYPE_CHECKING:
    from avatar_pipeline.settings import Settings


def open_isolator(settings: Settings) -> VoiceIsolator:
    """Return the isolator of the settings; nothing heavy is loaded before it is used.

    Raises:
        InvalidModel: a model of the user's is wanted, and its manifest is missing or cannot be used.
    """
    if settings.isolation == "dsp":
        from avatar_pipeline.voice.isolation.dsp import DspIsolator

        return DspIsolator()
    from avatar_pipeline.voice.isolation.neural import NeuralIsolator

    if settings.isolation == "neural":
        return NeuralIsolator(device=settings.isolation_device)
    path = settings.isolation_model
    if path is None:
        raise InvalidModel(
            "AVATAR_ISOLATION is 'model', and AVATAR_ISOLATION_MODEL is not set.",
            remedy="Set it to the path of the model's manifest; docs/isolation.md describes it.",
        )
    manifest = read_manifest(path)
    if isinstance(manifest, WeightsManifest):
        return NeuralIsolator(path, device=settings.isolation_device)
    from avatar_pipeline.voice.isolation.user_model import ProgramIsolator

    return ProgramIsolator(path, manifest, device=settings.isolation_device)
