"""The gate: as many calls at once as the ledger allows, whoever asks."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from avatar_pipeline.clock import utc_now
from avatar_pipeline.ledger.leases import Lease, Leases
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.voice.elevenlabs import gate as gates
from avatar_pipeline.voice.elevenlabs.gate import Gate, Shut
from tests.voice.hosted import NAME


class Counted(Leases):
    """Leases that count how often one was asked for, and how many were given."""

    asked = 0
    given = 0

    def acquire(self, provider: str, group: str, *, limit: int, seconds: float, holder: str) -> Lease | None:
        self.asked += 1
        lease = super().acquire(provider, group, limit=limit, seconds=seconds, holder=holder)
        self.given += lease is not None
        return lease


@pytest.fixture
def leases(migrated_ledger: Path, tmp_path: Path) -> Iterator[Counted]:
    (tmp_path / "ledger.db").write_bytes(migrated_ledger.read_bytes())
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield Counted(ledger.engine)
    ledger.close()


def never() -> bool:
    return False


def most_at_once(gate: Gate, calls: int, *, seconds: float = 0.01, closed: Callable[[], bool] = never) -> int:
    """Make calls in eight threads; return how many were in the gate at once."""
    lock, inside, most = threading.Lock(), 0, 0

    def call(_: int) -> None:
        nonlocal inside, most
        with gate.place("g", closed):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(seconds)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(calls)))
    return most


def test_no_more_than_the_limit_are_inside_and_leases_are_passed_on(leases: Counted) -> None:
    gate = Gate(leases, start=2, holder="me", clock=utc_now)
    assert most_at_once(gate, 24, seconds=0.03) == 2
    assert leases.given < 12, "most went from thread to thread"
    assert leases.in_flight(NAME, "g") == 0


def test_two_processes_share_the_limit(leases: Counted) -> None:
    leases.learn_limit(NAME, "g", 3)
    gates_of_two = [Gate(leases, start=2, holder=name, clock=utc_now) for name in "ab"]
    with ThreadPoolExecutor(2) as pool:
        most = list(pool.map(lambda gate: most_at_once(gate, 12), gates_of_two))
    assert max(most) <= 3
    assert leases.in_flight(NAME, "g") == 0


def test_leases_are_given_back_now_and_then_so_that_others_get_their_turn(
    leases: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "PASSED_ON_SECONDS", 0.0)
    most_at_once(Gate(leases, start=2, holder="me", clock=utc_now), 12)
    assert leases.given == 12


def test_a_refusal_ends_passing_on_so_that_the_lower_limit_holds(leases: Counted) -> None:
    gate = Gate(leases, start=4, holder="me", clock=utc_now)
    gate.answered("g", 4)
    gate.answered("g", None, refused=True)
    assert gate.limit("g") == 3
    assert most_at_once(gate, 12) <= 3
    assert leases.given == 12


def test_what_other_workers_learnt_counts(leases: Counted) -> None:
    gate = Gate(leases, start=1, holder="me", clock=utc_now)
    assert most_at_once(gate, 4) == 1
    leases.learn_limit(NAME, "g", 3)
    assert most_at_once(gate, 16, seconds=0.03) == 3
    gate.answered("g", 5)
    leases.learn_limit(NAME, "g", 2)
    gate.answered("g", 5)
    assert leases.limit(NAME, "g") == 5


def test_a_paused_group_lets_nobody_through(leases: Counted) -> None:
    gate = Gate(leases, start=2, holder="me", clock=utc_now)
    gate.pause("g", utc_now() + timedelta(hours=1), "quota_exceeded")
    with pytest.raises(Shut) as shut, gate.place("g", never):
        pass
    assert shut.value.pause is not None and shut.value.pause.reason == "quota_exceeded"
    with gate.place("another", never):
        pass


def test_a_closed_batch_lets_nobody_through_and_keeps_nothing(leases: Counted) -> None:
    gate = Gate(leases, start=1, holder="me", clock=utc_now)
    is_closed = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with gate.place("g", never):
            waiting = pool.submit(most_at_once, gate, 1, closed=is_closed.is_set)
            time.sleep(0.03)
            is_closed.set()
        with pytest.raises(Shut):
            waiting.result(5)
    assert leases.in_flight(NAME, "g") == 0


def test_one_at_a_time_and_voices_in_use(leases: Counted) -> None:
    gate, other = (Gate(leases, start=1, holder=name, clock=utc_now) for name in "ab")
    with gate.alone("making") as mine, other.alone("making") as theirs:
        assert mine and not theirs
    with gate.using("ada"):
        assert other.in_use("ada") and not other.in_use("bob")
    assert not other.in_use("ada")


def test_what_is_held_is_extended_for_as_long_as_it_is(leases: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "LEASE_SECONDS", 0.45)
    gate = Gate(leases, start=1, holder="me", clock=utc_now)
    with gate.place("g", never):
        time.sleep(0.7)
        assert leases.in_flight(NAME, "g") == 1
    assert leases.in_flight(NAME, "g") == 0
