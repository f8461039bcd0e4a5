"""Signing a finished file: the very last step, for whatever is changed afterwards breaks the seal."""

from __future__ import annotations

import importlib.metadata
import json
import mmap
from datetime import datetime
from pathlib import Path
from typing import Any

from avatar_pipeline.clock import utc_now
from avatar_pipeline.errors import EnvironmentProblem, InvalidInput
from avatar_pipeline.provenance.certificate import Credentials, open_credentials
from avatar_pipeline.provenance.claim import Claim
from avatar_pipeline.provenance.jumbf import settle_salts
from avatar_pipeline.provenance.reading import INVALID, read_credentials
from avatar_pipeline.settings import Settings
from avatar_pipeline.store.atomic import atomic_file

FORMATS = {".mp4": "video/mp4", ".wav": "audio/wav", ".jpg": "image/jpeg"}
"""What we sign, by suffix. C2PA has no place in a GLB, and JSON needs none."""
_SETTINGS: dict[str, Any] = {
    # No picture inside: the file is a picture. And nothing is fetched: the only address that may be asked is the time
    # stamp authority's, where one is set.
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}


def sign(path: Path, claim: Claim, settings: Settings, *, now: datetime | None = None) -> None:
    """Write content credentials into a finished file, in place and at once, and read them back.

    The same file, claim and certificate give the same bytes, unless a time stamp authority is set or the key is RSA.

    Raises:
        InvalidInput: it is no MP4, WAV or JPEG file.
        EnvironmentProblem: the certificate cannot be used, or signing failed; the file is as it was.
    """
    if path.suffix not in FORMATS:
        raise InvalidInput(f"{path.name} cannot hold content credentials.", remedy=f"Sign {', '.join(FORMATS)} files.")
    credentials = open_credentials(settings, now or utc_now())
    with atomic_file(path) as temporary:
        _embed(path, temporary, claim, credentials, settings.c2pa_timestamp_url)
        found = read_credentials(temporary)
        if found is None or found.state == INVALID:
            raise EnvironmentProblem(
                f"{path.name} was signed and does not verify: {', '.join(found.problems) if found else 'not there'}.",
                remedy="See docs/provenance.md for what a certificate must hold.",
            )


def _embed(source: Path, target: Path, claim: Claim, credentials: Credentials, timestamp_url: str | None) -> None:
    import c2pa

    done: dict[str, bytes] = {}

    def signed(data: bytes) -> bytes:
        done["data"], done["signature"] = data, credentials.sign(data)
        return done["signature"]

    try:
        algorithm = c2pa.C2paSigningAlg[credentials.algorithm.upper()]
        signer = c2pa.Signer.from_callback(signed, algorithm, credentials.chain, timestamp_url)
        manifest = json.dumps(claim.manifest(importlib.metadata.version("avatar-pipeline")))
        with (
            signer,
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Builder(manifest, context) as builder,
            source.open("rb") as before,
            target.open("w+b") as after,
        ):
            embedded = builder.sign(signer, FORMATS[source.suffix], before, after)
    except c2pa.C2paError as error:
        raise EnvironmentProblem(
            f"Content credentials of {source.name} cannot be signed: {str(error)[:200]}.",
            remedy="See docs/provenance.md for what a certificate must hold, and whether the time stamp URL answers.",
        ) from error
    if credentials.reproducible and timestamp_url is None:
        settled = settle_salts(embedded, done["data"], done["signature"], claim.artifact_key, credentials.sign)
        if settled is not None:
            _replace(target, embedded, settled)


def _replace(path: Path, before: bytes, after: bytes) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = content.find(before)
        if place >= 0:
            content[place : place + len(after)] = after
