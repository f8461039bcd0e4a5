"""The watch over budgets: alerts once each, hard stops where nothing can begin, degraded runs, whole avatars."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from avatar_pipeline.budget.types import (
    Amounts,
    AttemptEnd,
    AttemptStart,
    Degraded,
    Demand,
    Payer,
    ProviderCharge,
    Scope,
    ScopeKind,
)
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.stages.budget_watch import all_stopped, batch_refused, watch
from avatar_pipeline.stages.build_budget import STEPS, Builds, release_avatars
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.posture import batch_posture, posture
from avatar_pipeline.stages.standing_down import stand_down_batches
from tests.stages.benches import add, avatar_row, make_line

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CAPS = {"clip": "0.10", "avatar": "1.00", "default": "0.01"}
Opened = Callable[..., Line]


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Opened]:
    """Open a line with budgets of one's own, in which the avatars `ada` and `eve` are ready."""
    lines: list[Line] = []

    def make(*rules: dict[str, object], **more: object) -> Line:
        file = tmp_path / "budgets.json"
        file.write_text(json.dumps({"version": 1, "caps": CAPS, "budgets": rules} | more))
        line = make_line(tmp_path, clock, budgets=file)
        for name in ("ada", "eve"):
            add(line.ledger, avatar_row(name, NOON))
        lines.append(line)
        return line

    yield make
    for line in lines:
        line.ledger.close()


def everything(**more: object) -> dict[str, object]:
    return {"name": "everything", "scope": "all"} | more


def spend(line: Line, usd: str, *, tenant: str = "", at: datetime | None = None) -> None:
    at = at or line.clock()
    charge = ProviderCharge(
        key=f"spent-{tenant}-{at.isoformat()}-{usd}",
        provider="elsewhere",
        reservation=None,
        payer=Payer(tenant=tenant, provider="elsewhere"),
        asset="synthesized_speech",
        usd=Decimal(usd),
        characters=Decimal(0),
        at=at,
    )
    assert line.spend.charge(charge)


def told(line: Line) -> list[tuple[str, Decimal]]:
    return [(alert.kind, alert.threshold) for alert in watch(line).alerts]


# Alerts


def test_a_threshold_is_told_once_a_period_whoever_looks(opened: Opened, clock: Clock) -> None:
    line = opened(everything(day="10"))
    assert watch(line).outlooks[0].standing.settled == 0
    spend(line, "8")
    assert told(line) == [("actual", Decimal("0.5")), ("actual", Decimal("0.8"))]
    assert told(line) == []
    line.budgets.set("everything/day", Decimal(9), who="test", reason="less")
    assert told(line) == [], "once a period, though the limit is lowered"
    clock.now += timedelta(days=1)
    spend(line, "5.00")
    assert told(line) == [("actual", Decimal("0.5"))]


def test_after_a_raise_it_is_told_again_of_what_is_crossed_anew_and_not_of_what_was_spent_before(
    opened: Opened, clock: Clock
) -> None:
    line = opened(everything(day="10"))
    spend(line, "10")
    assert [threshold for _, threshold in told(line)] == [Decimal("0.5"), Decimal("0.8"), Decimal(1)]
    clock.now += timedelta(hours=1)
    line.budgets.set("everything/day", Decimal(18), who="test", reason="more")
    assert told(line) == [], "more than half of the new limit was spent before it was raised"
    spend(line, "5")
    assert told(line) == [("actual", Decimal("0.8"))]
    assert told(line) == []


def test_the_last_24_hours_begin_anew_every_quarter_of_an_hour_and_are_told_of_once(
    opened: Opened, clock: Clock
) -> None:
    line = opened(everything(rolling_24h="10"))
    spend(line, "5")
    assert told(line) == [("actual", Decimal("0.5"))]
    for _ in range(8):
        clock.now += timedelta(hours=2)
        assert told(line) == []
    clock.now += timedelta(hours=16)
    spend(line, "5.00")
    assert told(line) == [("actual", Decimal("0.5"))], "a day later it is news"


def test_two_that_look_at_the_same_time_tell_it_once(opened: Opened) -> None:
    line = opened(everything(day="10"))
    spend(line, "5")
    standing = watch(line).outlooks[0].standing
    again = line.budgets.raise_alert(standing.limit_id, standing.starts_at, "actual", Decimal("0.5"), Decimal(1), "?")
    assert not again


