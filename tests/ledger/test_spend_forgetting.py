"""Forgetting an avatar takes its name off what was spent, and no money back, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text

from avatar_pipeline.budget.periods import Period
from avatar_pipeline.ledger.database import reading, writing
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.ledger.spend import forget_avatar_in
from tests.ledger.till import ACME, HOUR, VOICE, Till, limit, usd

BOB = replace(ACME, avatar_id="bob", request_id="clip-2")


@pytest.fixture
def till(url: str) -> Iterator[Till]:
    till = Till(url, limit("all", 100), limit("month", 100, period=Period.MONTH))
    yield till
    till.engine.dispose()


def forget(till: Till) -> None:
    with writing(till.engine) as session:
        forget_avatar_in(session, "ada", till.now)


def mentions(till: Till, *words: str) -> list[str]:
    """The tables in which any of these words stands anywhere."""
    found = []
    with reading(till.engine) as session:
        for table in Base.metadata.sorted_tables:
            rows = session.execute(select(table)).all()
            if any(word in str(tuple(row)) for row in rows for word in words):
                found.append(table.name)
    return found


def test_nothing_names_a_forgotten_avatar_and_what_it_spent_stays(till: Till) -> None:
    till.ask("clip/clip-1/0", usd(5, 1, 100), VOICE)
    till.ask("clip/clip-2/0", 5, BOB)
    till.ask("clip/clip-1/1", 5)
    till.begin(shares={"clip/clip-1/0": 1, "clip/clip-2/0": 1}, partition="ada")
    till.meter(1000)
    till.charge("call-1", "0.5", 50, reservation="clip/clip-1/0")
    till.settle()
    assert mentions(till, "ada", "clip-1")
    forget(till)
    assert mentions(till, "ada", "clip-1") == []
    assert till.spent() == {
        ("all", "usd"): Decimal("1.5"),
        ("avatar:bob", "usd"): Decimal("0.5"),
        ("provider:elevenlabs", "usd"): Decimal("0.5"),
        ("provider:elevenlabs", "characters"): 50,
        ("tenant:acme", "usd"): Decimal("1.5"),
    }
    assert till.reserved() == {
        key: Decimal("4.5") for key in (("all", "usd"), ("avatar:bob", "usd"), ("tenant:acme", "usd"))
    }
    assert sum(entry.amount for entry in till.entries()) == 1
    assert till.left("clip/clip-2/0") == usd("4.5")


def test_what_an_attempt_still_draws_on_is_forgotten_when_it_is_settled(till: Till) -> None:
    till.ask("clip/clip-1/0", 5)
    till.begin(shares={"clip/clip-1/0": 1})
    till.begin("run/speech/1", shares={"clip/clip-1/0": 1})
    till.meter(1000)
    forget(till)
    assert till.reserved() == {("all", "usd"): 4, ("tenant:acme", "usd"): 4}, "it may be spent yet"
    till.meter(1000)
    assert till.reserved()["all", "usd"] == 3
    till.settle(price_per_hour=Decimal("1.8"))
    till.now += timedelta(seconds=-1000)
    till.settle("run/speech/1")
    assert mentions(till, "ada", "clip-1") == []
    assert (till.reserved(), till.spent()["all", "usd"]) == ({}, Decimal(2))
    assert till.spent() == till.spent("d")


def test_tidying_deletes_what_is_over_and_what_no_limit_looks_at(till: Till) -> None:
    till.ask("a", 5)
    till.begin()
    till.meter(1000)
    till.settle()
    till.book.release("a")
    spent = till.standing("all/day").settled
    assert till.book.tidy(till.now + HOUR) == 2, "the attempt and the reservation; limits look at the quarters"
    assert till.standing("all/day").settled == spent == 1
    assert till.book.get("a") is None
    till.ask("b", 5)
    till.begin("run/render/2", shares={"b": 1})
    till.now += timedelta(days=70)
    assert till.book.tidy(till.now) == 6, "two quarters of an hour in three scopes; what is open stays"
    assert till.spent() == {}
    assert till.spent("d")["all", "usd"] == 1
    assert till.book.get("b").is_open
    assert len(till.entries()) == 2


def test_forgetting_one_that_spent_nothing_changes_nothing(till: Till) -> None:
    till.ask("b", 5, BOB)
    forget(till)
    assert till.reserved()["avatar:bob", "usd"] == 5
    with reading(till.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM reservations")) == 1
