"""Claiming, on SQLite and on PostgreSQL: who goes into a batch, that it stays there, in few statements."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from avatar_pipeline.ledger.schema import FlowRow
from tests.ledger.desk import NOW, SECOND, Desk, avatar, clip
from tests.ledger.test_requests import statements


def test_a_batch_that_claims_again_gets_the_same_requests_in_the_same_order(desk: Desk) -> None:
    desk.has("bob")
    desk.arrive(*(clip(number, ("ada", "bob")[number % 2]) for number in range(6)))
    first = desk.claim("batch-1", 4)
    assert first == ["0", "2", "4", "1"]
    desk.arrive(clip(9))
    assert desk.claim("batch-1", 100) == first
    assert [record.request.request_id for record in desk.book.list(batch_id="batch-1")] == [
        f"clip-{name}" for name in first
    ]
    assert desk.steps(0) == ["queued", "claimed"]


def test_no_request_is_in_two_batches(desk: Desk) -> None:
    desk.arrive(*(clip(number) for number in range(5)))
    assert [desk.claim(f"batch-{number}", 2) for number in range(4)] == [["0", "1"], ["2"], ["3", "4"], []]


def test_a_batch_begun_beside_a_full_one_takes_half(desk: Desk) -> None:
    desk.arrive(*(clip(number) for number in range(100)))
    sizes = []
    for turn in range(6):
        claimed = desk.claim(f"batch-{turn}", 20)
        sizes.append(len(claimed))
        if turn >= 1:
            # Two workers: the one before the last is done when the last is half done, and so on.
            for name in desk.book.list(batch_id=f"batch-{turn - 1}", states=("claimed",))[:10]:
                desk.book.finish(name.request.request_id, clip_key="abc")
            for name in desk.book.list(batch_id=f"batch-{turn}", states=("claimed",))[:10]:
                desk.book.finish(name.request.request_id, clip_key="abc")
    assert sizes == [20, 10, 20, 20, 20, 10]


def test_requests_reserved_for_a_batch_go_to_no_other(desk: Desk) -> None:
    desk.book.submit([clip(2), clip(1)], batch_id="batch-1")
    desk.arrive(clip(3))
    assert desk.claim("batch-2") == ["3"]
    assert desk.claim("batch-1") == ["2", "1"]
    assert (desk.state(1), desk.steps(1)) == ("claimed", ["queued", "claimed"])
    assert desk.claim("batch-1") == ["2", "1"]


def test_a_batch_for_which_nothing_waited_stays_empty_and_the_next_gets_what_came(desk: Desk) -> None:
    """Two runs of one batch may claim, and each writes its manifest: they have to write the same."""
    assert desk.claim("batch-1") == []
    desk.arrive(clip(1))
    assert desk.claim("batch-1") == []
    assert desk.claim("batch-2") == ["1"]


def test_clips_wait_for_their_avatar(desk: Desk) -> None:
    desk.has("bob", "new")
    desk.arrive(clip(1, "bob"), clip(2, "nobody"), clip(3), avatar("carol"))
    assert desk.claim("batch-1") == ["3"]
    desk.has("bob")
    assert desk.claim("batch-2") == ["1"]
    desk.has("nobody", "failed")
    assert desk.claim("batch-3") == []


def test_a_higher_priority_goes_first_whatever_came_first(desk: Desk) -> None:
    desk.arrive(clip(1), clip(2, priority=5), clip(3, priority=9), clip(4, priority=5))
    assert desk.claim() == ["3", "2", "4", "1"]


def test_clips_of_one_avatar_come_together_and_tenants_take_turns(desk: Desk) -> None:
    for name in ("bob", "carol"):
        desk.has(name)
    desk.arrive(*(clip(f"a{number}", ("ada", "bob")[number % 2], tenant="acme") for number in range(6)))
    desk.arrive(*(clip(f"b{number}", "carol", tenant="globex") for number in range(3)))
    assert desk.claim("batch-1", 100) == ["a0", "a2", "a4", "b0", "b1", "b2", "a1", "a3", "a5"]


def test_company_is_the_tenant_s_own(desk: Desk) -> None:
    desk.arrive(*(clip(f"a{number}", tenant="acme") for number in range(3)))
    desk.arrive(*(clip(f"b{number}", tenant="globex") for number in range(30)))
    desk.arrive(clip("c0", tenant="initech"))
    assert desk.claim("batch-1", 7) == ["a0", "a1", "a2", "b0", "b1", "b2", "b3"]
    assert desk.claim("batch-2", 4)[0] == "c0"


def test_a_tenant_whose_avatar_was_not_ready_has_no_stock_of_turns(desk: Desk) -> None:
    for name in ("bob", "carol"):
        desk.has(name, "new" if name == "bob" else "ready")
    desk.arrive(*(clip(f"late{number}", "bob", tenant="late") for number in range(50)))
    desk.arrive(*(clip(f"here{number}", "carol", tenant="here") for number in range(90)))
    for number in range(4):
        claimed = desk.claim(f"batch-{number}", 10)
        assert {name[:4] for name in claimed} == {"here"}
        for name in claimed:
            desk.book.finish(f"clip-{name}", clip_key="abc")
    desk.has("bob")
    seen = []
    for number in range(4, 9):
        claimed = desk.claim(f"batch-{number}", 10)
        seen.append(claimed[0][:4])
        for name in claimed:
            desk.book.finish(f"clip-{name}", clip_key="abc")
    assert seen == ["late", "late", "here", "late", "here"], "a turn ahead as one who comes new, then turn by turn"


def test_many_flows_and_avatars_make_a_batch_in_few_statements(desk: Desk) -> None:
    for number in range(40):
        desk.has(f"avatar-{number}")
    desk.arrive(
        *(
            clip(number, f"avatar-{number % 40}", tenant=f"tenant-{number % 25}", priority=number % 2)
            for number in range(600)
        )
    )
    seen = statements(desk.ledger.engine)
    claimed = desk.claim("batch-1", 100)
    assert len(claimed) == 100
    assert len(seen) < 30
    seen.clear()
    assert desk.claim("batch-1", 100) == claimed
    assert len(seen) < 10


def test_a_claim_searches_nothing_where_no_avatar_is_ready(desk: Desk) -> None:
    desk.has("bob", "new")
    desk.arrive(*(clip(number, "bob", tenant=f"tenant-{number % 25}") for number in range(100)))
    seen = statements(desk.ledger.engine)
    assert desk.claim("batch-1") == []
    assert not [statement for statement in seen if "flows" in statement and "tenants" in statement]
    desk.has("bob")
    assert desk.claim("batch-1") == [], "it has claimed"
    assert len(desk.claim("batch-2")) == 100


def test_only_tenants_that_are_not_behind_are_remembered(desk: Desk) -> None:
    for turn in range(12):
        desk.arrive(clip(turn, tenant=f"tenant-{turn}"), clip(f"b{turn}", tenant="steady"))
        for name in desk.claim(f"batch-{turn}", 2):
            desk.book.finish(f"clip-{name}", clip_key="abc")
    with desk.ledger.engine.connect() as connection:
        assert len(connection.execute(select(FlowRow.tenant)).all()) < 6


def test_what_waits_is_read_from_the_indexes_that_were_made_for_it(sqlite_url: str) -> None:
    desk = Desk(sqlite_url)
    desk.has("ada")
    desk.arrive(*(clip(number, tenant=f"tenant-{number % 3}", deadline=NOW + SECOND) for number in range(300)))
    seen = statements(desk.ledger.engine)
    desk.claim("batch-1", 50)
    desk.book.backlog()
    desk.book.counts()
    desk.book.open_batches()
    desk.book.waiting_avatars(10)
    desk.book.expire(unknown_avatar=timedelta(hours=1))
    read = [statement for statement in seen if statement.startswith(("SELECT", "WITH"))]
    with desk.ledger.engine.connect() as connection:
        for statement in read:
            numbered = statement.replace("?", "1")
            plan = [row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {numbered.replace(':', '')}"))]
            assert not [step for step in plan if step == "SCAN requests"], (statement, plan)
    desk.ledger.close()


# At once


def test_batches_that_claim_at_once_share_no_request_and_leave_none(desk: Desk) -> None:
    desk.arrive(*(clip(number, tenant=f"tenant-{number % 3}") for number in range(60)))
    start = threading.Barrier(8)
    claimed: dict[str, list[str]] = {}

    def claim(batch: str) -> None:
        start.wait()
        claimed[batch] = desk.claim(batch, 10)

    run([threading.Thread(target=claim, args=(f"batch-{number}",)) for number in range(8)])
    taken = [name for names in claimed.values() for name in names]
    assert len(taken) == len(set(taken))
    assert desk.book.backlog().waiting == 60 - len(taken)
    assert len(taken) >= 10 + 7 * 5


def test_one_batch_that_claims_at_once_in_two_places_gets_the_same(desk: Desk) -> None:
    desk.arrive(*(clip(number) for number in range(30)))
    start = threading.Barrier(4)
    claimed: list[list[str]] = []

    def claim() -> None:
        start.wait()
        claimed.append(desk.claim("batch-1", 10))

    run([threading.Thread(target=claim) for _ in range(4)])
    assert claimed == [claimed[0]] * 4
    assert desk.steps(0) == ["queued", "claimed"]


def run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()


@pytest.mark.parametrize("weights", [{"acme": 3.0}, {"globex": 1 / 3}])
def test_a_tenant_that_weighs_three_times_as_much_gets_three_times_as_much(url: str, weights: dict[str, float]) -> None:
    desk = Desk(url, weights=weights)
    for name in ("ada", "bob"):
        desk.has(name)
    desk.arrive(*(clip(f"a{number}", "ada", tenant="acme") for number in range(120)))
    desk.arrive(*(clip(f"b{number}", "bob", tenant="globex") for number in range(120)))
    taken: list[str] = []
    for number in range(16):
        claimed = desk.claim(f"batch-{number}", 5)
        taken += claimed
        for name in claimed:
            desk.book.finish(f"clip-{name}", clip_key="abc")
    assert sum(name.startswith("a") for name in taken) == 60
    desk.ledger.close()
