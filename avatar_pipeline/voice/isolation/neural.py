"""The network as a `VoiceIsolator`, with the weights of the package or a user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avatar_pipeline.voice.isolation.devices import Device, choose_device
from avatar_pipeline.voice.isolation.level import level_gain
from avatar_pipeline.voice.isolation.manifest import SHIPPED, InvalidModel, WeightsManifest, read_manifest
from avatar_pipeline.voice.isolation.threads import one_thread

if TYPE_CHECKING:
    from avatar_pipeline.media.types import Audio
    from avatar_pipeline.voice.isolation.masks import MaskMaker
    from avatar_pipeline.voice.isolation.network import IsolationNetwork
    from avatar_pipeline.voice.isolation.types import Progress

VERSION = "1"
OTHER_RATE = 48_000
"""Recordings at a rate that is no multiple of 8 kHz are brought to this one, and back."""


class NeuralIsolator:
    """Our network: steady and sudden noise, babble, hum, other sounds; not a second voice close by.

    Args:
        manifest: path of the manifest of other weights than those of the package.
        device: where the network runs.

    Raises:
        InvalidModel: the manifest cannot be used, or is not one of weights for this network.
    """

    def __init__(self, manifest: Path | None = None, *, device: Device = "auto") -> None:
        self._path = manifest or SHIPPED
        found = read_manifest(self._path)
        if not isinstance(found, WeightsManifest):
            raise InvalidModel(f"{self._path.name} is of a program, not of weights.", remedy="Use ProgramIsolator.")
        self._manifest = found
        self._device: Device = device
        self._network: IsolationNetwork | None = None
        self.name = "neural" if manifest is None else "model"

    @property
    def fingerprint(self) -> str:
        """Version of the method, and hash of the weights."""
        return f"neural-{VERSION}-{self._manifest.sha256[:16]}"

    @property
    def network(self) -> IsolationNetwork:
        """The network on the CPU, loaded when it is first wanted.

        Raises:
            InvalidModel: the file is missing, is another one, or holds another network's weights.
        """
        if self._network is None:
            from avatar_pipeline.voice.isolation.weights import load_network

            self._network = load_network(self._path, self._manifest)
        return self._network

    def isolate(self, audio: Audio, progress: Progress | None = None) -> Audio:
        """Return the voice: same rate, same length, no delay; on a CPU the same bytes every time.

        Raises:
            InvalidModel: the weights cannot be used.
            EnvironmentProblem: a GPU is wanted, and there is none.
        """
        if len(audio.samples) == 0:
            return audio
        from avatar_pipeline.voice.isolation.flow import through
        from avatar_pipeline.voice.isolation.stream import STEP, NeuralStream

        rate = audio.rate if audio.rate % STEP == 0 else OTHER_RATE
        with one_thread():
            masks = self._masks()
            stream = NeuralStream(masks, rate, gain=level_gain(audio))
            return through(stream, audio, rate=rate, block=masks.block * stream.hop, progress=progress)

    def _masks(self) -> MaskMaker:
        from avatar_pipeline.voice.isolation.masks import BatchedMasks, StatefulMasks, on_device

        if choose_device(self._device) == "cpu":
            return StatefulMasks(self.network)
        return BatchedMasks(on_device(self.network, "cuda"), on_device(self.network, "cpu"))
