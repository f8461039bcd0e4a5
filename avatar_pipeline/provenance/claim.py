"""What the content credentials of an output say: that it is synthetic, and what it was made from, by hashes."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Media made by a model that was trained on other media: https://cv.iptc.org/newscodes/digitalsourcetype/"""
ORIGIN = "org.avatar-pipeline.origin"
"""Label of our own assertion."""
GENERATOR = "avatar_pipeline"


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of one file. No name of a person or an avatar, and no text, goes into the file: hashes only.

    `artifact_key` is the content key of the artifact that the file belongs to, `voice_key` that of the voice model,
    `voice_label` what kind of voice it is, `consent_id` the record that covers it (None: a stock voice and no face).
    """

    title: str
    artifact_key: str
    text: str
    provider: str
    voice_label: str
    voice_key: str
    consent_id: str | None

    def manifest(self, version: str) -> dict[str, Any]:
        """Return the manifest's definition as c2pa takes it; `version` is this package's."""
        name = self._name()
        created = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": {"name": GENERATOR}}
        return {
            "label": f"urn:c2pa:{name}",
            "instance_id": f"xmp:iid:{name}",
            "claim_generator_info": [{"name": GENERATOR, "version": version}],
            "title": self.title,
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
                {"label": ORIGIN, "data": self._origin()},
            ],
        }

    def _name(self) -> uuid.UUID:
        """Return the same name for the same file of the same artifact: random ones would make every signing differ."""
        digest = hashlib.sha256(f"{self.artifact_key}/{self.title}".encode()).digest()
        return uuid.UUID(bytes=digest[:16], version=4)

    def _origin(self) -> dict[str, str]:
        origin = {
            "artifact": self.artifact_key,
            "text_sha256": _sha256(self.text),
            "voice_provider": self.provider,
            "voice_kind": self.voice_label,
            "voice_model": self.voice_key,
        }
        return origin if self.consent_id is None else origin | {"consent_id_sha256": _sha256(self.consent_id)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
