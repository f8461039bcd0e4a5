"""A file of budgets is a plan, or says which budget and field cannot be used and what would do."""

import json
import pickle
from dataclasses import FrozenInstanceError
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.budgets_file import plan_from
from avatar_pipeline.budget.config import NO_BUDGETS, DegradeRule, Limit, OffPeak, Period, Plan, load_plan
from avatar_pipeline.budget.types import ALL, Amounts, Payer, Scope, ScopeKind, Unit
from avatar_pipeline.errors import AvatarError, InvalidInput

FILE = """\
version: 1
timezone: Europe/Berlin
budgets:
  - name: everything
    scope: all
    day: "200"
    month: 4000
    rolling_24h: 250.1
    degrade: {at: 0.8, spot_only: true, priority: -5, off_peak: "20:00-07:00"}
  - {name: tenants, scope: tenant, day: 10, week: 30}
  - {name: acme, scope: "tenant:acme", day: 50, thresholds: [1, 0.5], forecast: null, carry_over: 0.25}
  - {name: voices, scope: "provider:elevenlabs", unit: characters, month: 100000}
caps: {clip: "0.75", voice_model: {usd: 3, characters: 400}}
cold_start_seconds: 60
expected_retries: 0.25
alerts: {url: https://example.com/alerts}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "budgets.yaml"


def loaded(file: Path, text: str) -> Plan:
    file.write_text(text, encoding="utf-8")
    return load_plan(file)


def ids(limits: tuple[Limit, ...]) -> list[str]:
    return [limit.id for limit in limits]


def budget(**fields: object) -> dict[str, Any]:
    return {"version": 1, "budgets": [{"name": "everything", "scope": "all", "day": 1} | fields]}


def refusal(content: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        plan_from(content, "budgets.yaml")
    return caught.value


def test_without_a_file_nothing_is_limited() -> None:
    assert load_plan(None) is NO_BUDGETS
    assert NO_BUDGETS.limits_for(Payer("acme", "ada", "r1", "elevenlabs")) == ()
    assert NO_BUDGETS.cap("anything").usd > 0


def test_a_file_says_all_that_a_plan_knows(file: Path) -> None:
    plan = loaded(file, FILE)
    assert plan.timezone == "Europe/Berlin"
    assert plan.fixed[0] == Limit(
        id="everything/day",
        scope=ALL,
        unit=Unit.USD,
        period=Period.DAY,
        hard=Decimal(200),
        degrade=DegradeRule(Decimal("0.8"), True, -5, OffPeak(time(20), time(7))),
    )
    assert ids(plan.fixed) == [
        "everything/day",
        "everything/month",
        "everything/rolling_24h",
        "acme/day",
        "voices/month",
    ]
    assert plan.scope_kinds == {ScopeKind.TENANT}
    acme = plan.fixed[3]
    assert (acme.thresholds, acme.forecast, acme.carry_over) == (
        (Decimal("0.5"), Decimal(1)),
        None,
        Decimal("0.25"),
    )
    assert plan.cap("clip") == Amounts(compute=Decimal("0.75"))
    assert plan.cap("voice_model") == Amounts(compute=Decimal(3), characters=Decimal(400))
    assert plan.cap("mesh") == plan.caps["default"]
    assert (plan.cold_start_seconds, plan.expected_retries) == (60, Decimal("0.25"))
    assert plan.alerts_url == "https://example.com/alerts"


def test_the_same_as_json_is_the_same_plan(file: Path) -> None:
    import yaml

    assert loaded(file, json.dumps(yaml.safe_load(FILE))) == loaded(file, FILE)


def test_amounts_are_what_is_written_not_the_float_beside_it(file: Path) -> None:
    assert loaded(file, FILE).fixed[2].hard == Decimal("250.1")


def test_spending_counts_against_every_limit_that_its_payer_meets(file: Path) -> None:
    plan = loaded(file, FILE)
    everything = ["everything/day", "everything/month", "everything/rolling_24h"]
    assert ids(plan.limits_for(Payer())) == everything
    assert ids(plan.limits_for(Payer("globex", "ada", "r1", "elevenlabs"))) == [
        *everything,
        "voices/month",
        "tenants/day@tenant:globex",
        "tenants/week@tenant:globex",
    ]


def test_a_limit_of_ones_own_takes_the_place_of_the_one_for_each(file: Path) -> None:
    plan = loaded(file, FILE)
    assert ids(plan.limits_of(Scope(ScopeKind.TENANT, "acme"))) == ["acme/day", "tenants/week@tenant:acme"]
    of_another = plan.limits_of(Scope(ScopeKind.TENANT, "globex"))
    assert [(limit.hard, limit.rule_id, limit.scope.name) for limit in of_another] == [
        (Decimal(10), "tenants/day", "globex"),
        (Decimal(30), "tenants/week", "globex"),
    ]


def test_a_limit_in_another_unit_does_not_take_the_place_of_the_one_for_each() -> None:
    plan = plan_from(
        {
            "version": 1,
            "budgets": [
                {"name": "voices", "scope": "provider", "month": 20},
                {"name": "eleven", "scope": "provider:elevenlabs", "unit": "characters", "month": 1000},
            ],
        },
        "f",
    )
    assert ids(plan.limits_of(Scope(ScopeKind.PROVIDER, "elevenlabs"))) == [
        "eleven/month",
        "voices/month@provider:elevenlabs",
    ]


def test_a_plan_does_not_change_and_travels_to_other_processes(file: Path) -> None:
    plan = loaded(file, FILE)
    with pytest.raises(FrozenInstanceError):
        plan.timezone = "UTC"  # type: ignore[misc]
    with pytest.raises(TypeError):
        plan.caps["clip"] = Amounts()  # type: ignore[index]
    copy = pickle.loads(pickle.dumps(plan))
    assert copy == plan
    assert hash(copy) == hash(plan)
    assert copy.limits_for(Payer("acme")) == plan.limits_for(Payer("acme"))


@pytest.mark.parametrize(
    ("fields", "says", "remedy"),
    [
        ({"dya": 5}, "budgets[0] (everything): dya: there is no such field", "day"),
        ({"day": -5}, "budgets[0] (everything): day: -5 is not from 0 to 1,000,000,000,000", "0"),
        ({"day": "1e13"}, "day: 1E+13 is not from 0", "0"),
        ({"day": "0.0000001"}, "more than six decimal places", "millionth"),
        ({"day": "much"}, "day: 'much' is not a number", "200"),
        ({"day": "NaN"}, "not a finite number", "200"),
        ({"day": float("inf")}, "not a finite number", "200"),
        ({"day": True}, "day: True is not a number", "200"),
        ({"day": [1, 2]}, "day: a list is not a number", "200"),
        ({"day": "9" * 5000}, "is not a number", "200"),
        ({"day": None}, "it has no limit", "rolling_24h"),
        ({"name": "Every Thing"}, "name: 'Every Thing' is not a slug", "a-z"),
        ({"scope": "planet"}, "scope: 'planet' is no scope", "tenant:acme"),
        ({"scope": "all:acme"}, "scope: 'all:acme' names nothing", "tenant:acme"),
        ({"scope": "tenant:"}, "scope: 'tenant:' names nothing", "tenant:acme"),
        ({"scope": "tenant:Acme Inc"}, "names nothing", "a-z"),
        ({"unit": "euro"}, "unit: input should be 'usd' or 'characters'", "allows"),
        ({"unit": "characters"}, "unit: characters with scope all", "provider:elevenlabs"),
        ({"unit": "characters", "scope": "tenant:acme"}, "characters with scope tenant:acme", "usd"),
        ({"thresholds": [0.5, 0]}, "thresholds: 1: 0 is not above 0 and at most 10", "80 %"),
        ({"thresholds": [10.5]}, "10.5 is not above 0 and at most 10", "80 %"),
        ({"forecast": -1}, "forecast: -1 is not above 0", "80 %"),
        ({"carry_over": 1.5}, "carry_over: 1.5 is not from 0 to 1", "80 %"),
        ({"day": None, "rolling_24h": 1, "carry_over": 0.5}, "carry_over with rolling_24h", "carry_over"),
        ({"degrade": {"at": 0.8}}, "degrade: it changes nothing", "spot_only"),
        ({"degrade": {"at": 2, "spot_only": True}}, "degrade: at: 2 is not from 0 to 1", "80 %"),
        ({"degrade": {"spot_only": True}}, "degrade: at: it is missing", "Write"),
        ({"degrade": {"at": 1, "sopt": 1}}, "degrade: sopt: there is no such field", "spot_only"),
        ({"degrade": {"at": 0.8, "priority": 3}}, "degrade: priority: input should be less than or equal to 0", ""),
        ({"degrade": {"at": 0.8, "off_peak": "8pm to 7"}}, "off_peak: '8pm to 7' is not two times", "20:00-07:00"),
        ({"degrade": {"at": 0.8, "off_peak": "24:00-07:00"}}, "is not two times", "20:00-07:00"),
        ({"degrade": {"at": 0.8, "off_peak": "07:00-07:00"}}, "begins when it ends", "20:00-07:00"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_what_would_do(
    fields: dict[str, Any], says: str, remedy: str
) -> None:
    error = refusal(budget(**fields))
    assert error.message.startswith("budgets.yaml: budgets[0]")
    assert says in error.message
    assert remedy in error.remedy
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("content", "says", "remedy"),
    [
        (None, "budgets.yaml: expected fields", "version: 1"),
        ([1], "budgets.yaml: expected fields", "version: 1"),
        ({}, "version: it is missing", "version: 1"),
        ({"version": 2}, "version: input should be 1", ""),
        ({"version": 1, "budget": []}, "budget: there is no such field", "budgets"),
        ({"version": 1, "budgets": {}}, "budgets: ", ""),
        ({"version": 1, "budgets": ["x"]}, "budgets[0]: ", ""),
        ({"version": 1, "timezone": "Mars/Base"}, "timezone: there is no time zone 'Mars/Base'", "Europe/Berlin"),
        ({"version": 1, "timezone": "America"}, "timezone: there is no time zone", "Europe/Berlin"),
        ({"version": 1, "timezone": "../../etc/passwd"}, "timezone: there is no time zone", "Europe/Berlin"),
        ({"version": 1, "caps": {"clip": 0}}, "caps: clip: usd: a cap of 0", "at most"),
        ({"version": 1, "caps": {"clip": {"characters": 5}}}, "caps: clip: usd: it is missing", ""),
        ({"version": 1, "caps": {"A B": 5}}, "caps: 'A B' is no purpose", "clip"),
        ({"version": 1, "expected_retries": -1}, "expected_retries: -1", "0.5"),
        ({"version": 1, "cold_start_seconds": -1}, "cold_start_seconds: ", ""),
        ({"version": 1, "alerts": {"url": "example.com"}}, "alerts: url: it is not a URL", "https"),
        ({"version": 1, "alerts": {"url": "https://a:secret@example.com"}}, "it carries credentials", "https"),
        ({1: 2, "version": 1}, "", ""),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(content: object, says: str, remedy: str) -> None:
    error = refusal(content)
    assert says in error.message
    assert remedy in error.remedy
    assert "secret" not in str(error)


def test_two_budgets_of_one_name_are_refused() -> None:
    one = {"name": "tenants", "scope": "tenant", "day": 1}
    assert "two budgets have the name tenants" in refusal({"version": 1, "budgets": [one, one]}).message


def test_a_limit_that_is_written_twice_is_refused(file: Path) -> None:
    with pytest.raises(InvalidInput, match=r"line 3: 'day' is written twice"):
        loaded(file, "version: 1\nbudgets:\n  - {name: a, scope: all, day: 200, day: 2000}\n")


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nbudgets: [",
        "version: !!python/object/apply:os.system ['true']",
        "version: 1\nday: 2026-99-99",
        "[" * 5000,
        "version: &a [*a]",
    ],
)
def test_what_is_no_yaml_or_more_than_yaml_is_refused(file: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"budgets\.yaml") as caught:
        loaded(file, text)
    assert len(caught.value.message) < 600


def test_a_file_too_large_or_unreadable_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="larger than 256 KiB"):
        loaded(file, "# " + "x" * 256 * 1024)
    file.write_bytes(b"\xff\xfe\x00")
    for path in (file, tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            load_plan(path)


_keys = st.sampled_from(
    ["version", "timezone", "budgets", "name", "scope", "day", "degrade", "off_peak", "caps", "usd", "alerts", "x"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["all", "0.5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(_keys, values, max_size=5), st.dictionaries(_keys, values, max_size=5))
def test_anything_is_a_plan_or_a_refusal(top: dict[str, Any], inner: dict[str, Any]) -> None:
    for content in (top, {"version": 1} | top, budget(**inner)):
        try:
            plan_from(content, "budgets.yaml")
        except AvatarError as error:
            assert error.message.startswith("budgets.yaml: ")
            assert error.remedy


amounts = st.decimals(0, 10**12, places=6)


@given(amounts)
def test_an_amount_survives_as_text_to_the_millionth(amount: Decimal) -> None:
    assert plan_from(budget(day=str(amount)), "f").fixed[0].hard == amount
