"""The book of budgets, on SQLite and on PostgreSQL: what is changed is signed and stays, what is told is told once."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from avatar_pipeline.budget.changes import in_force, overrides
from avatar_pipeline.budget.config import NO_BUDGETS, Limit, Period, Plan
from avatar_pipeline.budget.types import MICRO, Scope, ScopeKind, Unit
from avatar_pipeline.callbacks.deliver import deliver_due
from avatar_pipeline.callbacks.post import Answer
from avatar_pipeline.errors import Conflict, InvalidInput, NotFound
from avatar_pipeline.ledger.budget_checks import HIGHEST, LONGEST_OVERRIDE, require_amount
from avatar_pipeline.ledger.budgets import BudgetBook
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACME = Scope(ScopeKind.TENANT, "acme")


def limit(name: str, scope: Scope, hard: int) -> Limit:
    return Limit(f"{name}/day", scope, Unit.USD, Period.DAY, Decimal(hard))


EVERYTHING = limit("everything", Scope(ScopeKind.ALL), 200)
PLAN = Plan(
    rules=(
        EVERYTHING,
        limit("tenants", Scope(ScopeKind.TENANT), 20),
        limit("vip", Scope(ScopeKind.TENANT, "vip"), 90),
    )
)
SIGNED = {"who": "ann", "reason": "A launch."}


class Office:
    """A book, and its clock."""

    def __init__(self, url: str) -> None:
        self.now = NOW
        self.examples = 0
        self.ledger = Ledger(url)
        self.book = BudgetBook(self.ledger.engine, PLAN, clock=self.clock)
        self.callbacks = CallbackBook(self.ledger.engine, clock=self.clock)

    def clock(self) -> datetime:
        return self.now

    def in_force(self, limit: Limit = EVERYTHING) -> Decimal:
        return in_force(limit, self.book.changes(), self.now)

    def alert(self, threshold: str = "0.8", **more: object) -> bool:
        values = {"kind": "actual", "share": Decimal("0.812345678"), "message": "80 % is spent."} | more
        return self.book.raise_alert("everything/day", NOW, threshold=Decimal(threshold), **values)  # type: ignore[arg-type]


@pytest.fixture
def office(url: str) -> Iterator[Office]:
    office = Office(url)
    yield office
    office.ledger.close()


@pytest.fixture
def one_office(sqlite_url: str) -> Iterator[Office]:
    office = Office(sqlite_url)
    yield office
    office.ledger.close()


def test_a_limit_is_what_was_set_last_until_it_is_cleared(office: Office) -> None:
    office.book.set("everything/day", Decimal(250), who="ann", reason="A launch.")
    office.book.set("everything/day", Decimal("0.5"), who="bob", reason="Too much.")
    assert office.in_force() == Decimal("0.5")
    office.now += HOUR
    assert office.book.clear("everything/day", who="cat", reason="It is over.")
    assert office.in_force() == 200
    assert [(one.action, one.amount, one.who, one.reason, one.at) for one in office.book.changes()] == [
        ("set", Decimal(250), "ann", "A launch.", NOW),
        ("set", Decimal("0.5"), "bob", "Too much.", NOW),
        ("clear", None, "cat", "It is over.", NOW + HOUR),
    ]


def test_clearing_what_was_not_set_writes_nothing(office: Office) -> None:
    assert not office.book.clear("everything/day", **SIGNED)
    office.book.set("everything/day", Decimal(1), **SIGNED)
    assert office.book.clear("everything/day", **SIGNED)
    assert not office.book.clear("everything/day", **SIGNED)
    assert len(office.book.changes()) == 2


def test_a_rule_for_each_and_one_of_each_are_set_by_their_ids(office: Office) -> None:
    (acme,) = PLAN.limits_of(ACME)
    office.book.set("tenants/day", Decimal(30), **SIGNED)
    assert office.in_force(acme) == 30
    office.book.set("tenants/day@tenant:acme", Decimal(40), **SIGNED)
    assert office.in_force(acme) == 40
    assert len(office.book.changes(acme.id)) == 2, "what is changed for all is part of one's history"
    assert len(office.book.changes("tenants/day")) == 1


def test_an_override_adds_until_its_end(office: Office) -> None:
    office.book.override("everything/day", Decimal(50), until=NOW + 2 * HOUR, **SIGNED)
    office.book.override("everything/day", Decimal("0.000001"), until=NOW + 3 * HOUR, **SIGNED)
    assert office.in_force() == Decimal("250.000001")
    office.now += 2 * HOUR
    assert office.in_force() == Decimal("200.000001")
    office.now += HOUR
    assert office.in_force() == 200
    assert len(office.book.changes()) == 2, "that it ended is no change, and it stays on record"


def test_an_override_is_revoked_once(office: Office) -> None:
    first = office.book.override("everything/day", Decimal(50), until=NOW + HOUR, **SIGNED)
    second = office.book.override("everything/day", Decimal(7), until=NOW + HOUR, **SIGNED)
    assert first != second
    assert office.book.revoke(first, who="bob", reason="It is not needed.") == "everything/day"
    assert office.in_force() == 207
    office.now -= HOUR  # a clock that is wrong does not make it two
    with pytest.raises(Conflict, match="was revoked"):
        office.book.revoke(first, **SIGNED)
    office.now += 3 * HOUR
    with pytest.raises(Conflict, match="ended by itself"):
        office.book.revoke(second, **SIGNED)
    with pytest.raises(NotFound, match="no override 'nothing'"):
        office.book.revoke("nothing", **SIGNED)
    assert len(office.book.changes()) == 3
    assert overrides(EVERYTHING, office.book.changes(), NOW)[0].override_id == second


@pytest.mark.parametrize(
    "limit_id",
    [
        "nothing/day",
        "everything",
        "everything/week",
        "tenants/day@tenant:",
        "tenants/day@avatar:ada",
    ],
)
def test_an_unknown_limit_is_answered_with_those_there_are(office: Office, limit_id: str) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: office.book.set(limit_id, Decimal(1), **SIGNED),
        lambda: office.book.clear(limit_id, **SIGNED),
        lambda: office.book.override(limit_id, Decimal(1), until=NOW + HOUR, **SIGNED),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound) as caught:
            attempt()
        assert "everything/day" in caught.value.remedy
        assert "tenants/day@tenant:NAME" in caught.value.remedy
    assert office.book.changes() == []


def test_a_tenant_with_a_budget_of_its_own_is_told_its_name(office: Office) -> None:
    """An own limit takes the place of the one for each: what was set for that would change nothing."""
    with pytest.raises(NotFound) as caught:
        office.book.set("tenants/day@tenant:vip", Decimal(1), **SIGNED)
    assert caught.value.remedy == "There are: vip/day."


def test_without_budgets_it_says_how_to_have_some(office: Office) -> None:
    with pytest.raises(NotFound, match="AVATAR_BUDGETS"):
        BudgetBook(office.ledger.engine, NO_BUDGETS).set("everything/day", Decimal(1), **SIGNED)


def test_what_was_set_for_a_limit_that_is_gone_can_be_cleared(office: Office) -> None:
    office.book.set("everything/day", Decimal(1), **SIGNED)
    override = office.book.override("everything/day", Decimal(1), until=NOW + HOUR, **SIGNED)
    later = BudgetBook(office.ledger.engine, NO_BUDGETS, clock=office.clock)
    assert later.clear("everything/day", **SIGNED)
    assert later.revoke(override, **SIGNED) == "everything/day"


@pytest.mark.parametrize("amount", ["-0.01", "NaN", "Infinity", "0.0000001", "1000000000000.1"])
def test_what_is_no_amount_is_refused(office: Office, amount: str) -> None:
    with pytest.raises(InvalidInput):
        office.book.set("everything/day", Decimal(amount), **SIGNED)
    with pytest.raises(InvalidInput):
        office.book.override("everything/day", Decimal(amount), until=NOW + HOUR, **SIGNED)
    assert office.book.changes() == []


def test_an_override_adds_something_and_ends_within_ninety_days(office: Office) -> None:
    for add, until, told in (
        (Decimal(0), NOW + HOUR, "more than 0"),
        (Decimal(1), NOW, "is over"),
        (Decimal(1), NOW + LONGEST_OVERRIDE + timedelta(seconds=1), "90 days"),
    ):
        with pytest.raises(InvalidInput, match=told):
            office.book.override("everything/day", add, until=until, **SIGNED)
    office.book.override("everything/day", Decimal(1), until=NOW + LONGEST_OVERRIDE, **SIGNED)


@pytest.mark.parametrize(
    ("who", "reason"), [("ann", ""), ("ann", " \n"), ("ann", "x" * 1001), ("", "Why."), (" ", "Why.")]
)
def test_nothing_changes_without_a_name_and_a_reason(office: Office, who: str, reason: str) -> None:
    override = office.book.override("everything/day", Decimal(1), until=NOW + HOUR, **SIGNED)
    attempts: list[Callable[[], object]] = [
        lambda: office.book.set("everything/day", Decimal(1), who=who, reason=reason),
        lambda: office.book.clear("everything/day", who=who, reason=reason),
        lambda: office.book.override("everything/day", Decimal(1), until=NOW + HOUR, who=who, reason=reason),
        lambda: office.book.revoke(override, who=who, reason=reason),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidInput):
            attempt()
    assert len(office.book.changes()) == 1


def test_a_crossing_is_told_once_and_its_webhook_is_in_the_outbox_with_it(office: Office) -> None:
    assert office.alert(url="https://receiver.test/alerts?token=hunter2")
    office.now += HOUR
    assert not office.alert(url="https://receiver.test/alerts", share=Decimal(2), message="Another.")
    (alert,) = office.book.alerts()
    assert (alert.share, alert.message, alert.at) == (Decimal("0.812346"), "80 % is spent.", NOW)
    (callback,) = office.callbacks.list()
    assert callback.request_id == alert.callback_name
    assert json.loads(callback.body) == {
        "type": "budget.alert",
        "timestamp": "2026-03-01T12:00:00.000+00:00",
        "data": {
            "limit_id": "everything/day",
            "period_start": "2026-03-01T12:00:00+00:00",
            "kind": "actual",
            "threshold": "0.8",
            "share": "0.812346",
            "message": "80 % is spent.",
        },
    }


def test_other_thresholds_kinds_and_periods_are_other_crossings(office: Office) -> None:
    assert office.alert("0.5")
    assert office.alert("1")
    office.now += HOUR
    assert office.alert("1", kind="forecast")
    assert office.book.raise_alert("everything/day", NOW + 24 * HOUR, "actual", Decimal(1), Decimal(1), "Again.")
    assert office.callbacks.list() == [], "nobody is to be told"
    assert [(one.kind, one.threshold) for one in office.book.alerts(limit=2)] == [("actual", 1), ("forecast", 1)]
    assert len(office.book.alerts(since=NOW + HOUR)) == 2
    assert len(office.book.alerts()) == 4
    assert len({one.callback_name for one in office.book.alerts()}) == 4


def test_many_that_see_the_same_crossing_tell_it_once(office: Office) -> None:
    told: list[bool] = []
    start = threading.Barrier(8)

    def see() -> None:
        start.wait()
        told.append(office.alert(url="https://receiver.test/"))

    rivals = [threading.Thread(target=see) for _ in range(8)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert sorted(told) == [False] * 7 + [True]
    assert len(office.callbacks.list()) == 1


def test_a_webhook_that_cannot_be_written_leaves_no_alert_that_nobody_was_told_of(office: Office) -> None:
    with office.ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE callbacks RENAME TO callbacks_away"))
    try:
        with pytest.raises(Exception, match="callbacks"):
            office.alert(url="https://receiver.test/")
        assert office.book.alerts() == []
    finally:
        with office.ledger.engine.begin() as connection:
            connection.execute(text("ALTER TABLE callbacks_away RENAME TO callbacks"))
    assert office.alert(url="https://receiver.test/")


def test_the_deliverer_of_callbacks_delivers_it_signed(office: Office) -> None:
    office.now = datetime.now(UTC)
    secret = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()
    office.alert(url="https://receiver.test/alerts")
    posts: list[tuple[str, bytes, dict[str, str]]] = []

    def post(url: str, body: bytes, headers: dict[str, str]) -> Answer:
        posts.append((url, body, headers))
        return Answer(204)

    secrets = Settings(callbacks=True, callback_secret=secret)  # type: ignore[arg-type]
    done = deliver_due(office.callbacks, secrets, clock=office.clock, post=post)  # type: ignore[arg-type]
    assert done.delivered == 1
    ((url, body, headers),) = posts
    assert url == "https://receiver.test/alerts"
    assert Webhook(secret).verify(body, headers)["type"] == "budget.alert"
    assert "." not in headers["webhook-id"]


@given(st.decimals(min_value=-10, max_value=2 * HIGHEST, allow_nan=None))
def test_an_amount_is_kept_exactly_or_refused(amount: Decimal) -> None:
    try:
        kept = require_amount(amount, "A limit")
    except InvalidInput as error:
        assert error.message.startswith("A limit ")
        assert not amount.is_finite() or not 0 <= amount <= HIGHEST or amount % MICRO != 0
    else:
        assert kept == amount
        assert (kept / MICRO) == (kept / MICRO).to_integral_value()


_STEPS = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 50)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("override"), st.integers(1, 50)),
    st.tuples(st.just("revoke"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.integers(1, 3)),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_STEPS, max_size=12))
def test_whatever_was_done_in_whichever_order_the_limit_in_force_is_what_follows(
    one_office: Office, steps: list[tuple[str, int]]
) -> None:
    """Against a model that keeps one number and a list of extras; nothing that was written is ever changed."""
    office = one_office
    office.examples += 1
    (limit,) = PLAN.limits_of(Scope(ScopeKind.TENANT, f"t-{office.examples}"))
    base, extras, written = limit.hard, list[tuple[str, int, datetime]](), list[object]()
    for step, number in steps:
        if step == "set":
            office.book.set(limit.id, Decimal(number), **SIGNED)
            base = Decimal(number)
        elif step == "clear":
            office.book.clear(limit.id, **SIGNED)
            base = limit.hard
        elif step == "override":
            until = office.now + 2 * HOUR
            extras.append((office.book.override(limit.id, Decimal(number), until=until, **SIGNED), number, until))
        elif step == "revoke" and extras:
            name, _, until = extras.pop(number % len(extras))
            with nullcontext() if until > office.now else pytest.raises(Conflict):
                office.book.revoke(name, **SIGNED)
        elif step == "wait":
            office.now += number * HOUR
        known = office.book.changes(limit.id)
        assert known[: len(written)] == written
        written = list[object](known)
        assert office.in_force(limit) == base + sum(add for _, add, until in extras if until > office.now)