def test_what_will_be_spent_is_told_before_it_is(opened: Opened, clock: Clock) -> None:
    line = opened(everything(month="600"), alerts={"url": "https://example.com/alerts"})
    for hour in range(48):
        spend(line, "3", at=NOON - timedelta(hours=hour + 1))
    (alert,) = watch(line).alerts
    assert alert.kind == "forecast"
    assert "everything/month" in alert.message
    assert "as it looks now" in alert.message
    assert told(line) == []
    (callback,) = line.callbacks.list()
    assert callback.url == "https://example.com/alerts"


def test_the_figures_name_the_fullest_limits_first(opened: Opened) -> None:
    line = opened(everything(day="100", week="50"))
    spend(line, "20")
    figures = watch(line).figures
    assert figures.startswith("everything/week 40 % (20.00 of US$ 50.00 spent, 0.00 reserved); everything/day 20 %")


def test_without_spending_and_budgets_there_is_nothing_to_tell(opened: Opened) -> None:
    watched = watch(opened())
    assert (watched.outlooks, watched.alerts, watched.stops) == ((), (), ())


# Hard stops


def test_a_limit_stops_where_it_has_no_room_for_the_least_that_waits(opened: Opened) -> None:
    line = opened(everything(day="1.00"))
    spend(line, "0.95")
    assert watch(line).stops == (), "nothing waits"
    line.requests.submit([ClipRequest(request_id="clip-1", avatar_id="ada", text="Yes.")])
    (stop,) = watch(line).stops
    assert (stop.standing.limit_id, stop.least, stop.is_spent) == ("everything/day", Decimal("0.10"), False)
    spend(line, "0.05")
    assert watch(line).stops[0].is_spent
    assert "nothing more can begin" in str(all_stopped(line))


def test_money_that_is_put_aside_is_no_room_but_it_is_not_spent(opened: Opened) -> None:
    line = opened(everything(day="1.00"))
    line.spend.admit(Demand("work", "clip", Payer(), Amounts(compute=Decimal("0.95"))))
    line.requests.submit([ClipRequest(request_id="clip-1", avatar_id="ada", text="Yes.")])
    (stop,) = watch(line).stops
    assert not stop.is_spent
    assert watch(line).stops_all


def test_a_stop_is_of_those_whose_limit_it_is(opened: Opened) -> None:
    line = opened({"name": "tenants", "scope": "tenant", "day": "1.00"})
    spend(line, "1.00", tenant="poor")
    spend(line, "0.10", tenant="rich")
    watched = watch(line)
    assert [stop.standing.scope for stop in watched.stops] == [Scope(ScopeKind.TENANT, "poor")]
    assert not watched.stops_all
    assert all_stopped(line) is None
    assert batch_refused(line) is None


def test_a_batch_that_could_not_go_through_its_steps_is_not_to_be_opened(opened: Opened) -> None:
    line = opened(everything(day="1.00"))
    assert batch_refused(line) is None
    spend(line, "0.999999")
    assert "everything/day" in str(batch_refused(line))


def test_a_batch_of_several_tenants_goes_on_if_one_of_them_has_no_money_left(opened: Opened) -> None:
    line = opened({"name": "tenants", "scope": "tenant", "day": "1.00"})
    names = {"clip-1": "poor", "clip-2": "rich"}
    line.requests.submit(
        [ClipRequest(request_id=name, avatar_id="ada", tenant=who, text="Yes.") for name, who in names.items()]
    )
    line.requests.claim("batch-1", 10)
    spend(line, "1.00", tenant="poor")
    assert stand_down_batches(line, watch(line).stops, {"run-1": "batch-1"}) == []
    spend(line, "1.00", tenant="rich")
    stops = watch(line).stops
    assert stand_down_batches(line, stops, {"run-1": "batch-1"}) == [], "each has spent a limit of its own"
    line.requests.finish("clip-2", clip_key="key")
    assert [one.run_id for one in stand_down_batches(line, stops, {"run-1": "batch-1"})] == ["run-1"]
    assert line.requests.get("clip-1").held_by == "tenants/day@tenant:poor"


# How work runs


