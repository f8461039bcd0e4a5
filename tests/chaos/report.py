"""The figures of a trial: as a table for a person, as a dictionary for a machine."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.harness import Outcome
from tests.chaos.processes import TARGETS, shares


def figures(outcome: Outcome) -> dict[str, Any]:
    """Return what a trial did and found, ready for JSON."""
    plan, found = outcome.plan, outcome.found
    asked = Counter(shares(outcome.trial.kills))
    letters = [letter for queue in found.dead.values() for letter in queue]
    done = sum(request.state == "done" for request in found.requests.values())
    return {
        "database": outcome.trial.database,
        "seed": outcome.trial.seed,
        "requests": len(plan.wishes),
        "done": done,
        "duplicates_sent": plan.count("duplicate"),
        "poison_sent": plan.count("poison"),
        "dead_letters": len(letters),
        "kills": {target: outcome.kills[target] for target in TARGETS},
        "kills_asked": {target: asked[target] for target in TARGETS},
        "kills_total": outcome.kills.total(),
        "restarts": {name: count - 1 for name, count in outcome.starts.items()},
        "sabotage": outcome.sabotage,
        "runs": dict(found.runs),
        "clips": len(found.clips),
        "renderings": sum(clip.made for clip in found.clips),
        "seconds": round(outcome.seconds, 1),
        "requests_per_second": round(done / outcome.seconds, 2),
        "wrong": outcome.wrong,
    }


def show(outcome: Outcome, console: Console) -> None:
    """Print the figures and the verdict."""
    table = Table(title=f"Crash test on {outcome.trial.database}, seed {outcome.trial.seed}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in figures(outcome).items():
        if name in {"database", "seed", "wrong", "kills_asked"}:
            continue
        told = ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), told)
    console.print(table)
    for sentence in outcome.wrong:
        console.print(f"[red]wrong:[/] {sentence}", highlight=False)
    if not outcome.wrong:
        console.print("[green]Every request was done exactly once; the dead letters are the poison.[/]")
