"""Processes that call at one provider at once, on SQLite and on PostgreSQL."""

import json
import subprocess
import sys
import time
from decimal import Decimal
from itertools import accumulate
from pathlib import Path

import pytest

from avatar_pipeline.errors import QuotaExhausted
from avatar_pipeline.ledger.charges import Charges
from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.leases import Leases

LIMIT, RIVALS, CALLS = 2, 4, 20
CREDITS = Decimal(20)
PROGRAM = """
import json, sys
from tests.ledger import test_rivals as rivals
print("here", flush=True)
sys.stdin.readline()
print(json.dumps(getattr(rivals, sys.argv[1])(sys.argv[2], int(sys.argv[3]))))
"""


def hold_leases(url: str, number: int) -> list[tuple[float, float]]:
    """Take a lease, call, give it back, again and again; return from when to when each call was under way."""
    leases = Leases(open_engine(url))
    calls = []
    while len(calls) < CALLS:
        lease = leases.acquire("acme", "flash", limit=LIMIT, seconds=60, holder=f"rival-{number}")
        if lease is None:
            time.sleep(0.001)
            continue
        begun = time.monotonic()
        time.sleep(0.01)
        calls.append((begun, time.monotonic()))
        leases.release(lease)
    return calls


def take_credits(url: str, number: int) -> list[int]:
    """Reserve credits for work of one's own, and settle what all have in common; return how often each went well."""
    charges = Charges(open_engine(url))
    reserved = settled = 0
    for item in range(CALLS):
        try:
            charges.reserve("acme", f"{number}-{item}", Decimal(1), tenant="default", available=CREDITS)
            reserved += 1
        except QuotaExhausted:
            pass
        charges.reserve("other", f"{item}", Decimal(1), tenant="default", available=None)
        settled += charges.settle("other", f"{item}", Decimal(1), request_id=f"{number}")
    return [reserved, settled]


def at_once(url: str, work: str, folder: Path) -> list[list]:
    """Let rivals, each a process of its own, do the same work at the same time; return what each returned."""
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, work, url, str(number)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(RIVALS)
    ]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "here\n"
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    return [json.loads(rival.communicate(timeout=120)[0]) for rival in rivals]


def test_over_all_processes_no_more_calls_than_the_limit_are_under_way(url: str, pytestconfig: pytest.Config) -> None:
    """Held to what the rivals saw themselves: one machine's monotonic clock is the same for all its processes."""
    calls = [tuple(call) for calls in at_once(url, "hold_leases", pytestconfig.rootpath) for call in calls]
    assert len(calls) == RIVALS * CALLS
    # At one moment, what ends ends before what begins.
    steps = sorted([(begun, 1) for begun, _ in calls] + [(ended, -1) for _, ended in calls])
    under_way = list(accumulate(step for _, step in steps))
    # On a machine that is busy with other things, fewer may be met with at once.
    assert max(under_way) <= LIMIT
    engine = open_engine(url)
    assert Leases(engine).in_flight("acme", "flash") == 0
    engine.dispose()


def test_processes_neither_overdraw_nor_settle_twice(url: str, pytestconfig: pytest.Config) -> None:
    results = at_once(url, "take_credits", pytestconfig.rootpath)
    reserved, settled = (sum(column) for column in zip(*results, strict=True))
    assert reserved == CREDITS
    assert settled == CALLS
    engine = open_engine(url)
    assert Charges(engine).open_credits("acme") == CREDITS
    engine.dispose()
