"""Fair queueing: the rules by themselves, and how long a small tenant waits behind a large one."""

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.ledger.fairness import Choice, Flow, Waiting, choose, cost_of, room_for
from avatar_pipeline.ledger.report import nearest_rank
from avatar_pipeline.settings import Settings
from benchmarks.fairness import Burst, Simulation, ratio

LIMIT = Settings.model_fields["batch_size"].default
WORKERS = Settings.model_fields["max_open_batches"].default


class Flows:
    """Tenants' requests in memory, served turn by turn."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights
        self.waiting: dict[str, list[Waiting]] = defaultdict(list)
        self.finishes: dict[str, float] = {}
        self.clock = 0.0
        self.service: dict[str, float] = defaultdict(float)
        self.count = 0

    def add(self, tenant: str, avatar: int, cost: int) -> None:
        self.count += 1
        self.waiting[tenant].append(Waiting(f"request-{self.count}", tenant, f"avatar-{avatar}", cost))

    def serve(self, room: int) -> Choice:
        flows = [
            Flow(tenant, self.finishes.get(tenant, 0.0), int(queue[0].request_id.removeprefix("request-")))
            for tenant, queue in self.waiting.items()
            if queue
        ]

        def company(head: Waiting) -> list[Waiting]:
            return [one for one in self.waiting[head.tenant] if one.avatar_id == head.avatar_id][:room]

        choice = choose(
            flows, self.clock, room, self.weights, of_flow=lambda name: self.waiting[name][:room], company=company
        )
        for one, _ in choice.served:
            self.waiting[one.tenant].remove(one)
            self.service[one.tenant] += one.cost
        self.clock = choice.clock
        self.finishes |= choice.finishes
        return choice


WEIGHTS = st.sampled_from([0.5, 1.0, 2.0, 3.0])


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(WEIGHTS, min_size=2, max_size=4),
    avatars=st.integers(1, 6),
    longest=st.integers(1, 40),
    room=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
def test_no_tenant_with_work_waiting_falls_behind_another_by_more_than_a_turn_of_each(
    weights: list[float], avatars: int, longest: int, room: int, seed: int
) -> None:
    """Theorem 1 of Goyal, Vin and Cheng, over every interval, with a batch in the place of a packet."""
    chance = random.Random(seed)
    names = [f"tenant-{number}" for number in range(len(weights))]
    flows = Flows(dict(zip(names, weights, strict=True)))
    for name in names:
        for _ in range(100):
            flows.add(name, chance.randrange(avatars), chance.randint(1, longest))
    gaps: dict[tuple[str, str], list[float]] = {(one, other): [0.0] for one in names for other in names if one < other}
    while all(len(queue) > room for queue in flows.waiting.values()):
        flows.serve(room)
        for (one, other), seen in gaps.items():
            seen.append(flows.service[one] / flows.weights[one] - flows.service[other] / flows.weights[other])
    for (one, other), seen in gaps.items():
        bound = room * longest / flows.weights[one] + room * longest / flows.weights[other]
        assert max(seen) - min(seen) <= bound + 1e-6


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 30)), max_size=6), max_size=12
    ),
    room=st.integers(1, 8),
)
def test_virtual_time_never_goes_back_and_everybody_is_served_once(
    arrivals: list[list[tuple[int, int, int]]], room: int
) -> None:
    flows = Flows({"tenant-1": 2.0})
    served: list[str] = []
    turns = iter(arrivals)
    while True:
        for tenant, avatar, cost in next(turns, []):
            flows.add(f"tenant-{tenant}", avatar, cost)
        before = flows.clock
        choice = flows.serve(room)
        assert choice.clock >= before
        assert len(choice.served) == min(room, len(choice.served) + sum(map(len, flows.waiting.values())))
        assert all(start >= before for _, start in choice.served)
        served += [one.request_id for one, _ in choice.served]
        if len(served) == sum(map(len, arrivals)):
            break
    assert sorted(served) == sorted(f"request-{number}" for number in range(1, flows.count + 1))


def test_who_comes_new_is_served_before_anybody_s_next_turn() -> None:
    flows = Flows({})
    for number in range(100):
        flows.add(f"old-{number % 4}", 0, 10)
    for _ in range(7):
        flows.serve(5)
    for _ in range(3):
        flows.add("new", 0, 10)
    assert [one.tenant for one, _ in flows.serve(3).served] == ["new"] * 3


def test_a_tenant_that_was_away_has_saved_up_nothing() -> None:
    flows = Flows({})
    for _ in range(40):
        flows.add("steady", 0, 1)
    flows.add("away", 0, 1)
    for _ in range(6):
        flows.serve(5)
    for _ in range(40):
        flows.add("away", 0, 1)
    names = [one.tenant for _ in range(4) for one, _ in flows.serve(5).served]
    assert names.count("steady") >= 5


def test_a_request_costs_its_characters_and_never_nothing() -> None:
    assert (cost_of("Hello."), cost_of("")) == (6, 1)


@pytest.mark.parametrize(
    ("limit", "remaining", "room"),
    [(20, [], 20), (20, [20], 10), (20, [11, 15], 10), (20, [10], 20), (20, [20, 3], 20), (20, [0], 20), (1, [1], 1)],
)
def test_a_batch_takes_half_where_no_other_will_be_done_soon(limit: int, remaining: list[int], room: int) -> None:
    assert room_for(limit, remaining) == room


@given(limit=st.integers(1, 50), workers=st.integers(2, 6), steps=st.integers(1, 200))
def test_with_all_at_work_one_is_always_done_within_half_a_batch(limit: int, workers: int, steps: int) -> None:
    left = [0] * workers
    full = []
    for step in range(steps):
        for worker in range(workers):
            if left[worker] == 0:
                left[worker] = room_for(limit, left)
                if step > limit:
                    full.append(left[worker])
        assert min(left) <= -(-limit // 2)
        left = [one - 1 for one in left]
    assert set(full) <= {limit}, "once out of step, all batches are full"


# With the ledger's own book


@pytest.fixture
def simulation() -> Simulation:
    return Simulation(WORKERS, LIMIT)


LARGE = [Burst("large", 2000)]


@pytest.mark.parametrize("seed", range(4))
def test_behind_two_thousand_clips_a_small_tenant_waits_at_most_twice_as_long_as_alone(
    simulation: Simulation, seed: int
) -> None:
    at = random.Random(seed).uniform(0.0, 100.0)
    assert ratio(simulation, LARGE, Burst("small", 10, at=at)) <= 2.0


@pytest.mark.parametrize(("limit", "worst"), [(LIMIT, 2.0), (20, 2.0), (40, 3.0)])
def test_what_it_waits_at_the_worst_moment_just_after_a_claim(limit: int, worst: float) -> None:
    """It waits for half a batch at most. So with batches of more than twice its own size, it is more than twice."""
    simulation = Simulation(WORKERS, limit)
    simulation.waits([*LARGE, Burst("small", 1, at=2.0 * limit)], "small")
    moments = sorted({claim + 0.001 for claim in simulation.claims})[:4]
    found = max(ratio(simulation, LARGE, Burst("small", 10, at=moment)) for moment in moments)
    assert found <= worst
    assert found > 1.0 + limit / 20 - 0.1, "or the moments are not the worst"


def test_that_holds_for_a_tenant_with_many_avatars(simulation: Simulation) -> None:
    assert ratio(simulation, LARGE, Burst("small", 10, at=33.3, avatars=10)) <= 2.0


def test_that_holds_behind_a_tenant_that_weighs_four_times_as_much() -> None:
    simulation = Simulation(WORKERS, LIMIT, {"large": 4.0})
    assert ratio(simulation, LARGE, Burst("small", 10, at=41.0)) <= 2.0


def test_that_holds_behind_four_large_tenants(simulation: Simulation) -> None:
    four = [Burst(f"large-{number}", 500) for number in range(4)]
    assert max(ratio(simulation, four, Burst("small", 10, at=moment)) for moment in (60.001, 73.0, 90.001)) <= 2.0


def test_in_the_order_of_arrival_it_would_wait_for_all_of_them(simulation: Simulation) -> None:
    """The same clips under one tenant: what the fair queue saves."""
    waits = simulation.waits([Burst("small", 200), Burst("small", 10, at=1.0, avatars=1)], "small")
    assert nearest_rank(sorted(waits), 95) > 90


def test_a_higher_priority_waits_for_no_more_than_the_batches_at_work(simulation: Simulation) -> None:
    large = [Burst("large", 2000), Burst("other", 2000, at=5.0)]
    urgent = Burst("small", 2 * LIMIT, at=50.001, priority=9)
    assert max(simulation.waits([*large, urgent], "small")) <= LIMIT / 2 + 2 * LIMIT


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(1, 50)), min_size=1, max_size=30),
    refused=st.sets(st.integers(1, 30)),
    room=st.integers(1, 12),
)
def test_what_is_refused_is_not_served_and_costs_its_tenant_nothing(
    costs: list[tuple[str, int, int]], refused: set[int], room: int
) -> None:
    waiting: dict[str, list[Waiting]] = defaultdict(list)
    for number, (tenant, avatar, cost) in enumerate(costs, 1):
        waiting[tenant].append(Waiting(f"request-{number}", tenant, f"avatar-{avatar}", cost))
    asked: list[str] = []

    def accept(one: Waiting) -> bool:
        asked.append(one.request_id)
        return int(one.request_id.removeprefix("request-")) not in refused

    choice = choose(
        [Flow(tenant, 0.0, int(queue[0].request_id.removeprefix("request-"))) for tenant, queue in waiting.items()],
        0.0,
        room,
        {},
        of_flow=lambda name: waiting[name],
        company=lambda head: [one for one in waiting[head.tenant] if one.avatar_id == head.avatar_id],
        accept=accept,
    )
    served = [one for one, _ in choice.served]
    acceptable = [number for number in range(1, len(costs) + 1) if number not in refused]
    assert len(asked) == len(set(asked)), "each is asked about once"
    assert len(served) == min(room, len(acceptable))
    assert all(int(one.request_id.removeprefix("request-")) not in refused for one in served)
    for tenant, finish in choice.finishes.items():
        assert finish >= sum(one.cost for one in served if one.tenant == tenant)
