"""The JSON Schemas of requests and consents, for whoever produces them.

`python -m avatar_pipeline.queues.schemas FOLDER` writes them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.ledger.records import RequestKind
from avatar_pipeline.queues.parse import MODELS
from avatar_pipeline.voice.text import MAX_CHARACTERS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_SLUG = "^[a-z0-9][a-z0-9-]{1,62}$"


def schemas() -> dict[str, str]:
    """Return the text of each schema, by the name of its file."""
    found = {f"{kind}-request.v1.schema.json": _request_schema(kind) for kind in MODELS}
    found["consent.v1.schema.json"] = _consent_schema()
    return {
        name: json.dumps({"$schema": _DIALECT, "$id": name} | schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in found.items()
    }


def _consent_schema() -> dict[str, Any]:
    schema = ConsentRecord.model_json_schema()
    # What a validator checks in code: a recording is known by its hash.
    schema["dependentRequired"] = {"recording": ["evidence_sha256"]}
    return schema


def _request_schema(kind: RequestKind) -> dict[str, Any]:
    schema = MODELS[kind].model_json_schema()
    fields = schema["properties"]
    # What validators check in code, as far as a schema can say it. An id's empty default stands for "made of the
    # content", which it cannot.
    fields["request_id"].pop("default", None)
    for name in ("request_id", "avatar_id", "tenant"):
        fields[name]["pattern"] = _SLUG
    for name in fields.keys() & {"text", "greeting"}:
        fields[name] |= {"minLength": 1, "maxLength": MAX_CHARACTERS}
    return schema


def export(folder: Path) -> list[Path]:
    """Write the schemas into `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")
        paths.append(folder / name)
    return paths


def main(arguments: Sequence[str]) -> int:
    """Export to the folder that is the only argument; return the exit code."""
    if len(arguments) != 1:
        problem = InvalidInput(
            f"{len(arguments)} arguments were given, and one is needed.",
            remedy="Call: python -m avatar_pipeline.queues.schemas docs/schemas",
        )
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    for path in export(Path(arguments[0])):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
