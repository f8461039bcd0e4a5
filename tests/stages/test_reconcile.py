"""The reconciler: what died is settled from what was seen of it, once, and money that nobody needs is free again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import select, text

from avatar_pipeline.budget.prices import Price
from avatar_pipeline.budget.types import ALL, Amounts, AttemptEnd, AttemptStart, Demand, Payer, Unit
from avatar_pipeline.ledger.charges import Charges
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.ledger.spend_schema import EntryRow
from avatar_pipeline.ledger.spend_views import AttemptView
from avatar_pipeline.spot.types import CapacityType, Offering
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.reconcile import QUIET, RECORD_GRACE, ObservedAttempt, Reconciled, end_of, reconcile
from tests.stages.benches import add, avatar_row, make_line, request_row

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LOST = timedelta(seconds=60)
CAP = Decimal("3.6")
"""A tenth of a cent a second."""
SPOT = CapacityType.SPOT


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def at(self, seconds: float) -> datetime:
        self.now = NOON + timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def database(postgres: str) -> str:
    import psycopg

    name = f"reconciled_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    url = postgres.replace("/postgres?", f"/{name}?")
    Ledger(url).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def line(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Line]:
    """A line over an empty ledger, on either database, with a spot price of 36 cents that was looked up at noon."""
    more: dict[str, Any] = {}
    if request.param == "postgresql":
        more["ledger_url"] = SecretStr(request.getfixturevalue("database"))
    line = make_line(tmp_path, clock, lost_after_seconds=60, elevenlabs_price_per_1000_credits=Decimal("0.1"), **more)
    line.money.price_store.add(
        [Price("us-east-1", "g5.xlarge", SPOT, "us-east-1a", Decimal("0.36"), NOON - timedelta(hours=1), "looked up")]
    )
    yield line
    if more:
        with line.ledger.engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)}"))
    line.ledger.close()


def put_aside(line: Line, key: str, usd: str = "0.50", *, request_id: str | None = None) -> str:
    purpose = key.partition("/")[0]
    assert line.spend.admit(Demand(key, purpose, Payer("acme", "ada", request_id), Amounts(Decimal(usd)))).admitted
    return key


def begin(line: Line, number: int = 0, *, paid_by: str | None = None, metered: float = 0, **more: Any) -> str:
    """Begin an attempt at noon, which its ticket pays for, and which is metered for so many seconds."""
    key = f"run-1/landmarks/{number}"
    start = AttemptStart(
        key=key,
        run_id="run-1",
        step_key="landmarks",
        number=number,
        asset="landmarks",
        partition="ada",
        started_at=NOON,
        price_per_hour=CAP,
        price_source="test",
    )
    line.spend.begin(replace(start, **more), {paid_by or put_aside(line, f"step/{key}"): 1})
    line.spend.meter(key, NOON + timedelta(seconds=metered))
    return key


def seen(number: int = 0, **more: Any) -> ObservedAttempt:
    return ObservedAttempt("run-1", "landmarks", number, "landmarks", "ada", **more)


def on_spot(number: int = 0, *, ended: float | None = None, **more: Any) -> ObservedAttempt:
    """An attempt as the executor recorded it: on a g5.xlarge in a zone, that it had from 20 seconds before noon on."""
    if ended is not None:
        more = {
            "started_at": NOON - 20 * SECOND,
            "ended_at": NOON + timedelta(seconds=ended),
            "ending": "interrupted",
            "instance_type": "g5.xlarge",
            "zone": "us-east-1a",
            "price": Decimal("0.5"),
        } | more
    offerings = tuple(Offering(kind, "us-east-1a", SPOT) for kind in ("g5.xlarge", "g6e.xlarge"))
    return seen(number, **({"profile": "gpu-small", "capacity_type": "spot", "offerings": offerings} | more))


def attempt(line: Line, number: int = 0) -> AttemptView:
    found = line.spend.attempt(f"run-1/landmarks/{number}")
    assert found is not None
    return found


def spent(line: Line) -> Decimal:
    return sum(line.spend.hourly(ALL, Unit.USD, NOON - timedelta(days=2)).values(), Decimal(0))


def entries(line: Line) -> list[EntryRow]:
    with reading(line.ledger.engine) as session:
        return list(session.scalars(select(EntryRow).order_by(EntryRow.id)))


# Steps that no executor keeps records of


def test_an_attempt_that_is_at_work_is_left_alone(line: Line, clock: Clock) -> None:
    begin(line, metered=30)
    clock.at(600)
    assert reconcile(line, [seen(last_sign=NOON)]) == Reconciled()
    assert [one.key for one in line.spend.open_attempts()] == ["run-1/landmarks/0"]


def test_a_killed_worker_is_settled_at_its_last_sign_when_its_run_is_closed(line: Line, clock: Clock) -> None:
    """The run is closed a minute after the worker died; the machine did other things by then."""
    key = begin(line, metered=30)
    line.spend.release(f"step/{key}")
    clock.at(120)
    died = seen(run_finished_at=NOON + 95 * SECOND, last_sign=NOON + 34 * SECOND)
    assert reconcile(line, [died]) == Reconciled(settled=(key,))
    assert (attempt(line).ended_at, attempt(line).ending) == (NOON + 34 * SECOND, "vanished")
    assert spent(line) == Decimal("0.034")
    ticket = line.spend.get(f"step/{key}")
    assert ticket is not None and (ticket.state, ticket.used.compute) == ("settled", Decimal("0.034"))
    assert reconcile(line, [died]) == Reconciled(), "once"


def test_what_was_metered_is_never_taken_back(line: Line, clock: Clock) -> None:
    begin(line, metered=30)
    clock.at(300)
    reconcile(line, [seen(ended_at=NOON + 10 * SECOND, ending="user_error", run_finished_at=NOON + 40 * SECOND)])
    assert (attempt(line).ended_at, attempt(line).ending) == (NOON + 30 * SECOND, "user_error")
    assert spent(line) == Decimal("0.03")


def test_a_step_whose_end_could_not_be_written_down_ends_when_the_event_log_says(line: Line, clock: Clock) -> None:
    """Its run goes on with other steps for long after."""
    begin(line, metered=30)
    clock.at(3600)
    assert reconcile(line, [seen(ended_at=NOON + 37 * SECOND, ending="succeeded")]).settled
    assert (attempt(line).ended_at, attempt(line).ending) == (NOON + 37 * SECOND, "succeeded")


def test_an_attempt_of_a_run_that_is_gone_is_settled_after_a_while_of_silence(line: Line, clock: Clock) -> None:
    begin(line, metered=30)
    clock.at(80)
    assert not reconcile(line, []).settled
    clock.at(91)
    assert reconcile(line, []).settled
    assert spent(line) == Decimal("0.03")


def test_an_attempt_is_over_when_the_next_one_of_its_step_is_there(line: Line, clock: Clock) -> None:
    first = begin(line, metered=30)
    begin(line, 1, started_at=NOON + 50 * SECOND, metered=60)
    clock.at(61)
    assert reconcile(line, [seen(0), seen(1)]).settled == (first,)


# Steps on machines that come and go


def test_a_recorded_end_brings_the_real_machine_its_price_and_the_time_before_the_worker(
    line: Line, clock: Clock
) -> None:
    """Metered at the cap, 3 cents; it was 60 s of a machine of 36 cents an hour."""
    key = begin(line, metered=30, profile="gpu-small", capacity_type="spot", price_source="placement")
    clock.at(45)
    assert reconcile(line, [on_spot(ended=40)]) == Reconciled(settled=(key,))
    known = attempt(line)
    assert (known.instance_type, known.zone, known.capacity_type) == ("g5.xlarge", "us-east-1a", "spot")
    assert (known.price_per_hour, known.price_source) == (Decimal("0.36"), "looked up")
    assert (known.seconds, known.cost, known.ending) == (Decimal(60), Decimal("0.006"), "interrupted")
    assert known.on_demand_price == Decimal("1.006")
    assert spent(line) == Decimal("0.006")
    assert {(row.instance_type, row.capacity_type) for row in entries(line)} == {("g5.xlarge", "spot")}


def test_the_price_is_that_of_its_time_not_of_today(line: Line, clock: Clock) -> None:
    begin(line, metered=30, profile="gpu-small")
    dearer = Price("us-east-1", "g5.xlarge", SPOT, "us-east-1a", Decimal("0.72"), NOON + 10 * SECOND, "later")
    line.money.price_store.add([dearer])
    clock.at(86400)
    reconcile(line, [on_spot(ended=40)])
    assert attempt(line).price_per_hour == Decimal("0.36")


def test_a_machine_that_no_list_knows_costs_what_the_executor_reckoned(line: Line, clock: Clock) -> None:
    begin(line, metered=30, profile="gpu-small")
    clock.at(45)
    told = on_spot(ended=40, instance_type="x9.huge", price=Decimal("0.51234567"), on_demand_price=Decimal("1.5"))
    assert not reconcile(line, [told]).unpriced
    assert (attempt(line).price_per_hour, attempt(line).price_source) == (Decimal("0.512346"), "executor")
    assert attempt(line).on_demand_price == Decimal("1.5")


def test_a_machine_that_nobody_saw_stays_at_the_most_it_can_have_cost(line: Line, clock: Clock) -> None:
    key = begin(line, metered=30, profile="gpu-small", capacity_type="spot")
    clock.at(45)
    told = on_spot(ended=40, instance_type=None, zone=None, price=None)
    assert reconcile(line, [told]).unpriced == (key,)
    assert attempt(line).price_per_hour == CAP


def test_the_executors_record_is_waited_for_where_only_the_worker_has_spoken(line: Line, clock: Clock) -> None:
    """What is settled is settled: a price that comes later would be too late."""
    begin(line, metered=30, profile="gpu-small")
    clock.at(31)
    spoken = on_spot(ended_at=NOON + 30 * SECOND, ending="succeeded", provisional=True)
    over = replace(spoken, run_finished_at=NOON + 31 * SECOND)
    assert not reconcile(line, [spoken]).settled
    clock.at(120)
    assert not reconcile(line, [over]).settled
    clock.at(152)
    assert reconcile(line, [over]).settled
    assert attempt(line).ending == "succeeded"


def test_an_attempt_of_a_finished_run_without_a_record_is_settled_after_its_grace(line: Line, clock: Clock) -> None:
    key = begin(line, metered=30, profile="gpu-small")
    orphan = on_spot(run_finished_at=NOON + 40 * SECOND, last_sign=NOON + 40 * SECOND)
    clock.at(100)
    assert not reconcile(line, [orphan]).settled
    clock.at(160)
    assert reconcile(line, [orphan]) == Reconciled(settled=(key,), unpriced=(key,))
    assert attempt(line).ended_at == NOON + 30 * SECOND


def test_a_worker_that_outlives_its_run_is_settled_only_when_it_is_silent(line: Line, clock: Clock) -> None:
    begin(line, metered=200, profile="gpu-small")
    orphan = on_spot(run_finished_at=NOON + 40 * SECOND)
    clock.at(250)
    assert not reconcile(line, [orphan]).settled
    clock.at(260)
    assert reconcile(line, [orphan]).settled
    assert spent(line) == Decimal("0.2")


def test_a_pod_that_died_before_its_worker_began_is_paid_by_what_its_batch_has_yet_to_make(
    line: Line, clock: Clock
) -> None:
    add(line.ledger, avatar_row("ada", NOON))
    texts = {"clip-1": "x", "clip-2": "xxx", "clip-3": "x"}
    for position, (name, words) in enumerate(texts.items()):
        key = put_aside(line, f"clip/{name}/0", request_id=name)
        payload = {"version": 1, "request_id": name, "avatar_id": "ada", "text": words}
        row = request_row(name, sent_at=NOON, batch_id="batch-1", position=position, payload=payload, reservation=key)
        row.state = "done" if name == "clip-3" else "claimed"
        add(line.ledger, row)
    clock.at(60)
    lost = replace(on_spot(ended=40), step_key="rendered_clips", asset="rendered_clips", partition="batch-1")
    key = "run-1/rendered_clips/0"
    assert reconcile(line, [lost]) == Reconciled(found=(key,))
    paid: dict[str, Decimal] = {}
    for row in entries(line):
        paid[row.reservation] = paid.get(row.reservation, Decimal(0)) + row.amount
    assert paid == {"clip/clip-1/0": Decimal("0.0015"), "clip/clip-2/0": Decimal("0.0045")}
    assert reconcile(line, [lost]) == Reconciled(), "once"


def test_a_pod_that_died_before_its_worker_began_is_paid_by_the_attempt_after_it(line: Line, clock: Clock) -> None:
    begin(line, 1, started_at=NOON + 50 * SECOND, profile="gpu-small")
    clock.at(60)
    assert reconcile(line, [on_spot(ended=40), on_spot(1)]).found == ("run-1/landmarks/0",)
    ticket = line.spend.get("step/run-1/landmarks/1")
    assert ticket is not None and ticket.used.compute == Decimal("0.006")


def test_a_pod_that_died_unknown_with_nobody_to_pay_for_it_is_spent_all_the_same(line: Line, clock: Clock) -> None:
    clock.at(60)
    told = on_spot(ended=40, instance_type=None, zone=None, price=None)
    dearest = line.prices.highest(told.offerings).per_hour
    assert reconcile(line, [told]).unpriced == ("run-1/landmarks/0",)
    assert attempt(line).price_per_hour == dearest
    assert spent(line) == (60 * dearest / 3600).quantize(Decimal("0.000001"))


def test_an_attempt_that_never_had_a_machine_costs_nothing(line: Line, clock: Clock) -> None:
    clock.at(700)
    waited = on_spot(ended=600, ending="no_capacity", started_at=None, instance_type=None, zone=None, price=None)
    assert reconcile(line, [waited]) == Reconciled()
    assert line.spend.attempt("run-1/landmarks/0") is None


# What decides


@given(
    metered=st.integers(0, 1000),
    waited=st.integers(0, 5000),
    ended=st.none() | st.integers(-100, 5000),
    finished=st.none() | st.integers(0, 5000),
    sign=st.none() | st.integers(-100, 5000),
    profile=st.sampled_from(["", "gpu-small"]),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_an_end_is_never_before_what_was_metered_and_in_the_end_everything_ends(
    metered: int,
    waited: int,
    ended: int | None,
    finished: int | None,
    sign: int | None,
    profile: str,
    flags: tuple[bool, bool, bool],
) -> None:
    there, provisional, followed = flags

    def at(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOON + timedelta(seconds=seconds)

    view = _view(metered, profile)
    told = seen(
        ended_at=at(ended),
        provisional=provisional,
        run_finished_at=at(finished),
        last_sign=at(sign),
        profile=profile or None,
    )
    now = view.metered_until + timedelta(seconds=waited)
    end = end_of(view, told if there else None, followed=followed, now=now, lost_after=LOST)
    if end is not None:
        assert end.at >= view.metered_until
        known = [moment for moment in (at(ended), at(finished)) if moment is not None]
        assert end.at <= max([view.metered_until, *known])
    over = followed or not there or finished is not None or (ended is not None and not provisional)
    patience = max(LOST, RECORD_GRACE, QUIET) + timedelta(seconds=finished or 0)
    later = end_of(view, told if there else None, followed=followed, now=now + patience, lost_after=LOST)
    assert (later is not None) == over


def _view(metered: int, profile: str) -> AttemptView:
    return AttemptView(
        key="run-1/landmarks/0",
        run_id="run-1",
        step_key="landmarks",
        number=0,
        asset="landmarks",
        partition="ada",
        profile=profile,
        capacity_type="spot",
        instance_type=None,
        zone=None,
        price_per_hour=CAP,
        on_demand_price=None,
        price_source="test",
        shares={},
        started_at=NOON,
        metered_until=NOON + timedelta(seconds=metered),
        ended_at=None,
        ending=None,
        seconds=Decimal(metered),
        cost=Decimal(0),
    )


# Reservations whose lease ran out


def wanted(line: Line) -> dict[str, bool]:
    """Which of the reservations are open."""
    keys = ("clip/clip-1/0", "step/run-1/landmarks/0")
    return {key: found.is_open for key in keys if (found := line.spend.get(key)) is not None}


@pytest.mark.parametrize(
    ("state", "reservation", "open_afterwards"),
    [
        ("claimed", "clip/clip-1/0", True),
        ("running", "clip/clip-1/0", True),
        ("queued", "clip/clip-1/0", True),
        ("held", None, False),
        ("claimed", "clip/clip-1/1", False),
        ("done", "clip/clip-1/0", False),
        ("failed", "clip/clip-1/0", False),
        ("gone", None, False),
    ],
)
def test_what_was_put_aside_for_a_request_is_free_when_that_needs_it_no_more(
    line: Line, clock: Clock, state: str, reservation: str | None, open_afterwards: bool
) -> None:
    key = put_aside(line, "clip/clip-1/0", request_id="clip-1")
    if state != "gone":
        row = request_row("clip-1", sent_at=NOON, reservation=reservation)
        row.state = state
        add(line.ledger, row)
    clock.at(29 * 60)
    assert reconcile(line, []) == Reconciled(), "its lease holds"
    clock.at(31 * 60)
    done = reconcile(line, [])
    assert (done.extended, done.closed) == (((key,), ()) if open_afterwards else ((), (key,)))
    assert wanted(line) == {key: open_afterwards}
    assert reconcile(line, []) == Reconciled(), "not looked at again so soon"
    found = line.spend.get(key)
    assert found is not None and found.finished == (state == "done")


def test_what_was_put_aside_for_a_step_that_runs_is_kept(line: Line, clock: Clock) -> None:
    put_aside(line, "step/run-1/landmarks/0")
    begin(line, paid_by="step/run-1/landmarks/0")
    clock.at(31 * 60)
    assert reconcile(line, [seen()]).extended == ("step/run-1/landmarks/0",)


def test_what_was_put_aside_for_a_step_is_free_once_that_has_ended(line: Line, clock: Clock) -> None:
    """Its worker settled it, and died before it let go of the money."""
    key = begin(line, metered=30)
    line.spend.settle(key, AttemptEnd(NOON + 30 * SECOND, "succeeded"))
    clock.at(31 * 60)
    assert reconcile(line, []).closed == (f"step/{key}",)
    ticket = line.spend.get(f"step/{key}")
    assert ticket is not None and ticket.finished


def test_what_was_put_aside_for_a_dead_step_is_free_at_the_same_call_that_settles_it(line: Line, clock: Clock) -> None:
    key = begin(line, metered=30)
    clock.at(3 * 60)
    done = reconcile(line, [seen(run_finished_at=NOON + 95 * SECOND, last_sign=NOON + 34 * SECOND)])
    assert done.settled == (key,), "long before its lease is over"
    assert wanted(line) == {f"step/{key}": False}


@pytest.mark.parametrize(
    ("observed", "kept"),
    [
        ([seen()], True),
        ([seen(run_finished_at=NOON)], False),
        ([seen(), seen(1)], False),
        ([], False),
    ],
)
def test_what_was_put_aside_for_a_step_that_never_began_is_free_when_its_run_is_over(
    line: Line, clock: Clock, observed: list[ObservedAttempt], kept: bool
) -> None:
    key = put_aside(line, "step/run-1/landmarks/0")
    clock.at(31 * 60)
    reconcile(line, observed)
    assert wanted(line) == {key: kept}


def test_a_reservation_that_an_open_attempt_pays_with_stays_until_that_is_settled(line: Line, clock: Clock) -> None:
    clip = put_aside(line, "clip/clip-1/0", request_id="clip-1")
    key = begin(line, paid_by=clip, metered=30)
    clock.at(61 * 60)
    done = reconcile(line, [seen()])
    assert (done.closed, done.extended) == ((clip,), (clip,)), "let go of, and looked at again"
    assert wanted(line) == {clip: True}
    reconcile(line, [seen(ended_at=NOON + 40 * SECOND, ending="succeeded")])
    assert line.spend.open_attempts() == [] and wanted(line) == {clip: False}, key


def test_a_kind_of_reservation_that_nobody_knows_is_kept(line: Line, clock: Clock) -> None:
    put_aside(line, "other/thing")
    clock.at(31 * 60)
    assert reconcile(line, []).extended == ("other/thing",)


# Bills


def test_a_bill_that_was_never_written_down_as_spent_is(line: Line, clock: Clock) -> None:
    clip = put_aside(line, "clip/clip-1/0", request_id="clip-1")
    careless = Charges(line.ledger.engine, clock=clock)
    for item, credits, reservation in (("one", "1000", clip), ("nothing", "0", None), ("other", "500", None)):
        careless.reserve("elevenlabs", item, Decimal(credits), tenant="acme", available=None, reservation=reservation)
        careless.settle("elevenlabs", item, Decimal(credits), request_id=item)
    careless.reserve("elevenlabs", "sent", Decimal(9), tenant="acme", available=None)
    clock.at(10)
    assert set(reconcile(line, []).charged) == {"elevenlabs/one", "elevenlabs/other"}
    assert spent(line) == Decimal("0.15")
    found = line.spend.get(clip)
    assert found is not None and found.used == Amounts(provider=Decimal("0.1"), characters=Decimal(1000))
    assert reconcile(line, []) == Reconciled()


def test_a_bill_that_is_written_down_is_not_written_again(line: Line, clock: Clock) -> None:
    line.charges.reserve("elevenlabs", "one", Decimal(1000), tenant="acme", available=None)
    line.charges.settle("elevenlabs", "one", Decimal(1000), request_id="r")
    assert reconcile(line, []) == Reconciled()
    assert spent(line) == Decimal("0.1")
