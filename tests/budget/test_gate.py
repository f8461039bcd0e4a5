"""The gate admits what all limits have room for, and says exactly why it does not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.config import DegradeRule, Limit, OffPeak, Period
from avatar_pipeline.budget.explain import explain
from avatar_pipeline.budget.gate import SOON, decide
from avatar_pipeline.budget.types import (
    ALL,
    Admission,
    Amounts,
    Decision,
    Degraded,
    Demand,
    Payer,
    Scope,
    ScopeKind,
    Standing,
    Unit,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
ACME, VOICES = Scope(ScopeKind.TENANT, "acme"), Scope(ScopeKind.PROVIDER, "elevenlabs")
SPOT = DegradeRule(Decimal("0.8"), spot_only=True, priority=-5)
NIGHT = DegradeRule(Decimal("0.5"), off_peak=OffPeak.parse("20:00-07:00"))
Stand = tuple[Limit, Standing]


def stands(
    settled: str,
    reserved: str = "0",
    hard: str = "200",
    *,
    name: str = "everything/day",
    scope: Scope = ALL,
    unit: Unit = Unit.USD,
    period: Period = Period.DAY,
    ends_at: datetime | None = MIDNIGHT,
    degrade: DegradeRule | None = None,
) -> Stand:
    limit = Limit(name, scope, unit, period, Decimal(hard), degrade=degrade)
    start = MIDNIGHT - timedelta(days=1)
    return limit, Standing(
        name, scope, unit, period, start, ends_at, Decimal(hard), Decimal(settled), Decimal(reserved)
    )


def demand(compute: str = "4.10", provider: str = "0", characters: str = "0", **more: object) -> Demand:
    amounts = Amounts(Decimal(compute), Decimal(provider), Decimal(characters))
    return Demand("clip/r1/0", "clip", Payer("acme", "ada", "r1", "elevenlabs"), amounts, **more)  # type: ignore[arg-type]


def test_what_no_budget_limits_is_admitted() -> None:
    assert decide(demand(), [], NOW) == Admission(Decision.ADMIT, "clip/r1/0", "No budget limits this.")


def test_what_fits_exactly_is_admitted() -> None:
    answer = decide(demand(), [stands("185.50", "10.40")], NOW)
    assert answer.admitted
    assert answer.reason == "everything/day: US$ 200.00 a day, 185.50 spent, 10.40 reserved, this takes up to 4.10."
    assert not decide(demand("4.100001"), [stands("185.50", "10.40")], NOW).admitted


def test_a_hold_tells_the_limit_the_figures_and_when_the_period_turns() -> None:
    full = stands("197.20", "2.40")
    answer = decide(demand(), [full], NOW)
    assert answer == Admission(
        Decision.HOLD,
        "clip/r1/0",
        "everything/day: US$ 200.00 a day, 197.20 spent, 2.40 reserved, this takes up to 4.10; "
        "it is tried again at 2026-11-25 00:00 UTC.",
        binding=full[1],
        asked=Decimal("4.10"),
        retry_at=MIDNIGHT,
    )
    assert "at 2026-11-25 01:00 CET." in decide(demand(), [full], NOW, timezone="Europe/Berlin").reason
    assert "at 2026-11-25 05:45 UTC+05:45." in decide(demand(), [full], NOW, timezone="Asia/Kathmandu").reason


def test_where_only_reservations_are_in_the_way_it_is_tried_again_soon() -> None:
    answer = decide(demand(), [stands("187.20", "10.40")], NOW)
    assert answer.retry_at == NOW + SOON
    assert answer.reason.endswith("tried again at 2026-11-24 12:01 UTC, or as soon as reservations are settled.")


def test_what_is_more_than_the_whole_limit_waits_until_it_is_raised() -> None:
    answer = decide(demand("200.01"), [stands("0")], NOW)
    assert answer.retry_at is None
    assert answer.reason.endswith("this takes up to 200.01; it waits until the limit is raised.")


def test_a_limit_of_nothing_admits_nothing() -> None:
    answer = decide(demand("0.000001"), [stands("0", hard="0")], NOW)
    assert (answer.decision, answer.retry_at) == (Decision.HOLD, None)
    assert "US$ 0.00 a day, 0.00 spent, 0.00 reserved, this takes up to 0.000001" in answer.reason


def test_a_limit_that_nothing_is_asked_of_has_no_say() -> None:
    full = stands("100", hard="10", name="voices/month", scope=VOICES, unit=Unit.CHARACTERS, degrade=SPOT)
    assert decide(demand(), [full], NOW).decision is Decision.ADMIT
    assert decide(demand(characters="1"), [full], NOW).binding == full[1]


def test_a_providers_limit_counts_its_own_dollars_and_characters() -> None:
    dollars = stands("0", hard="1", name="voices/day", scope=VOICES)
    assert decide(demand("50", provider="1"), [dollars], NOW).admitted
    held = decide(
        demand("0", characters="1500"),
        [stands("98000", hard="99000", scope=VOICES, unit=Unit.CHARACTERS, period=Period.MONTH, name="voices/month")],
        NOW,
    )
    assert "voices/month: 99,000 characters a month, 98,000 spent, 0 reserved, this takes up to 1,500;" in held.reason


def test_of_several_limits_without_room_the_one_that_lacks_most_is_named() -> None:
    some, more = stands("198"), stands("99", hard="100", name="tenants/day@tenant:acme", scope=ACME)
    for several in ([some, more], [more, some]):
        answer = decide(demand(), several, NOW)
        assert answer.binding is not None
        assert answer.binding.limit_id == "tenants/day@tenant:acme"


def test_one_full_limit_holds_though_all_others_have_room() -> None:
    room = stands("0", hard="1000000", name="everything/month", period=Period.MONTH)
    assert decide(demand(), [room, stands("200"), room], NOW).decision is Decision.HOLD


def test_the_last_24_hours_are_tried_again_when_their_oldest_spending_leaves() -> None:
    leaves = NOW + timedelta(hours=3)
    burst = stands("199", name="everything/rolling_24h", period=Period.ROLLING, ends_at=leaves)
    assert decide(demand(), [burst], NOW).retry_at == leaves
    assert decide(demand(), [(burst[0], replace(burst[1], ends_at=None))], NOW).retry_at == NOW + SOON


def test_a_period_that_should_have_turned_already_is_not_tried_again_at_once() -> None:
    assert decide(demand(), [stands("200", ends_at=NOW - timedelta(hours=1))], NOW).retry_at == NOW + SOON


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity"])
def test_an_amount_that_would_make_room_is_an_error(amount: str) -> None:
    with pytest.raises(ValueError, match="no amount to reserve"):
        decide(demand(amount), [stands("0")], NOW)


def test_work_is_degraded_once_a_share_of_the_limit_is_spent() -> None:
    assert decide(demand(), [stands("159.99", "20", degrade=SPOT)], NOW).decision is Decision.ADMIT
    answer = decide(demand(), [stands("160", degrade=SPOT)], NOW)
    assert (answer.decision, answer.degraded) == (Decision.DEGRADE, Degraded(True, -5))
    assert answer.admitted
    assert answer.reason == (
        "everything/day: 80 % of US$ 200.00 a day spent, this takes up to 4.10; "
        "it runs on spot machines only and its priority is 5 lower."
    )


def test_of_several_rules_the_strictest_counts() -> None:
    low = DegradeRule(Decimal("0.1"), priority=-9)
    answer = decide(demand(), [stands("160", degrade=SPOT), stands("160", degrade=low, name="b/day")], NOW)
    assert answer.degraded == Degraded(True, -9)


def test_a_full_limit_holds_rather_than_degrades() -> None:
    answer = decide(demand(), [stands("200", degrade=NIGHT)], NOW)
    assert (answer.decision, answer.degraded) == (Decision.HOLD, None)


def test_what_can_wait_is_held_until_off_peak() -> None:
    night = stands("120", degrade=NIGHT)
    answer = decide(demand(), [stands("199", hard="210", degrade=SPOT, name="b/day"), night], NOW)
    opens = NOW.replace(hour=20)
    assert (answer.decision, answer.retry_at) == (Decision.HOLD, opens)
    assert answer.degraded == Degraded(True, -5, opens)
    assert (answer.binding, answer.asked) == (night[1], Decimal("4.10"))
    assert "off-peak: it is tried again at 2026-11-24 20:00 UTC." in answer.reason
    assert decide(demand(), [night], NOW, timezone="Europe/Berlin").retry_at == NOW.replace(hour=19)


def test_within_off_peak_hours_nothing_waits() -> None:
    assert decide(demand(), [stands("120", degrade=NIGHT)], NOW.replace(hour=21)).decision is Decision.ADMIT


def test_what_is_urgent_does_not_wait_for_off_peak() -> None:
    night = [stands("120", degrade=NIGHT)]
    assert decide(demand(priority=5), night, NOW).decision is Decision.ADMIT
    assert decide(demand(priority=4), night, NOW).decision is Decision.HOLD
    assert decide(demand(deadline=NOW.replace(hour=20)), night, NOW).decision is Decision.ADMIT
    assert decide(demand(deadline=NOW.replace(hour=21)), night, NOW).decision is Decision.HOLD
    both = [*night, stands("160", degrade=SPOT, name="b/day")]
    assert decide(demand(priority=5), both, NOW).degraded == Degraded(True, -5)


def test_a_person_is_told_what_holds_and_what_happens_next() -> None:
    held = explain(decide(demand(), [stands("197.20", "2.40")], NOW), "UTC")
    assert held == [
        "It is held by the budget everything/day.",
        "All work together may spend US$ 200.00 a day: from 2026-11-24 00:00 UTC to 2026-11-25 00:00 UTC, 197.20 is "
        "spent and 2.40 is reserved for work that is not settled yet.",
        "This takes up to US$ 4.10, and US$ 0.40 is left: 3.70 is missing.",
        "It is tried again by itself at 2026-11-25 00:00 UTC, when the period turns, or once the limit is raised "
        "(avatar budget set or override everything/day).",
    ]


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (stands("187.20", "10.40"), "when reservations may have been settled"),
        (stands("0", hard="3"), "It is more than the whole limit"),
        (stands("250"), "the limit is passed by US$ 50.00: 54.10 is missing"),
        (stands("199", period=Period.ROLLING), "US$ 200.00 in any 24 hours: since 2026-11-24 00:00 UTC"),
        (stands("199", period=Period.ROLLING), "when the oldest spending is more than 24 hours back"),
        (stands("120", degrade=NIGHT), "until off-peak hours begin"),
        (stands("199", scope=ACME), "The tenant acme may spend"),
        (stands("160", degrade=SPOT), "It runs on spot machines only"),
        (stands("160", degrade=SPOT), "priority is 5 lower"),
        (stands("1"), "It may begin."),
    ],
)
def test_every_answer_is_explained(held: Stand, says: str) -> None:
    assert says in " ".join(explain(decide(demand(), [held], NOW), "UTC"))


def test_an_answer_without_figures_is_explained_by_its_reason() -> None:
    assert explain(Admission(Decision.HOLD, "k", "It waits."), "UTC") == ["It is held.", "It waits."]
    assert explain(Admission(Decision.DEGRADE, "k", "It waits."), "UTC")[1:] == ["It waits."]


money = st.decimals(0, 1000, places=2)
scopes = st.sampled_from([ALL, ACME, VOICES])
rules = st.none() | st.builds(
    DegradeRule,
    st.decimals(0, 1, places=2),
    st.booleans(),
    st.integers(-9, 0),
    st.none() | st.sampled_from([OffPeak.parse("20:00-07:00"), OffPeak.parse("11:00-13:00")]),
)


@st.composite
def standing_limits(draw: st.DrawFn) -> list[Stand]:
    return [
        stands(
            str(draw(money)),
            str(draw(money)),
            str(draw(money)),
            name=f"b{number}/day",
            scope=draw(scopes),
            unit=draw(st.sampled_from(Unit)),
            degrade=draw(rules),
            ends_at=draw(st.none() | st.just(MIDNIGHT)),
        )
        for number in range(draw(st.integers(0, 5)))
    ]


demands = st.builds(
    demand,
    money.map(str),
    money.map(str),
    money.map(str),
    priority=st.integers(0, 9),
    deadline=st.none() | st.just(NOW + timedelta(hours=1)),
)


def asked_of(wanted: Demand, standing: Standing) -> Decimal:
    if standing.scope.kind is not ScopeKind.PROVIDER:
        return wanted.amounts.usd if standing.unit is Unit.USD else Decimal(0)
    return wanted.amounts.provider if standing.unit is Unit.USD else wanted.amounts.characters


@given(demands, standing_limits())
def test_what_is_admitted_passes_no_limit_and_what_is_held_names_one(wanted: Demand, limits: list[Stand]) -> None:
    answer = decide(wanted, limits, NOW)
    over = [
        standing
        for _, standing in limits
        if (asked := asked_of(wanted, standing)) > 0 and standing.settled + standing.reserved + asked > standing.hard
    ]
    if over:
        assert answer.decision is Decision.HOLD
        assert answer.binding in over
        assert answer.degraded is None
    elif answer.decision is Decision.HOLD:
        assert answer.degraded is not None
        assert answer.retry_at == answer.degraded.not_before
        assert wanted.priority < 5
    else:
        assert answer.binding is None
    assert answer.retry_at is None or answer.retry_at > NOW
    assert answer.reason.endswith(".")
    assert explain(answer, "Europe/Berlin")


@given(demands, standing_limits(), st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_order_of_limits(wanted: Demand, limits: list[Stand], random: object) -> None:
    mixed = sorted(limits, key=lambda each: random.random())  # type: ignore[attr-defined]
    assert decide(wanted, mixed, NOW) == decide(wanted, limits, NOW)


@given(demands, standing_limits(), st.integers(0, 4), money)
def test_more_room_never_holds_what_less_room_admitted(
    wanted: Demand, limits: list[Stand], which: int, more: Decimal
) -> None:
    raised = [
        (limit, replace(standing, hard=standing.hard + more) if number == which else standing)
        for number, (limit, standing) in enumerate(limits)
    ]
    if decide(wanted, limits, NOW).admitted:
        assert decide(wanted, raised, NOW).admitted
