"""`visemes.json` beside a clip: what a mesh needs to say the same as the clip, in a browser or elsewhere.

docs/visemes.md describes it, docs/schemas/visemes.v1.schema.json is its schema:
`python -m avatar_pipeline.voice.viseme_file FOLDER` writes it there.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from avatar_pipeline.errors import InvalidInput

if TYPE_CHECKING:
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray

    from avatar_pipeline.voice.types import Viseme

SCHEMA_NAME = "visemes.v1.schema.json"
DECIMALS = 3
"""A millisecond, a thousandth of a weight, a thousandth of a degree."""
OCULUS = Literal["sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U"]

Weight = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Degrees = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimedViseme(_Part):
    """One mouth shape and when it is shown, in seconds from the start of the sound."""

    name: OCULUS
    start: float = Field(ge=0, allow_inf_nan=False)
    end: float = Field(ge=0, allow_inf_nan=False)


class Style(_Part):
    """What the jaw's and the lips' movement were multiplied by; 1 is as usual."""

    jaw: float = Field(ge=0, le=2)
    lips: float = Field(ge=0, le=2)


class Curves(_Part):
    """One value a frame and curve. Animate a mesh with `visemes` or with `arkit`, not with both."""

    visemes: dict[OCULUS, tuple[Weight, ...]] = Field(
        description="Weights of the 15 Oculus visemes. A frame's sum is 1, or up to 1.15 in loud syllables. "
        "The style's gains are not in them."
    )
    arkit: dict[str, tuple[Weight, ...]] = Field(
        description="The same mouth as weights of ARKit shapes, with the style's gains. Shapes that stay at 0 are left "
        "out."
    )


class Motion(_Part):
    """What else the head does: for meshes. The clip itself shows the blinks and turns of the footage instead."""

    eyes: dict[str, tuple[Weight, ...]] = Field(
        description="Weights of ARKit's eyeBlink and eyeLook shapes. Those that stay at 0 are left out."
    )
    head: dict[Literal["headYaw", "headPitch", "headRoll"], tuple[Degrees, ...]] = Field(
        description="Turns from the head's pose in degrees: yaw > 0 to the subject's left, pitch > 0 up, roll > 0 "
        "towards the subject's right shoulder."
    )


class VisemeFile(_Part):
    """The content of `visemes.json`. Frame i is at i / fps seconds; every curve has `frames` values."""

    version: Literal[1] = 1
    seconds: float = Field(ge=0, allow_inf_nan=False, description="Length of the sound.")
    fps: float = Field(gt=0, allow_inf_nan=False)
    frames: int = Field(ge=0)
    style: Style
    visemes: tuple[TimedViseme, ...] = Field(description="Without gaps or overlaps; neighbours differ.")
    curves: Curves
    motion: Motion

    @model_validator(mode="after")
    def _all_curves_are_as_long_as_the_clip(self) -> Self:
        for name, curve in self.all_curves().items():
            if len(curve) != self.frames:
                raise ValueError(f"the curve {name} has {len(curve)} values for {self.frames} frames")
        return self

    def all_curves(self) -> dict[str, tuple[float, ...]]:
        """Return every curve by its name, visemes as 'viseme_aa'."""
        shapes: dict[str, tuple[float, ...]] = {f"viseme_{name}": curve for name, curve in self.curves.visemes.items()}
        return shapes | self.curves.arkit | self.motion.eyes | {str(k): v for k, v in self.motion.head.items()}


def make_viseme_file(
    visemes: Sequence[Viseme],
    curves: NDArray[np.float32],
    arkit: Mapping[str, NDArray[np.float64]],
    motion: Mapping[str, NDArray[np.float64]],
    *,
    seconds: float,
    fps: Fraction | float,
    jaw: float = 1.0,
    lips: float = 1.0,
) -> VisemeFile:
    """Put the parts together, rounded to three decimals.

    Args:
        visemes: what `to_visemes` gave.
        curves: (T, 15) as from `viseme_curves`.
        arkit: curves (T,) by ARKit name.
        motion: curves (T,) by name, those that begin with 'head' in degrees.
        seconds: length of the sound.
        fps: frames a second of all curves.
        jaw: gain of the jaw that is in `arkit`.
        lips: gain of the lips that is in `arkit`.
    """
    from avatar_pipeline.voice.visemes import VISEMES

    head = {name: _rounded(curve) for name, curve in motion.items() if name.startswith("head")}
    eyes = {name: _rounded(curve) for name, curve in motion.items() if name.startswith("eye") and curve.any()}
    return VisemeFile.model_validate(
        {
            "seconds": round(seconds, DECIMALS),
            "fps": round(float(fps), 6),
            "frames": len(curves),
            "style": {"jaw": jaw, "lips": lips},
            "visemes": _timed(visemes),
            "curves": {
                "visemes": {name: _rounded(curves[:, index]) for index, name in enumerate(VISEMES)},
                "arkit": {name: _rounded(curve) for name, curve in arkit.items()},
            },
            "motion": {"eyes": eyes, "head": head},
        }
    )


def _timed(visemes: Sequence[Viseme]) -> list[dict[str, Any]]:
    return [
        {"name": viseme.name, "start": round(viseme.start, DECIMALS), "end": round(viseme.end, DECIMALS)}
        for viseme in visemes
    ]


def _rounded(curve: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    # + 0.0 makes of -0.0 what it is
    return tuple(round(float(value), DECIMALS) + 0.0 for value in curve)


def write_viseme_file(path: Path, file: VisemeFile) -> None:
    """Write the file, whole or not at all, without a space too many. Same input, same bytes."""
    from avatar_pipeline.store.atomic import atomic_file

    text = json.dumps(_short(file.model_dump()), separators=(",", ":"))
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _short(value: Any) -> Any:
    """Write whole numbers without '.0': most weights are 0."""
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return int(value) if isinstance(value, float) and value == math.floor(value) else value


def read_viseme_file(path: Path) -> VisemeFile:
    """Read a `visemes.json`.

    Raises:
        InvalidInput: it cannot be read or is no such file; the message names the field.
    """
    remedy = "Render the clip again to write it anew."
    try:
        return VisemeFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", remedy=remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidInput(f"{path} is not a visemes file: {field}: {first['msg']}.", remedy=remedy) from error


def schema_text() -> str:
    """Return the JSON Schema of the file."""
    schema = VisemeFile.model_json_schema()
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_NAME}
    return json.dumps(dialect | schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the schema into the folder that is the only argument; return the exit code."""
    if len(arguments) != 1:
        problem = InvalidInput(
            f"{len(arguments)} arguments were given, and one is needed.",
            remedy="Call: python -m avatar_pipeline.voice.viseme_file docs/schemas",
        )
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    path = Path(arguments[0]) / SCHEMA_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema_text(), encoding="utf-8")
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
