"""The network with its weights: those of the package, or a user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avatar_pipeline.voice.isolation.manifest import InvalidModel, WeightsManifest, read_model

if TYPE_CHECKING:
    from avatar_pipeline.voice.isolation.network import IsolationNetwork


def load_network(path: Path, manifest: WeightsManifest) -> IsolationNetwork:
    """Return the network of the manifest at `path`, ready to be used.

    Raises:
        InvalidModel: the file is missing, is another one, is not safetensors, or holds another network's weights.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from avatar_pipeline.voice.isolation.network import IsolationNetwork

    data = read_model(path, manifest)
    network = IsolationNetwork(**manifest.shape.model_dump())
    try:
        weights = load(data)
        network.load_state_dict({name: value.to(torch.float32) for name, value in weights.items()})
    except SafetensorError as error:
        raise InvalidModel(
            f"{manifest.file} is not a safetensors file: {error}.", remedy="Save the weights with safetensors."
        ) from error
    except RuntimeError as error:
        what = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
        raise InvalidModel(
            f"{manifest.file} holds the weights of another network than {manifest.architecture} with "
            f"{manifest.shape.channels} channels, {manifest.shape.hidden} hidden and {manifest.shape.blocks} blocks: "
            f"{what[:200]}",
            remedy="Correct `shape` in the manifest, or export the model as .pt2.",
        ) from error
    network.eval()
    network.requires_grad_(False)
    return network
