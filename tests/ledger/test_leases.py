"""Calls in flight, counted over all workers, on SQLite and on PostgreSQL."""

from datetime import datetime

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from avatar_pipeline.ledger.leases import Lease, Leases, Pause
from tests.ledger.desk import NOW, SECOND, Desk


@pytest.fixture
def leases(desk: Desk) -> Leases:
    return Leases(desk.ledger.engine, clock=desk.clock)


def acquire(leases: Leases, group: str = "flash", *, limit: int = 2, seconds: float = 10) -> Lease | None:
    return leases.acquire("acme", group, limit=limit, seconds=seconds, holder="worker-1")


def taken(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def test_no_more_than_the_limit_are_given_out(leases: Leases) -> None:
    first, second = taken(acquire(leases)), taken(acquire(leases))
    assert first.lease_id != second.lease_id
    assert first.expires_at == NOW + SECOND * 10
    assert acquire(leases) is None
    assert leases.in_flight("acme", "flash") == 2
    leases.release(first)
    leases.release(first)
    assert leases.in_flight("acme", "flash") == 1
    assert acquire(leases)


def test_groups_and_providers_have_limits_of_their_own(leases: Leases) -> None:
    assert acquire(leases, limit=1)
    assert acquire(leases, "multilingual", limit=1)
    assert leases.acquire("other", "flash", limit=1, seconds=1, holder="")
    assert acquire(leases, limit=1) is None
    leases.learn_limit("acme", "flash", 9)
    leases.pause("acme", "flash", NOW + SECOND, "quota")
    assert leases.limit("acme", "multilingual") is None
    assert leases.paused("other", "flash") is None


def test_what_a_dead_holder_has_runs_out(desk: Desk, leases: Leases) -> None:
    dead = taken(acquire(leases, limit=1))
    desk.now += SECOND * 9
    assert acquire(leases, limit=1) is None
    desk.now += SECOND
    assert leases.in_flight("acme", "flash") == 0
    alive = taken(acquire(leases, limit=1))
    assert not leases.extend(dead, 10), "somebody else has it now"
    leases.release(dead)
    assert leases.in_flight("acme", "flash") == 1
    assert leases.extend(alive, 10)


def test_who_needs_longer_extends_in_time(desk: Desk, leases: Leases) -> None:
    lease = taken(acquire(leases, limit=1))
    desk.now += SECOND * 9
    assert leases.extend(lease, 10)
    desk.now += SECOND * 9
    assert acquire(leases, limit=1) is None
    desk.now += SECOND
    assert not leases.extend(lease, 10), "too late, though nobody took its place"
    assert acquire(leases, limit=1)


def test_a_lease_that_was_given_back_cannot_be_extended(leases: Leases) -> None:
    lease = taken(acquire(leases))
    leases.release(lease)
    assert not leases.extend(lease, 10)


def test_the_limit_follows_the_provider_both_ways(leases: Leases) -> None:
    assert leases.limit("acme", "flash") is None
    leases.learn_limit("acme", "flash", 1)
    assert acquire(leases, limit=3)
    assert acquire(leases, limit=3) is None
    leases.learn_limit("acme", "flash", 2)
    assert leases.limit("acme", "flash") == 2
    assert acquire(leases, limit=3)
    assert acquire(leases, limit=3) is None
    leases.learn_limit("acme", "flash", 30)
    assert acquire(leases, limit=3)
    assert acquire(leases, limit=3) is None, "nor more than is configured"


def test_a_limit_that_sinks_below_what_is_in_flight_holds_up_new_calls_only(leases: Leases) -> None:
    held = [taken(acquire(leases, limit=3)) for _ in range(3)]
    leases.learn_limit("acme", "flash", 2)
    leases.release(held[0])
    assert acquire(leases, limit=3) is None
    leases.release(held[1])
    assert acquire(leases, limit=3)


@pytest.mark.parametrize("told", [0, -3])
def test_one_call_is_always_left_to_learn_by(leases: Leases, told: int) -> None:
    leases.learn_limit("acme", "flash", told)
    assert leases.limit("acme", "flash") == 1
    assert acquire(leases)


def test_nothing_is_given_out_in_a_pause(desk: Desk, leases: Leases) -> None:
    lease = taken(acquire(leases))
    leases.pause("acme", "flash", NOW + SECOND * 5, "quota exceeded")
    assert leases.paused("acme", "flash") == Pause(NOW + SECOND * 5, "quota exceeded")
    assert acquire(leases) is None
    assert leases.extend(lease, 10), "what is in flight ends as it may"
    desk.now += SECOND * 5
    assert leases.paused("acme", "flash") is None
    assert acquire(leases)


def test_of_two_pauses_the_longer_holds_and_a_person_may_end_it(leases: Leases) -> None:
    leases.learn_limit("acme", "flash", 7)
    leases.pause("acme", "flash", NOW + SECOND * 9, "until the month is over")
    leases.pause("acme", "flash", NOW + SECOND * 5, "for a while")
    assert leases.paused("acme", "flash") == Pause(NOW + SECOND * 9, "until the month is over")
    leases.resume("acme", "flash")
    assert leases.paused("acme", "flash") is None
    assert leases.limit("acme", "flash") == 7
    assert acquire(leases)
    leases.resume("acme", "never paused")


def test_leases_that_ran_out_long_ago_are_pruned(desk: Desk, leases: Leases) -> None:
    acquire(leases, "old")
    desk.now += SECOND
    acquire(leases, "new")
    desk.now += SECOND * 10
    assert leases.prune(NOW + SECOND * 11) == 1
    assert leases.prune(NOW + SECOND * 11) == 0


class AnyOrder(RuleBasedStateMachine):
    desk: Desk
    given: Bundle[Lease] = Bundle("given")

    @initialize()
    def begin_empty(self) -> None:
        with self.desk.ledger.engine.begin() as connection:
            for table in ("provider_leases", "provider_groups"):
                connection.execute(text(f"DELETE FROM {table}"))
        self.desk.now = NOW
        self.leases = Leases(self.desk.ledger.engine, clock=self.desk.clock)
        self.alive: dict[str, datetime] = {}
        self.learnt: int | None = None
        self.paused = NOW

    @rule(seconds=st.integers(1, 8))
    def time_goes_on(self, seconds: int) -> None:
        self.desk.now += seconds * SECOND
        self.alive = {name: end for name, end in self.alive.items() if end > self.desk.now}

    @rule(target=given, limit=st.integers(1, 4), seconds=st.integers(1, 10))
    def acquire(self, limit: int, seconds: int) -> Lease | None:
        lease = acquire(self.leases, limit=limit, seconds=seconds)
        in_force = limit if self.learnt is None else min(limit, self.learnt)
        assert (lease is not None) == (len(self.alive) < in_force and self.paused <= self.desk.now)
        if lease is not None:
            assert lease.lease_id not in self.alive
            self.alive[lease.lease_id] = lease.expires_at
            assert len(self.alive) <= in_force
        return lease

    @rule(lease=given, seconds=st.integers(1, 10))
    def extend(self, lease: Lease | None, seconds: int) -> None:
        if lease is not None:
            extended = self.leases.extend(lease, seconds)
            assert extended == (lease.lease_id in self.alive)
            if extended:
                self.alive[lease.lease_id] = self.desk.now + seconds * SECOND

    @rule(lease=given)
    def release(self, lease: Lease | None) -> None:
        if lease is not None:
            self.leases.release(lease)
            self.alive.pop(lease.lease_id, None)

    @rule(limit=st.integers(0, 4))
    def learn(self, limit: int) -> None:
        self.leases.learn_limit("acme", "flash", limit)
        self.learnt = max(1, limit)

    @rule(seconds=st.integers(-2, 6))
    def pause(self, seconds: int) -> None:
        self.leases.pause("acme", "flash", self.desk.now + seconds * SECOND, "quota")
        self.paused = max(self.paused, self.desk.now + seconds * SECOND)

    @rule()
    def resume(self) -> None:
        self.leases.resume("acme", "flash")
        self.paused = NOW

    @rule()
    def prune(self) -> None:
        self.leases.prune(self.desk.now)

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "alive"):
            assert self.leases.in_flight("acme", "flash") == len(self.alive)
            assert self.leases.limit("acme", "flash") == self.learnt
            assert (self.leases.paused("acme", "flash") is not None) == (self.paused > self.desk.now)


def test_in_any_order_of_calls_the_limit_holds(sqlite_url: str) -> None:
    desk = Desk(sqlite_url)
    machine = type("Machine", (AnyOrder,), {"desk": desk})
    chosen = settings(max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=chosen)
    desk.ledger.close()
