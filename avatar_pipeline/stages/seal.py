"""The last step of every output: content credentials that say it is synthetic, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import Artifact, Slot
from avatar_pipeline.store.keys import Json


def seal_speech(line: Line, path: Path, avatar_id: str, key: str, *, params: Mapping[str, Json], voice: str) -> None:
    """Sign a finished `speech.wav`. `key` and `params` are those of its artifact, `voice` the voice model's key.

    Raises:
        EnvironmentProblem: the certificate cannot be used, or signing failed.
    """
    enrols = line.ledger.avatar(avatar_id).enrols
    _seal(line, path, avatar_id, key, params=params, voice=voice, is_somebodys=enrols)


def seal_clip(line: Line, path: Path, avatar_id: str, key: str, speech: Artifact) -> None:
    """Sign a finished clip. `key` is that of its artifact, `speech` what is said in it.

    Raises:
        EnvironmentProblem: the certificate cannot be used, or signing failed.
    """
    voice = speech.inputs["voice_model"]
    _seal(line, path, avatar_id, key, params=speech.params, voice=voice, is_somebodys=True)


def _seal(
    line: Line, path: Path, avatar_id: str, key: str, *, params: Mapping[str, Json], voice: str, is_somebodys: bool
) -> None:
    from avatar_pipeline.provenance import Claim, sign

    model = line.store.find(Slot.avatar(avatar_id, "voice_model"), voice)
    claim = Claim(
        title=path.name,
        artifact_key=key,
        text=str(params["text"]),
        provider=str(params["provider"]),
        voice_label="" if model is None else str(model.facts.get("label", "")),
        voice_key=voice,
        consent_id=line.ledger.avatar(avatar_id).consent.consent_id if is_somebodys else None,
    )
    sign(path, claim, line.settings)
