"""How much nearer to the clean voice each isolation brings a noisy recording, and how long it takes.

    python -m benchmarks.voice_isolation [--pairs DIR] [--extra NAME=DIR] [--json]

DIR holds `clean/` and `noisy/` with files of the same names; without it, `audio/pairs` in the folder that
`AVATAR_EVAL_DATA` names. Methods: the noisy input as it is, RNNoise, the classical estimator (`dsp`), our network
(`neural`), and the outputs of any other system, in a folder with files of the same names (`--extra gtcrn=DIR`; where it
lacks some, its row is over those that it has). `rtf` is the seconds that one core works for a second of sound: one
thread, its processor time, over the isolation alone and once warmed up, so that other work on the machine counts for
nothing.

PESQ is wide-band (ITU-T P.862.2), ESTOI Jensen & Taal (2016), SI-SDR Le Roux et al. (2019), DNSMOS P.835 (Reddy et al.
2022), all at 16 kHz. DNSMOS knows no clean voice and likes what is over-suppressed: read it beside ESTOI and SI-SDR.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.isolation_methods import measure_all, read_pairs
from benchmarks.speech_metrics import Scores

COLUMNS = ("pesq", "estoi", "sisdr", "dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl")
WIDTH = 140


def main(arguments: list[str]) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, metavar="DIR")
    parser.add_argument("--extra", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, and nothing else")
    options = parser.parse_args(arguments)
    folder = options.pairs or default_folder()
    if folder is None:
        print("Give --pairs DIR, or set AVATAR_EVAL_DATA to the folder that holds audio/pairs.", file=sys.stderr)
        return 2
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else WIDTH)
    try:
        extras = dict(extra_of(text) for text in options.extra)
        pairs = read_pairs(folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    found, skipped = measure_all(pairs, extras, console.print)
    rows = [row_of(method, scores, found["noisy"]) for method, scores in found.items()]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        console.print(table_of(rows))
        for line in beside(rows):
            console.print(line)
    for method, why in skipped.items():
        console.print(f"{method}: left out, {why}")
    return 0


def default_folder() -> Path | None:
    """Return the pairs of the evaluation data, where it is at hand."""
    root = os.environ.get("AVATAR_EVAL_DATA")
    return Path(root) / "audio" / "pairs" if root else None


def extra_of(text: str) -> tuple[str, Path]:
    """Read NAME=DIR.

    Raises:
        ValueError: it is not of that form, or there is no such folder.
    """
    name, _, folder = text.partition("=")
    if not name or not Path(folder).is_dir():
        raise ValueError(f"--extra {text}: not NAME=DIR with a folder that exists.")
    return name, Path(folder)


def row_of(method: str, scores: dict[str, Scores], noisy: dict[str, Scores]) -> dict[str, Any]:
    """Return means over the pairs that the method has, its gain over the same pairs' noisy side, and each pair."""
    names = list(scores)

    def mean(of: dict[str, Scores], column: str) -> float | None:
        values = [getattr(of[name], column) for name in names]
        return round(sum(values) / len(values), 4) if None not in values else None

    row: dict[str, Any] = {"method": method}
    row |= {column: mean(scores, column) for column in COLUMNS[:3]}
    seconds = [taken for name in names if (taken := scores[name].seconds) is not None]
    row["rtf"] = round(sum(seconds) / sum(scores[name].length for name in names), 4) if seconds else None
    row["pairs"] = len(names)
    row |= {column: mean(scores, column) for column in COLUMNS[3:]}
    row["gain"] = {
        column: round(mean(scores, column) - mean(noisy, column), 4)  # type: ignore[operator]
        for column in COLUMNS
        if mean(scores, column) is not None
    }
    row["estoi_fell"] = sum(scores[name].estoi < noisy[name].estoi for name in names)
    row["per_pair"] = {name: scores[name].as_dict() for name in names}
    return row


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Return the rows for a person: figures, and the gain over noisy behind each."""
    table = Table(title="Voice isolation: means over pairs, and the gain over the noisy side of the same pairs")
    for heading in (
        *("method", "PESQ-WB", "gain", "ESTOI", "gain", "SI-SDR dB", "gain"),
        *("DNSMOS SIG/BAK/OVRL", "real time", "pairs", "ESTOI fell"),
    ):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for row in rows:
        cells = []
        for column, digits in (("pesq", 2), ("estoi", 3), ("sisdr", 1)):
            cells += [f"{row[column]:.{digits}f}", f"{row['gain'][column]:+.{digits}f}"]
        mos = [row[column] for column in COLUMNS[3:]]
        cells.append("–" if None in mos else " / ".join(f"{value:.2f}" for value in mos))
        cells.append("–" if row["rtf"] is None else f"{row['rtf']:.4f}")
        table.add_row(row["method"], *cells, str(row["pairs"]), f"{row['estoi_fell']} of {row['pairs']}")
    return table


def beside(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield our network's means over the same pairs, for each system that has outputs of some pairs only."""
    ours = next(row for row in rows if row["method"] == "neural")
    for row in rows:
        names = row["per_pair"].keys()
        if names == ours["per_pair"].keys():
            continue
        means = [sum(ours["per_pair"][name][column] for name in names) / len(names) for column in COLUMNS[:3]]
        yield (
            f"on the {len(names)} pairs of {row['method']}: neural PESQ {means[0]:.2f}, ESTOI {means[1]:.3f}, "
            f"SI-SDR {means[2]:.1f} dB"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
