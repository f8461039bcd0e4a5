"""The money, put to the test from the command line, for longer than a suite may take.

    python -m tests.ledger.money --examples 10000 [--workers 2] [--seed 0] [--database sqlite|postgresql|both]
    python -m tests.ledger.money storm --database both --seconds 60

The first calls a book of spending in that many random orders, beside a model of what it should say. The second lets
many processes, which are killed now and then, spend from the same tight budgets. Both exit with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    """Do what is asked for."""
    if sys.argv[1:2] == ["storm"]:
        from tests.ledger.money.storm import main as storm

        return storm(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m tests.ledger.money", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="sqlite")
    options = parser.parse_args()
    databases = ["sqlite", "postgresql"] if options.database == "both" else [options.database]
    from tests.ledger.money.search import search

    return 0 if search(databases, options.examples, options.workers, options.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
