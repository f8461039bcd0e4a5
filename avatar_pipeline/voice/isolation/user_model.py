"""A model of the user's as a `VoiceIsolator`: a program made with `torch.export`, and its manifest."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_pipeline.voice.isolation.chunks import OverlappingSegments
from avatar_pipeline.voice.isolation.devices import Device, choose_device
from avatar_pipeline.voice.isolation.flow import through
from avatar_pipeline.voice.isolation.manifest import InvalidModel, ProgramManifest, read_model
from avatar_pipeline.voice.isolation.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from avatar_pipeline.media.types import Audio
    from avatar_pipeline.voice.isolation.types import Progress

_log = logging.getLogger(__name__)

Program = Callable[["Tensor"], Any]


class ProgramIsolator:
    """Runs a program of the user's segment by segment, and keeps one of its stems.

    Args:
        path: where the manifest lies; the program lies beside it.
        manifest: what was read there.
        device: where the program runs.
    """

    name = "model"

    def __init__(self, path: Path, manifest: ProgramManifest, *, device: Device = "auto") -> None:
        self._path, self._manifest, self._device = path, manifest, device
        self._program: Any = None

    @property
    def fingerprint(self) -> str:
        """Hash of the program, and what of the manifest changes the result."""
        m = self._manifest
        return f"model-1-{m.sha256[:16]}-{m.sample_rate}-{m.channels}-{m.stem}-{m.segment:g}-{m.overlap:g}"

    def isolate(self, audio: Audio, progress: Progress | None = None) -> Audio:
        """Return the voice: same rate, same length, no delay.

        Raises:
            InvalidModel: the file is missing, is another one, cannot be loaded, or is not what its manifest says.
            EnvironmentProblem: a GPU is wanted, and there is none.
        """
        if len(audio.samples) == 0:
            return audio
        m = self._manifest
        segment = max(1, round(m.segment * m.sample_rate))
        step = max(1, round(segment * (1 - m.overlap)))
        with one_thread():
            run = Segments(self._loaded, m, choose_device(self._device))
            stream = OverlappingSegments(run, segment=segment, step=step)
            return through(stream, audio, rate=m.sample_rate, block=segment, progress=progress)

    def _loaded(self, device: str) -> Program:
        if self._program is None:
            self._program = load_program(self._path, self._manifest)
        if device == "cpu":
            return self._program.module()  # type: ignore[no-any-return]
        from torch.export.passes import move_to_device_pass

        return move_to_device_pass(self._program, device).module()


class Segments:
    """One segment through the program: channels in, one stem out, mono again. Out of GPU memory, the CPU goes on."""

    def __init__(self, load: Callable[[str], Program], manifest: ProgramManifest, device: str) -> None:
        self._load, self._manifest, self.device = load, manifest, device
        self._program = load(device)

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the stem of one segment.

        Raises:
            InvalidModel: what comes out is not what the manifest says.
        """
        import torch

        given = torch.from_numpy(samples.copy()).expand(1, self._manifest.channels, -1).contiguous()
        try:
            with torch.inference_mode():
                found = self._program(given.to(self.device))
        except torch.cuda.OutOfMemoryError:
            if self.device == "cpu":
                raise
            _log.warning("The GPU has no memory for a segment of the model: going on on the CPU.")
            self.device = "cpu"
            self._program = self._load("cpu")
            torch.cuda.empty_cache()
            return self(samples)
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            raise self._unlike(f"does not take (1, {self._manifest.channels}, {len(samples)}): {error}") from error
        return self._stem(found, len(samples))

    def _stem(self, found: Any, count: int) -> NDArray[np.float32]:
        import torch

        m = self._manifest
        wanted = (1, len(m.stems), m.channels, count)
        if not isinstance(found, torch.Tensor):
            raise self._unlike(f"gives {type(found).__name__}, not a tensor {wanted}")
        shape = tuple(found.shape)
        taken: list[tuple[int, ...]] = [wanted]
        if m.channels == 1:
            taken.append((1, len(m.stems), count))
        if len(m.stems) == 1:
            taken.append((1, m.channels, count))
        if shape not in taken:
            raise self._unlike(f"gives {shape}, not {wanted}")
        stem = found.reshape(wanted)[0, m.stems.index(m.stem)].float().mean(dim=0).cpu().numpy()
        return np.asarray(stem, np.float32)

    def _unlike(self, what: str) -> InvalidModel:
        return InvalidModel(
            f"The program {self._manifest.file} {what[:300]}.",
            remedy="Correct channels, stems, segment or sample_rate in its manifest.",
        )


def load_program(path: Path, manifest: ProgramManifest) -> Any:
    """Return the exported program of the manifest at `path`.

    Raises:
        InvalidModel: the file is missing, is another one, holds what is refused, or cannot be loaded.
    """
    import torch

    from avatar_pipeline.voice.isolation.program import clean_archive

    clean = clean_archive(read_model(path, manifest), manifest.file)
    try:
        return torch.export.load(io.BytesIO(clean))
    except Exception as error:  # torch raises whatever its reader stumbles on
        raise InvalidModel(
            f"{manifest.file} cannot be loaded by torch {torch.__version__}: {type(error).__name__}: "
            f"{str(error)[:200]}.",
            remedy="Export the model with the torch version that is installed here.",
        ) from error
