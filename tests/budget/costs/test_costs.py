"""Costs of a day, a clip and an avatar: every breakdown sums to the same total, and nothing is told twice."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import Session

from avatar_pipeline.budget.types import NONE, Amounts, AttemptEnd, Demand, Payer
from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.cost_sums import Spent, added
from avatar_pipeline.ledger.costs import DayCosts, machines_by_day, read_costs, spent_by_day
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.ledger.spend_schema import AttemptRow, EntryRow
from avatar_pipeline.ledger.unit_costs import cost_of_avatar, figures_of_clip
from tests.budget.costs.days import ON_DEMAND, SPOT, Studio
from tests.stages.benches import artifact_row, avatar_row, request_row

DAY = date(2026, 11, 10)
START = datetime(2026, 11, 10, tzinfo=UTC)
NEXT = START + timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ACME = Payer("acme", "ada")


def add_up(costs: DayCosts) -> None:
    """Every breakdown is the total."""
    for breakdown in (costs.by_tenant, costs.by_asset, costs.by_capacity, costs.by_ending):
        assert added(breakdown.values()) == costs.total
    assert added(costs.by_hour) == costs.total
    assert len(costs.by_hour) == 24
    hours = [sum(amounts) for amounts in zip(*costs.hours_by_capacity.values(), strict=True)]
    assert hours == ([each.amount for each in costs.by_hour] if costs.by_capacity else [])
    for name, amounts in costs.hours_by_capacity.items():
        assert sum(amounts) == costs.by_capacity[name].amount
    assert added(costs.providers.values()) == costs.by_capacity.get("provider", Spent())
    assert costs.by_ending.get("provider", Spent()) == costs.by_capacity.get("provider", Spent())


def usd(minutes: float, price: Decimal = ON_DEMAND) -> Decimal:
    return (price * Decimal(repr(minutes)) / 60).quantize(Decimal("0.000001"))


def test_a_day_is_told_by_tenant_asset_capacity_provider_ending_and_hour(studio: Studio) -> None:
    studio.clip("r-1", START + HOUR, 30, spot=True, characters=400)
    studio.work("landmarks", START + 3 * HOUR, 60, payer=Payer("globex", "bob"))
    studio.work("clip_batch_manifest", START + 5 * HOUR, 6, payer=Payer())
    costs = read_costs(studio.engine, DAY)
    spot, speech = usd(30, SPOT), Decimal("0.04")
    assert costs.total == Spent(spot + speech + usd(66), usd(30) - spot, Decimal(96 * 60), Decimal(400))
    assert {name: each.amount for name, each in costs.by_tenant.items()} == {
        "globex": usd(60), "acme": spot + speech, "": usd(6)
    }  # fmt: skip
    assert {name: each.amount for name, each in costs.by_asset.items()} == {
        "landmarks": usd(60), "rendered_clips": spot, "clip_batch_manifest": usd(6), "synthesized_speech": speech
    }  # fmt: skip
    assert {name: (each.amount, each.saved) for name, each in costs.by_capacity.items()} == {
        "on-demand": (usd(66), 0), "spot": (spot, usd(30) - spot), "provider": (speech, 0)
    }  # fmt: skip
    assert costs.providers == {"elevenlabs": Spent(speech, NONE, NONE, Decimal(400))}
    assert {name: each.amount for name, each in costs.by_ending.items()} == {
        "succeeded": usd(66) + spot, "provider": speech
    }  # fmt: skip
    assert [hour for hour, each in enumerate(costs.by_hour) if each.amount] == [1, 3, 5]
    assert (costs.attempts, costs.unsettled, costs.unattributed, costs.lost) == ({"succeeded": 3}, 0, Spent(), {})
    add_up(costs)


def test_a_day_on_which_nothing_was_spent_costs_nothing(studio: Studio) -> None:
    costs = read_costs(studio.engine, DAY)
    assert costs.total == Spent()
    assert (costs.clips.average, costs.avatars.average) == (None, None)
    add_up(costs)


def test_an_attempt_over_midnight_costs_each_day_its_part(studio: Studio) -> None:
    studio.work("landmarks", NEXT - 20 * MINUTE, 50, payer=ACME)
    first, second = read_costs(studio.engine, DAY), read_costs(studio.engine, DAY + timedelta(days=1))
    assert (first.total.seconds, second.total.seconds) == (1200, 1800)
    assert first.total.amount + second.total.amount == usd(50)
    assert (first.attempts, second.attempts) == ({"succeeded": 1}, {"succeeded": 1})


def test_what_ended_badly_is_told_by_ending_and_what_has_no_end_is_open(studio: Studio) -> None:
    for ending in ("interrupted", "interrupted", "vanished"):
        studio.work("rendered_clips", START + HOUR, 12, payer=ACME, spot=True, ending=ending)
    studio.work("rendered_clips", START + HOUR, 6, payer=ACME, ending=None)
    studio.work("rendered_clips", NEXT, 6, payer=ACME, ending=None)
    costs = read_costs(studio.engine, DAY)
    assert costs.attempts == {"interrupted": 2, "running": 1, "vanished": 1}
    assert {name: each.amount for name, each in costs.lost.items()} == {
        "interrupted": 2 * usd(12, SPOT), "vanished": usd(12, SPOT)
    }  # fmt: skip
    assert costs.by_ending["running"].amount == usd(6)
    assert costs.unsettled == 1
    add_up(costs)


def test_settling_an_attempt_corrects_the_day_that_it_was_on(studio: Studio) -> None:
    attempt = studio.work("rendered_clips", START + HOUR, 30, payer=ACME, ending=None)
    studio.now = NEXT + HOUR
    end = AttemptEnd(START + 2 * HOUR, "vanished", price_per_hour=SPOT, capacity_type="spot")
    studio.book.settle(attempt, end)
    costs = read_costs(studio.engine, DAY)
    assert costs.by_capacity == {"spot": costs.total}
    assert (costs.total.amount, costs.total.saved) == (SPOT, ON_DEMAND - SPOT)
    assert read_costs(studio.engine, DAY + timedelta(days=1)).total == Spent()


def test_what_no_reservation_pays_for_is_told(studio: Studio) -> None:
    studio.work("landmarks", START, 30, payer=ACME)
    studio.work("landmarks", START + HOUR, 15)
    costs = read_costs(studio.engine, DAY)
    assert costs.unattributed.amount == usd(15)
    assert costs.by_tenant[""] == costs.unattributed
    add_up(costs)


def test_what_an_attempt_was_is_not_known_any_more_but_what_it_cost_is(studio: Studio) -> None:
    studio.work("landmarks", START, 30, payer=ACME)
    with Session(studio.engine) as session, session.begin():
        session.query(AttemptRow).delete()
    costs = read_costs(studio.engine, DAY)
    assert costs.by_ending == {"unknown": costs.total}
    assert costs.lost == {}
    add_up(costs)


# Clips and avatars


def test_a_clip_costs_all_its_attempts_whenever_they_were(studio: Studio) -> None:
    payer = Payer("acme", "ada", "r-1")
    studio.work("rendered_clips", START - 2 * HOUR, 20, key="clip/r-1/0", payer=payer, spot=True, ending="interrupted")
    studio.clip("r-1", START + HOUR, 30, characters=100)
    studio.clip("r-2", START + 2 * HOUR, 10)
    studio.add(request_row("reused", sent_at=START, finished_at=START + HOUR))
    studio.add(request_row("waits", sent_at=START))
    costs = read_costs(studio.engine, DAY)
    first, second = 2 * usd(20, SPOT) + usd(10, SPOT) + Decimal("0.01"), usd(10, SPOT)
    costs_of = {clip.request_id: clip.cost for clip in costs.clips_done}
    assert set(costs_of) == {"r-1", "r-2", "reused"}
    assert costs_of["r-1"] == pytest.approx(first, abs=Decimal("0.000002"))
    assert (costs_of["r-2"], costs_of["reused"]) == (second, 0)
    assert (costs.clips.count, costs.clips.total, costs.clips.p95) == (3, sum(costs_of.values()), costs_of["r-1"])
    assert costs.clips.average == costs.clips.total / 3


def test_the_95th_percentile_is_a_cost_that_occurred(studio: Studio) -> None:
    for number in range(20):
        studio.clip(f"r-{number}", START + number * MINUTE, number + 1)
    assert read_costs(studio.engine, DAY).clips.p95 == usd(19, SPOT)


def test_an_avatar_costs_its_own_steps_until_the_end_of_the_day_it_was_ready_on(studio: Studio) -> None:
    studio.avatar("ada", START + HOUR)
    studio.clip("r-1", START + 5 * HOUR, 60)
    studio.work("mesh", NEXT + HOUR, 60, payer=ACME)
    studio.avatar("bob", NEXT + 2 * HOUR)
    studio.add(avatar_row("eve", START, state="failed"), artifact_row("eve", "greeting_clip", "k", START + HOUR))
    costs = read_costs(studio.engine, DAY)
    assert (costs.avatars.count, costs.avatars.total) == (1, usd(20) + usd(4, SPOT))


def test_a_clips_figures_are_spent_and_reserved_by_asset(studio: Studio) -> None:
    studio.clip("r-1", START + HOUR, 30, characters=100)
    figures = figures_of_clip(studio.engine, "r-1")
    assert (figures.tenant, figures.avatar_id, figures.attempts) == ("acme", "ada", 1)
    assert figures.spent == Spent(usd(30, SPOT) + Decimal("0.01"), usd(30) - usd(30, SPOT), Decimal(1800), Decimal(100))
    assert list(figures.by_asset) == ["rendered_clips", "synthesized_speech"]
    assert figures.reserved == Amounts()
    studio.add(request_row("r-2", sent_at=START))
    studio.book.admit(Demand("clip/r-2/0", "clip", Payer("acme", "ada", "r-2"), Amounts(Decimal(1), Decimal(2))))
    waiting = figures_of_clip(studio.engine, "r-2")
    assert (waiting.spent, waiting.attempts, waiting.reserved) == (Spent(), 0, Amounts(Decimal(1), Decimal(2)))


def test_an_avatars_cost_is_its_building_and_its_clips(studio: Studio) -> None:
    studio.avatar("ada", START + HOUR)
    studio.clip("r-1", START + 5 * HOUR, 60, characters=10)
    studio.work("mesh", NEXT + HOUR, 60, payer=ACME)
    cost = cost_of_avatar(studio.engine, "ada")
    assert {name: each.amount for name, each in cost.by_asset.items()} == {
        "mesh": usd(60), "landmarks": usd(20), "greeting_clip": usd(4, SPOT)
    }  # fmt: skip
    assert cost.building == added(cost.by_asset.values())
    assert cost.clips.amount == SPOT + Decimal("0.001")
    assert cost.total == cost.building + cost.clips


def test_what_does_not_exist_is_said_so(studio: Studio) -> None:
    with pytest.raises(NotFound, match="no request 'r-9'"):
        figures_of_clip(studio.engine, "r-9")
    with pytest.raises(NotFound, match="no avatar 'nobody'"):
        cost_of_avatar(studio.engine, "nobody")


def test_days_are_told_in_a_row(studio: Studio) -> None:
    studio.clip("r-1", START + HOUR, 30, characters=100)
    studio.work("landmarks", START + timedelta(days=2), 60, payer=ACME)
    days = [DAY + timedelta(days=number) for number in range(3)]
    assert machines_by_day(studio.engine, days[0], days[2]) == dict(
        zip(days, (usd(30, SPOT), NONE, ON_DEMAND), strict=True)
    )
    spent = spent_by_day(studio.engine, days[0], days[2])
    assert spent == {day: read_costs(studio.engine, day).total.amount for day in days}


# Whatever was spent

words = st.sampled_from(["", "a", "b", "c"])
micros = st.decimals(0, 100, places=6)
entries = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["known-1", "known-2", "open", "gone"]),
        "slot": st.integers(0, 3 * 96 - 1).map(lambda slot: START + slot * timedelta(minutes=15)),
        "kind": st.sampled_from(["compute", "provider", "storage"]),
        "tenant": words,
        "avatar_id": words,
        "reservation": st.sampled_from(["", "clip/r-1/0", "step/run/x/1"]),
        "provider": words,
        "asset": st.sampled_from(["clips", "mesh"]),
        "capacity_type": st.sampled_from(["", "spot", "on-demand"]),
        "amount": micros,
        "on_demand": micros,
        "seconds": micros,
        "characters": micros,
        "currency": st.just("USD"),
    }
)
ENDINGS = {"known-1": "succeeded", "known-2": "interrupted", "open": None}


@pytest.fixture(scope="module")
def memory() -> Engine:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    return engine


@settings(max_examples=60)
@given(rows=st.lists(entries, max_size=20, unique_by=lambda row: (row["source"], row["reservation"], row["slot"])))
def test_whatever_was_spent_every_breakdown_sums_to_the_total_and_the_days_to_it_all(
    memory: Engine, rows: list[dict[str, Any]]
) -> None:
    with Session(memory) as session, session.begin():
        session.query(EntryRow).delete()
        session.query(AttemptRow).delete()
        session.add_all(attempt_row(name, ending) for name, ending in ENDINGS.items())
        for number, row in enumerate(rows):
            no_machine = {} if row["kind"] == "compute" else {"seconds": NONE, "capacity_type": ""}
            session.add(EntryRow(id=number + 1, **(row | no_machine)))
    days = [read_costs(memory, DAY + timedelta(days=number)) for number in range(3)]
    for costs in days:
        add_up(costs)
    with Session(memory) as session:
        total = session.scalar(select(func.sum(EntryRow.amount))) or NONE
        nobodys = session.scalar(
            select(func.sum(EntryRow.amount)).where(EntryRow.reservation == "", EntryRow.kind == "compute")
        )
    assert sum(costs.total.amount for costs in days) == total
    assert sum(costs.unattributed.amount for costs in days) == (nobodys or NONE)
    machines = machines_by_day(memory, DAY, DAY + timedelta(days=2))
    for costs in days:
        others = sum(costs.by_capacity[kind].amount for kind in ("provider", "storage") if kind in costs.by_capacity)
        assert machines[costs.day] == costs.total.amount - others


def attempt_row(name: str, ending: str | None) -> AttemptRow:
    return AttemptRow(
        key=name,
        run_id=name,
        step_key="s",
        number=1,
        asset="mesh",
        partition="p",
        profile="",
        capacity_type="spot",
        price_per_hour=ON_DEMAND,
        price_source="",
        shares={},
        started_at=START,
        metered_until=START,
        ended_at=None if ending is None else NEXT,
        ending=ending,
        seconds=NONE,
        cost=NONE,
    )
