"""The manifest beside a model file: what it is, what it takes, and the hash by which it is known."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from avatar_pipeline.errors import InvalidInput

SHIPPED = Path(__file__).parent / "weights" / "voice.json"
"""The manifest of the weights that come with the package."""
_LARGEST_MANIFEST = 1 << 20


class InvalidModel(InvalidInput):
    """A model of the user's, or its manifest, cannot be used."""

    code = "invalid_model"


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=200)
    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", description="Name of the file beside the manifest.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str = ""
    attribution: str = ""


class Shape(BaseModel):
    """The numbers that `IsolationNetwork` is made with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int = Field(ge=1, le=1024)
    hidden: int = Field(ge=1, le=1024)
    blocks: int = Field(ge=1, le=64)


class Training(BaseModel):
    """How weights came to be, so that they can be made again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    seed: int
    data: dict[str, str] = {}
    """What it was trained on, by name, with a hash over the files."""
    torch: str = ""
    device: str = ""
    loss: tuple[tuple[int, float], ...] = ()
    """The learning curve: the mean loss of the 50 steps before this one."""
    scores: dict[str, Any] = {}


class WeightsManifest(_Manifest):
    """Weights for the network that this package knows, as safetensors."""

    format: Literal["safetensors"]
    architecture: Literal["isolation-network"]
    shape: Shape
    sample_rate: Literal[16_000] = 16_000
    channels: Literal[1] = 1
    stems: tuple[Literal["voice"]] = ("voice",)
    stem: Literal["voice"] = "voice"
    training: Training | None = None


class ProgramManifest(_Manifest):
    """A program made with `torch.export`: (1, channels, samples) of one segment in, stems out."""

    format: Literal["pt2"]
    sample_rate: int = Field(ge=8_000, le=192_000)
    channels: int = Field(ge=1, le=2)
    stems: tuple[str, ...] = Field(min_length=1, max_length=32)
    stem: str
    segment: float = Field(gt=0, le=120, description="Seconds that the program takes at once.")
    overlap: float = Field(ge=0, le=0.9, description="Share of a segment that the next one hears again.")

    @model_validator(mode="after")
    def _check(self) -> ProgramManifest:
        if self.stem not in self.stems:
            raise ValueError(f"stem: {self.stem!r} is not among the stems {list(self.stems)}")
        if round(self.segment * self.sample_rate * (1 - self.overlap)) < 1:
            raise ValueError("segment: shorter than a sample")
        return self


Manifest = WeightsManifest | ProgramManifest
_ANY: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="format")])


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        InvalidModel: there is none, it is not JSON, or a field cannot be used; the message names it.
    """
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST_MANIFEST))
        return _ANY.validate_python(found)
    except OSError as error:
        raise InvalidModel(
            f"The model manifest {path} cannot be read: {error.strerror}.",
            remedy="AVATAR_ISOLATION_MODEL is the path of a .json file; see docs/isolation.md.",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part not in {"safetensors", "pt2"})
        raise InvalidModel(
            f"The model manifest {path.name} cannot be used: {where + ': ' if where else ''}{first['msg']}.",
            remedy="docs/isolation.md describes its fields.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidModel(
            f"The model manifest {path.name} is not JSON.", remedy="docs/isolation.md describes its fields."
        ) from error


def read_model(path: Path, manifest: Manifest) -> bytes:
    """Return the bytes of the file that the manifest at `path` is about, checked against its hash.

    Raises:
        InvalidModel: the file is missing, or it is another one.
    """
    file = path.parent / manifest.file
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidModel(
            f"The model file {file} cannot be read: {error.strerror}.",
            remedy=f"Put {manifest.file} beside its manifest {path.name}.",
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.sha256:
        raise InvalidModel(
            f"The model file {manifest.file} has the sha256 {found}, and not {manifest.sha256} as its manifest says.",
            remedy="Get the file again from where it came from; if it is the right one, correct the manifest.",
        )
    return data
