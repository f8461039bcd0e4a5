"""Processes that spend from the same budgets and are killed meanwhile, for a few seconds on either database.

`python -m tests.ledger.money storm` has 16 of them on PostgreSQL and 8 on SQLite for a minute.
"""

from tests.ledger.money.storm import storm


def test_processes_that_are_killed_neither_overdraw_a_budget_nor_leave_money_reserved(url: str) -> None:
    outcome = storm(url, seconds=4.0, spenders=3)
    assert outcome.wrong == [], "\n".join(outcome.wrong)
    assert outcome.admissions
    assert outcome.killed
    assert outcome.looks
