"""Models of a user's own, made on the spot."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from avatar_pipeline.voice.isolation.manifest import ProgramManifest, read_manifest
from avatar_pipeline.voice.isolation.user_model import ProgramIsolator


class HighAndLow(torch.nn.Module):
    """Two stems: a smoothed signal, and what is left of it; they add up to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth = torch.nn.Parameter(torch.full((2, 1, 9), 1 / 9))

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        low = torch.nn.functional.conv1d(mixture, self.smooth, padding=4, groups=2)
        return torch.stack([mixture - low, low], dim=1)


def write_program(folder: Path, module: torch.nn.Module | None = None, *, dynamic: bool = False, **fields: Any) -> Path:
    """Export a model at 16 kHz with segments of a quarter of a second; return the path of its manifest."""
    module = (module or HighAndLow()).eval()
    example = torch.zeros(1, fields.get("channels", 2), 4000)
    shapes = ({2: torch.export.Dim("time", min=64, max=1_000_000)},) if dynamic else None
    file = folder / "model.pt2"
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), file)
    return write_manifest(folder, file, **fields)


def write_manifest(folder: Path, file: Path, /, **fields: Any) -> Path:
    """Write a manifest that is right for `HighAndLow`, but for `fields`; None leaves a field out."""
    manifest: dict[str, Any] = {
        "name": "High and low",
        "format": "pt2",
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "sample_rate": 16_000,
        "channels": 2,
        "stems": ["high", "low"],
        "stem": "low",
        "segment": 0.25,
        "overlap": 0.25,
    }
    manifest = {key: value for key, value in (manifest | fields).items() if value is not None}
    path = folder / "model.json"
    path.write_text(json.dumps(manifest))
    return path


def program_isolator(folder: Path, **fields: Any) -> ProgramIsolator:
    """Make the model, and the isolator that runs it."""
    path = write_program(folder, **fields)
    manifest = read_manifest(path)
    assert isinstance(manifest, ProgramManifest)
    return ProgramIsolator(path, manifest, device="cpu")
