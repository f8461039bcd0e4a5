"""What people change is in force exactly as long as they said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.changes import Action, Change, carried, in_force, next_expiry, overrides, raised_at
from avatar_pipeline.budget.config import Limit, Period
from avatar_pipeline.budget.types import ALL, Scope, ScopeKind, Unit

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIMIT = Limit("everything/day", ALL, Unit.USD, Period.DAY, Decimal(200))
RULE = Limit("tenants/day", Scope(ScopeKind.TENANT), Unit.USD, Period.DAY, Decimal(10))
ACME = RULE.of(Scope(ScopeKind.TENANT, "acme"))


def change(
    id: int,
    action: Action,
    amount: int | None = None,
    *,
    limit: Limit = LIMIT,
    override_id: str | None = None,
    expires_at: datetime | None = None,
) -> Change:
    value = None if amount is None else Decimal(amount)
    return Change(id, limit.id, action, value, override_id, expires_at, "ann", "because", NOW)


def override(id: int, amount: int, hours: float, *, limit: Limit = LIMIT, name: str | None = None) -> Change:
    return change(id, Action.OVERRIDE, amount, limit=limit, override_id=name or f"o{id}", expires_at=NOW + hours * HOUR)


def test_without_changes_the_file_counts() -> None:
    assert in_force(LIMIT, [], NOW) == 200
    assert next_expiry(LIMIT, [], NOW) is None


def test_the_latest_set_counts_in_whatever_order_they_are_read() -> None:
    sets = [change(1, Action.SET, 300), change(2, Action.SET, 250)]
    assert in_force(LIMIT, sets, NOW) == in_force(LIMIT, sets[::-1], NOW) == 250


def test_a_clear_returns_to_the_file_and_a_set_after_it_counts_again() -> None:
    changes = [change(1, Action.SET, 300), change(2, Action.CLEAR)]
    assert in_force(LIMIT, changes, NOW) == 200
    assert in_force(LIMIT, [*changes, change(3, Action.SET, 0)], NOW) == 0


def test_changes_of_other_limits_do_not_count() -> None:
    assert in_force(LIMIT, [change(1, Action.SET, 1, limit=RULE), override(2, 5, 1, limit=ACME)], NOW) == 200


def test_overrides_add_up_until_each_expires() -> None:
    changes = [override(1, 50, 1), override(2, 25, 2), override(3, 1000, 0)]
    assert in_force(LIMIT, changes, NOW) == 275
    assert next_expiry(LIMIT, changes, NOW) == NOW + HOUR
    assert in_force(LIMIT, changes, NOW + HOUR) == 225
    assert in_force(LIMIT, changes, NOW + 2 * HOUR) == 200


def test_a_revoked_override_is_over_at_once() -> None:
    changes = [override(1, 50, 1), change(2, Action.REVOKE, override_id="o1"), override(3, 25, 1)]
    assert in_force(LIMIT, changes, NOW) == 225
    assert [each.override_id for each in overrides(LIMIT, changes, NOW)] == ["o3"]


def test_the_same_override_written_twice_counts_once() -> None:
    assert in_force(LIMIT, [override(1, 50, 1, name="a"), override(2, 50, 1, name="a")], NOW) == 250


def test_an_override_without_an_end_does_not_count() -> None:
    assert in_force(LIMIT, [replace(override(1, 50, 1), expires_at=None)], NOW) == 200


def test_one_of_each_follows_its_own_change_then_its_rules_then_the_file() -> None:
    rule, own = change(1, Action.SET, 20, limit=RULE), change(2, Action.SET, 40, limit=ACME)
    assert in_force(ACME, [rule], NOW) == 20
    assert in_force(ACME, [own, rule], NOW) == 40
    assert in_force(ACME, [rule, own, change(3, Action.CLEAR, limit=ACME)], NOW) == 20
    assert in_force(ACME, [rule, change(3, Action.CLEAR, limit=RULE)], NOW) == 10
    globex = RULE.of(Scope(ScopeKind.TENANT, "globex"))
    assert in_force(globex, [rule, own], NOW) == 20


def test_overrides_of_a_rule_and_of_one_of_its_limits_both_count() -> None:
    assert in_force(ACME, [override(1, 5, 1, limit=RULE), override(2, 3, 1, limit=ACME)], NOW) == 18


changes = st.lists(
    st.builds(
        change,
        st.integers(1, 50),
        st.sampled_from(Action),
        st.integers(0, 1000),
        limit=st.sampled_from([RULE, ACME, LIMIT]),
        override_id=st.sampled_from(["a", "b", "c"]),
        expires_at=st.none() | st.timedeltas(-2 * HOUR, 2 * HOUR).map(NOW.__add__),
    ),
    max_size=12,
    unique_by=lambda each: each.id,
)


@given(changes, st.randoms(use_true_random=False))
def test_order_of_reading_does_not_matter_and_nothing_is_below_0(several: list[Change], random: object) -> None:
    mixed = sorted(several, key=lambda each: random.random())  # type: ignore[attr-defined]
    assert in_force(ACME, several, NOW) == in_force(ACME, mixed, NOW) >= 0


@given(changes)
def test_the_limit_changes_by_itself_only_when_an_override_expires(several: list[Change]) -> None:
    expiry = next_expiry(ACME, several, NOW)
    level = in_force(ACME, several, NOW)
    if expiry is None:
        assert in_force(ACME, several, NOW + 100 * HOUR) == level
    else:
        assert expiry > NOW
        assert in_force(ACME, several, expiry - timedelta(microseconds=1)) == level
        assert in_force(ACME, several, expiry) <= level


def test_what_is_left_over_is_carried_up_to_its_share() -> None:
    quarter = replace(LIMIT, carry_over=Decimal("0.25"))
    assert carried(quarter, Decimal(200), Decimal(100)) == 50
    assert carried(quarter, Decimal(200), Decimal(180)) == 20
    assert carried(quarter, Decimal(200), Decimal(210)) == 0
    assert carried(LIMIT, Decimal(200), Decimal(0)) == 0
    assert carried(replace(LIMIT, carry_over=Decimal("0.333333")), Decimal("0.000010"), Decimal(0)) == Decimal(
        "0.000003"
    )


def test_what_is_set_to_nothing_is_nothing_but_for_what_is_allowed_afterwards() -> None:
    changes = [override(1, 50, 1), change(2, Action.SET, 0), override(3, 5, 1)]
    assert in_force(LIMIT, changes[:2], NOW) == 0
    assert in_force(LIMIT, changes, NOW) == 5


def test_the_last_raise_is_known_and_a_cut_is_none() -> None:
    changes = [
        replace(change(1, Action.SET, 300), at=NOW),
        replace(change(2, Action.SET, 100), at=NOW + HOUR),
        replace(override(3, 5, 24), at=NOW + 2 * HOUR),
        replace(change(4, Action.REVOKE, override_id="o3"), at=NOW + 3 * HOUR),
    ]
    assert raised_at(LIMIT, changes, NOW - HOUR) == NOW + 2 * HOUR
    assert raised_at(LIMIT, changes[:2], NOW - HOUR) == NOW
    assert raised_at(LIMIT, changes[:2], NOW) is None
