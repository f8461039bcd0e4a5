"""Reading content credentials back: whether the file is as it was signed, by whom, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.provenance.certificate import TEST_ORGANIZATION
from avatar_pipeline.provenance.claim import ORIGIN

INVALID = "Invalid"
_UNTRUSTED = "signingCredential.untrusted"
_SETTINGS: dict[str, Any] = {
    # A stranger's file may name addresses; none is asked.
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {"allowed_network_hosts": []},
}


@dataclass(frozen=True, slots=True)
class ContentCredentials:
    """What a file's credentials come to.

    `state` is C2PA's: 'Invalid', 'Valid' (as it was signed, by somebody whom this machine does not know) or 'Trusted'.
    `problems` are C2PA's codes of what was found wrong. `origin` is our own assertion, empty in others' files.
    """

    state: str
    signer: str
    signed_at: str | None
    source_types: tuple[str, ...]
    origin: Mapping[str, str]
    problems: tuple[str, ...]

    @property
    def is_test(self) -> bool:
        """Whether a test certificate signed it, which proves nothing to anybody else."""
        return self.signer == TEST_ORGANIZATION

    @property
    def told(self) -> str:
        """The state in words."""
        if self.state == INVALID:
            return f"Invalid: changed after it was signed, or not signed as it should be ({', '.join(self.problems)})"
        if self.is_test:
            return "Valid, signed with a test certificate"
        return f"{self.state}, signed by {self.signer}" + (" (not known here)" if _UNTRUSTED in self.problems else "")


def read_credentials(path: Path) -> ContentCredentials | None:
    """Return what the credentials of a file come to; None if it has none. Nothing is fetched.

    Raises:
        InvalidMedia: the file cannot be read, or is of no kind that may hold credentials.
    """
    import c2pa

    if not path.is_file():
        raise InvalidMedia(f"{path} is not there, or is no file.", remedy="Give the path of a clip or a sound file.")
    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Reader(str(path), context=context) as reader,
        ):
            return _parse(json.loads(reader.json()))
    except c2pa.C2paError.ManifestNotFound:
        return None
    except (c2pa.C2paError, AttributeError, KeyError, TypeError, ValueError) as error:
        # A stranger's assertions may have our labels, and any form.
        raise InvalidMedia(
            f"{path.name}: its content credentials cannot be read ({str(error)[:200]}).",
            remedy="Give an MP4, WAV or JPEG file that is whole.",
        ) from error


def _parse(document: Mapping[str, Any]) -> ContentCredentials:
    manifest = document.get("manifests", {}).get(document.get("active_manifest"), {})
    assertions = {entry["label"]: entry["data"] for entry in manifest.get("assertions", [])}
    actions = [
        action
        for label, data in assertions.items()
        if label.startswith("c2pa.actions")
        for action in data.get("actions", [])
    ]
    signature = manifest.get("signature_info", {})
    return ContentCredentials(
        state=str(document.get("validation_state", INVALID)),
        signer=str(signature.get("issuer") or signature.get("common_name") or "nobody"),
        signed_at=signature.get("time"),
        source_types=tuple(str(action["digitalSourceType"]) for action in actions if "digitalSourceType" in action),
        origin={str(name): str(value) for name, value in assertions.get(ORIGIN, {}).items()},
        problems=tuple(dict.fromkeys(str(status["code"]) for status in document.get("validation_status", []))),
    )
