"""`python -m training.isolation.publish RUN --pairs DIR`: score a run's weights and put them into the package.

RUN is the folder that `python -m training.isolation --out RUN` wrote; DIR holds `clean/` and `noisy/`. The manifest
says what the weights were made from, how, and how well they did on the pairs, in the words of
`benchmarks.voice_isolation`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.voice.isolation import weights
from benchmarks.isolation_methods import measure_all, read_pairs
from benchmarks.voice_isolation import row_of

SHIPPED = Path(weights.__file__).parent / "weights"
ATTRIBUTION = (
    "Trained on LibriSpeech (V. Panayotov, G. Chen, D. Povey, S. Khudanpur 2015), CC BY 4.0, and on a recording from "
    "pyroomacoustics (R. Scheibler, E. Bezzam, I. Dokmanic 2018), CC BY 4.0"
)


def main(arguments: list[str]) -> int:
    """Copy the weights, score what the product then does, and write both into the manifest; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.isolation.publish", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    options = parser.parse_args(arguments)
    recipe = json.loads((options.run / "run.json").read_text())
    log = [json.loads(line) for line in (options.run / "log.jsonl").read_text().splitlines()]
    manifest = manifest_of((options.run / "weights.safetensors").read_bytes(), recipe, log)
    with atomic_file(SHIPPED / "voice.safetensors") as path:
        shutil.copyfile(options.run / "weights.safetensors", path)
    _write(manifest)
    found, _ = measure_all(read_pairs(options.pairs), {}, lambda *_: None)
    rows = [row_of(method, scores, found["noisy"]) for method, scores in found.items()]
    kept = ("method", "pesq", "estoi", "sisdr", "rtf", "pairs", "gain", "estoi_fell")
    manifest["training"]["scores"] = {row["method"]: {name: row[name] for name in kept[1:]} for row in rows}
    _write(manifest)
    print(json.dumps(manifest["training"]["scores"], indent=1))
    return 0


def manifest_of(data: bytes, recipe: dict[str, Any], log: list[dict[str, float]]) -> dict[str, Any]:
    """Return the manifest of weights, without scores; of the loss, every tenth entry is kept."""
    return {
        "version": 1,
        "name": "Voice isolation network",
        "format": "safetensors",
        "file": "voice.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "architecture": "isolation-network",
        "shape": {"channels": 40, "hidden": 48, "blocks": 3},
        "sample_rate": 16000,
        "licence": "Apache-2.0",
        "attribution": ATTRIBUTION,
        "training": recipe | {"loss": [[int(entry["step"]), entry["loss"]] for entry in log[9::10]], "scores": {}},
    }


def _write(manifest: dict[str, Any]) -> None:
    with atomic_file(SHIPPED / "voice.json") as path:
        path.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