def test_work_runs_degraded_where_one_of_its_limits_says_so(opened: Opened) -> None:
    line = opened(
        everything(day="100", degrade={"at": 0.5, "priority": -2}),
        {"name": "tenants", "scope": "tenant", "day": "10", "degrade": {"at": 0.5, "spot_only": True, "priority": -5}},
    )
    assert posture(line, Payer(tenant="acme")) is None
    spend(line, "6", tenant="acme")
    assert posture(line, Payer(tenant="acme")) == Degraded(spot_only=True, priority=-5)
    assert posture(line, Payer(tenant="other")) is None
    spend(line, "50")
    assert posture(line, Payer(tenant="other")) == Degraded(priority=-2)


def test_a_batch_is_set_back_only_as_far_as_all_in_it_are(opened: Opened) -> None:
    line = opened(
        {"name": "tenants", "scope": "tenant", "day": "10", "degrade": {"at": 0.5, "spot_only": True, "priority": -5}},
    )
    spend(line, "6", tenant="acme")
    line.requests.submit([ClipRequest(request_id="clip-1", avatar_id="ada", tenant="acme", text="Yes.")])
    assert batch_posture(line) == Degraded(spot_only=True, priority=-5)
    line.requests.claim("batch-1", 10)
    line.requests.submit([ClipRequest(request_id="clip-2", avatar_id="eve", tenant="other", text="Yes.")])
    assert batch_posture(line) is None
    assert batch_posture(line, "batch-1") == Degraded(spot_only=True, priority=-5)


# Whole avatars


def ask(name: str, **more: object) -> AvatarRequest:
    places = {"video_uri": "file:///v.mp4", "consent_uri": "file:///c.json"}
    return AvatarRequest.model_validate({"request_id": name, "avatar_id": name} | places | more)


def learn(line: Line, step: str, *, seconds: int, units: int, count: int = 5) -> None:
    """Have a step been done some times before."""
    for number in range(count):
        key = f"{step}-{number}"
        line.spend.admit(Demand(key, step, Payer(), Amounts(compute=Decimal("1.00")), units=Decimal(units)))
        start = AttemptStart(key, key, step, 0, step, "", line.clock(), Decimal(1), "test")
        line.spend.begin(start, {key: 1})
        line.spend.settle(key, AttemptEnd(line.clock() + timedelta(seconds=seconds), "succeeded"))
        line.spend.release(key, finished=True)


def test_a_build_takes_its_cap_until_every_step_is_known_and_then_all_of_them_together(
    opened: Opened,
) -> None:
    line = opened(everything(month="1000"))
    assert Builds(line).demand(ask("bob")).amounts == Amounts(compute=Decimal("1.00"))
    for step in STEPS[:-1]:
        learn(line, step, seconds=60, units=10)
    assert Builds(line).demand(ask("bob")).amounts == Amounts(compute=Decimal("1.00"))
    learn(line, STEPS[-1], seconds=3600, units=10)
    # In another process: in this one, what was learnt is looked up again after half a minute.
    one = line.estimates.work("landmarks", Decimal(10)).compute
    assert Builds(line).demand(ask("bob")).amounts.compute > len(STEPS) * one


def test_builds_are_reckoned_with_one_after_the_other(opened: Opened) -> None:
    line = opened(everything(month="2.50"))
    builds = Builds(line)
    assert [builds.refused(ask(name)) is None for name in ("bob", "eve", "joe")] == [True, True, False]
    refused = builds.refused(ask("joe"))
    assert refused is not None
    assert refused.limit_id == "everything/month"
    fewer = Builds(line)
    fewer.reckon(ask("at-work"))
    assert [fewer.refused(ask(name)) is None for name in ("bob", "eve")] == [True, False]


def test_avatars_that_a_budget_holds_are_let_go_the_most_urgent_first(opened: Opened) -> None:
    line = opened(everything(month="0.50"))
    requests = [ask("bob"), ask("eve", priority=5), ask("joe")]
    line.requests.submit(requests)
    for request in requests:
        refused = Builds(line).refused(request)
        assert refused is not None
        assert line.requests.hold_for_budget(request.request_id, refused, NOON)
    assert release_avatars(line) == 0
    line.budgets.set("everything/month", Decimal("2.00"), who="test", reason="more")
    assert release_avatars(line) == 2
    assert [line.requests.get(name).state for name in ("bob", "eve", "joe")] == ["queued", "queued", "held"]
