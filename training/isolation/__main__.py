"""`python -m training.isolation --steps N --out FOLDER`: train the network that isolates voices.

Reads `train/speech` and `train/noise` in the folder that `AVATAR_EVAL_DATA` names; see the README beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from training.isolation.recipe import Mixer, load_corpus
from training.isolation.train import Plan, Trainer


def main(arguments: list[str]) -> int:
    """Train to the end, or on from the last checkpoint in the folder; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.isolation", description=__doc__)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    folder = os.environ.get("AVATAR_EVAL_DATA")
    if not folder:
        print("Set AVATAR_EVAL_DATA to the folder that holds train/speech and train/noise.", file=sys.stderr)
        return 2
    if options.threads:
        torch.set_num_threads(options.threads)
    corpus = load_corpus(Path(folder) / "train", options.seed)
    plan = Plan(steps=options.steps, batch=options.batch, rate=options.rate)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "run.json").write_text(json.dumps(_recipe(options, corpus.hashes), indent=1) + "\n")
    trainer = Trainer(plan, Mixer(corpus, options.seed), options.out, seed=options.seed, device=options.device)
    trainer.run(lambda text: print(text, flush=True))
    return 0


def _recipe(options: argparse.Namespace, hashes: dict[str, str]) -> dict[str, Any]:
    command = f"python -m training.isolation --steps {options.steps} --batch {options.batch} --rate {options.rate:g}"
    return {
        "command": f"{command} --seed {options.seed} --threads {options.threads}",
        "seed": options.seed,
        "data": hashes,
        "torch": torch.__version__,
        "device": options.device,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
