"""The figures of many scenarios: a line for each, a table by kind of disturbance, and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.spot.chaos.run import Outcome


def line(outcome: Outcome) -> str:
    """Return one line on a scenario."""
    mark = "[red]wrong[/]" if outcome.wrong else "[green]right[/]"
    found = outcome.found
    told = outcome.plan.told().replace("[", "\\[")
    wrong = "".join(f"\n      [red]{sentence}[/]" for sentence in outcome.wrong)
    return f"{mark} {outcome.plan.name:>7} {found.status:<8} {found.seconds:5.1f} s  {told}{wrong}"


def by_kind(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Count, for each group of disturbances, how many were done, and scenarios with it that went right and wrong."""
    done: Counter[str] = Counter()
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for outcome in outcomes:
        hits = [hit.kind.group for step in outcome.found.steps.values() for hit in step.hits]
        done.update(hits)
        (wrong if outcome.wrong else right).update(set(hits))
    return {group: {"done": done[group], "right": right[group], "wrong": wrong[group]} for group in sorted(done)}


def figures(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """Return everything, ready for JSON."""
    ordered = sorted(outcomes, key=lambda outcome: [int(part) for part in outcome.plan.name.split(":")])
    steps = [step for outcome in outcomes for step in outcome.found.steps.values()]
    return {
        "scenarios": len(outcomes),
        "right": sum(not outcome.wrong for outcome in outcomes),
        "wrong": {outcome.plan.name: outcome.wrong for outcome in ordered if outcome.wrong},
        "disturbances": sum(len(step.hits) for step in steps),
        "attempts": sum(len(step.attempts) for step in steps),
        "endings": dict(
            Counter(each.ending.value for step in steps for each in step.attempts if each.ending is not None)
        ),
        "ends": dict(Counter(outcome.found.status for outcome in outcomes)),
        "chunks_begun_again": sum(len(step.begun) - len(set(step.begun)) for step in steps),
        "by_kind": by_kind(outcomes),
        "seconds": round(seconds, 1),
        "longest_run_seconds": round(max(outcome.found.seconds for outcome in outcomes), 1),
    }


def show(outcomes: Sequence[Outcome], seconds: float, console: Console) -> None:
    """Print the tables, and the story of what went wrong."""
    told = figures(outcomes, seconds)
    table = Table(title="Disturbances")
    table.add_column("what was done")
    for title in ("times", "scenarios right", "scenarios wrong"):
        table.add_column(title, justify="right")
    for group, counts in told["by_kind"].items():
        table.add_row(group, str(counts["done"]), str(counts["right"]), str(counts["wrong"]))
    console.print(table)
    endings = ", ".join(f"{count} {ending}" for ending, count in sorted(told["endings"].items()))
    ends = ", ".join(f"{count} {end}" for end, count in sorted(told["ends"].items()))
    console.print(f"{told['attempts']} attempts: {endings}; runs: {ends}.", highlight=False)
    console.print(
        f"{told['right']} of {told['scenarios']} scenarios right, with {told['disturbances']} disturbances, "
        f"in {seconds:.0f} s.",
        highlight=False,
    )
