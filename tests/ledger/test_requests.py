"""The book of requests, on SQLite and on PostgreSQL: arriving, the steps to an end, and what is told of it."""

import json
from datetime import timedelta, timezone

import pytest
from sqlalchemy import Engine, event

from avatar_pipeline.errors import (
    AvatarFailed,
    Conflict,
    DeadlinePassed,
    InvalidInput,
    NotFound,
    QualityTooLow,
    WorkerLost,
)
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.ledger.records import Arrival
from avatar_pipeline.ledger.requests import RequestBook
from tests.ledger.desk import BROKEN, NOW, SECOND, Desk, avatar, clip

GRACE = timedelta(minutes=10)
HOOK = "https://example.com/hook"


def statements(engine: Engine) -> list[str]:
    """The statements from now on."""
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: seen.append(statement))
    return seen


# Arriving


def test_what_came_out_of_a_queue_is_written_down_as_it_was_sent(desk: Desk) -> None:
    request = clip(1, tenant="acme", priority=3, deadline=NOW + GRACE, callback_url=HOOK, fps=30)
    desk.now = NOW + SECOND
    assert desk.book.take_in([Arrival(request, NOW)]) == [None]
    record = desk.book.get("clip-1")
    assert (record.request, record.state, record.attempts) == (request, "queued", 0)
    assert (record.sent_at, record.created_at) == (NOW, NOW + SECOND)
    assert (record.claimed_at, record.started_at, record.held_at, record.finished_at) == (None, None, None, None)


def test_a_request_sent_again_changes_nothing(desk: Desk) -> None:
    desk.arrive(clip(1), clip(2), clip(1))
    desk.now += SECOND
    desk.arrive(clip(2), clip(3))
    assert [record.request.request_id for record in desk.book.list()] == ["clip-1", "clip-2", "clip-3"]
    assert desk.steps(2) == ["queued"]


def test_the_same_time_in_another_zone_is_the_same_request(desk: Desk) -> None:
    desk.arrive(clip(1, deadline=NOW))
    desk.arrive(clip(1, deadline=NOW.astimezone(timezone(timedelta(hours=5)))))


def test_other_content_under_a_known_id_is_a_conflict_that_holds_up_no_other(desk: Desk) -> None:
    desk.arrive(clip(1))
    sent = [clip(1, text="Other."), clip(2), clip(2, text="Other."), avatar(request_id="clip-1"), clip(3)]
    found = desk.book.take_in([Arrival(request, NOW) for request in sent])
    assert [type(one) for one in found] == [Conflict, type(None), Conflict, Conflict, type(None)]
    assert "clip-1" in str(found[0])
    assert "Other." not in str(found[0])
    assert [record.request for record in desk.book.list()] == [clip(1), clip(2), clip(3)]


def test_a_clip_may_come_out_of_a_queue_before_its_avatar_but_not_from_the_command_line(desk: Desk) -> None:
    desk.arrive(clip(1, "bob"))
    with pytest.raises(NotFound, match="'bob'"):
        desk.book.submit([clip(2), clip(3, "bob")])
    assert [record.request for record in desk.book.list()] == [clip(1, "bob")]


def test_submitting_is_all_or_none_and_tells_what_is_new(desk: Desk) -> None:
    assert desk.book.submit([clip(1), clip(2)]) == ["clip-1", "clip-2"]
    assert desk.book.submit([clip(2), clip(3)]) == ["clip-3"]
    with pytest.raises(Conflict, match="clip-1"):
        desk.book.submit([clip(4), clip(1, text="Other.")])
    assert len(desk.book.list()) == 3


def test_a_thousand_requests_arrive_in_few_statements_and_in_order(desk: Desk) -> None:
    seen = statements(desk.ledger.engine)
    desk.arrive(*(clip(number, text=f"Number {number}.") for number in range(1000)))
    assert len(seen) < 20
    assert [record.request.request_id for record in desk.book.list()] == [f"clip-{number}" for number in range(1000)]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_that_would_starve_a_tenant_is_refused(desk: Desk, weight: float) -> None:
    with pytest.raises(InvalidInput, match="AVATAR_TENANT_WEIGHTS gives acme"):
        RequestBook(desk.ledger.engine, weights={"acme": weight})


# From state to state


def test_a_request_goes_from_queued_to_done_with_a_time_for_each_step(desk: Desk) -> None:
    desk.arrive(clip(1))
    for step in (
        desk.claim,
        lambda: desk.book.begin("clip-1", max_attempts=3),
        lambda: desk.book.finish("clip-1", clip_key="abc"),
    ):
        desk.now += SECOND
        assert step()
    record = desk.book.get("clip-1")
    assert (record.state, record.batch_id, record.clip_key, record.attempts) == ("done", "batch-1", "abc", 1)
    assert [record.claimed_at, record.started_at, record.finished_at] == [NOW + SECOND * n for n in (1, 2, 3)]
    history = [(entry.state, entry.note, entry.at) for entry in desk.book.history("clip-1")]
    assert history == [
        ("queued", "", NOW),
        ("claimed", "batch-1", NOW + SECOND),
        ("running", "attempt 1", NOW + SECOND * 2),
        ("done", "abc", NOW + SECOND * 3),
    ]


def test_only_the_first_end_counts(desk: Desk) -> None:
    desk.arrive(clip(1), clip(2))
    desk.claim()
    assert desk.book.finish("clip-1", clip_key="abc")
    assert not desk.book.finish("clip-1", clip_key="other")
    assert not desk.book.fail("clip-1", BROKEN)
    assert desk.book.fail("clip-2", BROKEN)
    assert not desk.book.finish("clip-2", clip_key="abc")
    assert not desk.book.begin("clip-2", max_attempts=3)
    assert (desk.book.get("clip-1").clip_key, desk.book.get("clip-1").error) == ("abc", None)
    assert (desk.book.get("clip-2").clip_key, desk.book.get("clip-2").error) == (None, BROKEN.as_dict())
    assert (desk.steps(1), desk.steps(2)) == (["queued", "claimed", "done"], ["queued", "claimed", "failed"])


def test_a_request_that_keeps_killing_its_workers_is_given_up(desk: Desk) -> None:
    desk.arrive(clip(1))
    desk.claim()
    assert all(desk.book.begin("clip-1", max_attempts=2) for _ in range(2))
    with pytest.raises(WorkerLost, match="clip-1 was begun 2 times"):
        desk.book.begin("clip-1", max_attempts=2)
    assert (desk.state(1), desk.code(1), desk.book.get("clip-1").attempts) == ("failed", "worker_lost", 2)
    assert not desk.book.begin("clip-1", max_attempts=2)
    assert desk.steps(1) == ["queued", "claimed", "running", "running", "failed"]


def test_a_request_is_not_begun_after_its_deadline_but_gone_on_with(desk: Desk) -> None:
    desk.arrive(clip(1, deadline=NOW + SECOND), clip(2, deadline=NOW + SECOND))
    desk.claim()
    desk.book.begin("clip-1", max_attempts=3)
    desk.now = NOW + SECOND
    assert desk.book.begin("clip-1", max_attempts=3)
    with pytest.raises(DeadlinePassed):
        desk.book.begin("clip-2", max_attempts=3)
    assert (desk.state(1), desk.code(2)) == ("running", "deadline_passed")


def test_a_request_of_an_avatar_that_was_removed_is_gone(desk: Desk) -> None:
    desk.arrive(clip(1))
    desk.ledger.delete_avatar("ada")
    with pytest.raises(NotFound, match="clip-1"):
        desk.book.begin("clip-1", max_attempts=3)
    with pytest.raises(NotFound, match="clip-1"):
        desk.book.get("clip-1")
    assert not desk.book.finish("clip-1", clip_key="abc")
    assert not desk.book.fail("clip-1", BROKEN)
    assert not desk.book.hold("clip-1", "")
    assert not desk.book.release("clip-1")
    assert desk.book.history("clip-1") == []


def test_a_held_request_is_claimed_by_nobody_until_it_is_released(desk: Desk) -> None:
    desk.arrive(clip(1), clip(2))
    assert desk.book.hold("clip-1", "over budget")
    assert not desk.book.hold("clip-1", "over budget")
    assert desk.book.backlog().waiting == 1
    assert desk.claim("batch-1") == ["2"]
    assert not desk.book.begin("clip-1", max_attempts=3)
    assert desk.book.release("clip-1")
    assert not desk.book.release("clip-1")
    assert desk.claim("batch-2") == ["1"]
    assert desk.steps(1) == ["queued", "held", "queued", "claimed"]


def test_a_request_held_out_of_its_batch_goes_back_to_it(desk: Desk) -> None:
    desk.arrive(clip(1), clip(2))
    desk.claim("batch-1")
    desk.book.begin("clip-1", max_attempts=3)
    assert desk.book.hold("clip-1", "over budget")
    assert not desk.book.finish("clip-1", clip_key="abc")
    assert desk.claim("batch-1") == ["1", "2"], "the manifest may not be written yet"
    assert desk.state(1) == "held"
    desk.book.release("clip-1")
    assert desk.claim("batch-2") == []
    assert desk.state(1) == "claimed"
    assert desk.book.begin("clip-1", max_attempts=3)


def test_a_final_request_cannot_be_held(desk: Desk) -> None:
    desk.arrive(clip(1))
    desk.claim()
    desk.book.finish("clip-1", clip_key="abc")
    assert not desk.book.hold("clip-1", "over budget")


def test_an_avatar_request_is_begun_and_finished_without_a_batch(desk: Desk) -> None:
    low, high, urgent = avatar("low"), avatar("high", priority=1), avatar("urgent", priority=9)
    desk.arrive(low, high, urgent)
    waiting = [record.request.avatar_id for record in desk.book.waiting_avatars(10)]
    assert waiting == ["urgent", "high", "low"]
    assert desk.book.begin(urgent.request_id, max_attempts=3)
    desk.book.hold(low.request_id, "over budget")
    assert [record.state for record in desk.book.waiting_avatars(10)] == ["running", "queued"]
    assert desk.book.finish(urgent.request_id, clip_key="abc", uri="s3://b/greeting.mp4")
    assert [record.request for record in desk.book.waiting_avatars(1)] == [high]
    assert desk.claim() == []


# What becomes of no use


def test_what_is_too_late_fails_and_what_is_begun_does_not(desk: Desk) -> None:
    desk.arrive(clip(1, deadline=NOW + SECOND), clip(2, deadline=NOW + SECOND), clip(3, deadline=NOW + GRACE), clip(4))
    desk.arrive(avatar("bob", deadline=NOW + SECOND))
    desk.book.begin("clip-2", max_attempts=3)
    assert desk.book.expire(unknown_avatar=GRACE) == 0
    desk.now = NOW + SECOND
    assert desk.claim() == ["3", "4"], "too late is not claimed, expired or not"
    assert desk.book.expire(unknown_avatar=GRACE) == 2
    assert [desk.state(number) for number in (1, 2, 3, 4)] == ["failed", "running", "claimed", "claimed"]
    assert desk.code(1) == "deadline_passed"
    assert desk.book.waiting_avatars(10) == []
    assert desk.book.expire(unknown_avatar=GRACE) == 0


def test_what_is_held_can_be_too_late_as_well(desk: Desk) -> None:
    desk.arrive(clip(1, deadline=NOW + SECOND))
    desk.book.hold("clip-1", "over budget")
    desk.now = NOW + SECOND
    assert desk.book.expire(unknown_avatar=GRACE) == 1
    assert desk.steps(1) == ["queued", "held", "failed"]


def test_clips_of_an_avatar_that_failed_fail_with_its_reason(desk: Desk) -> None:
    desk.has("bob", "failed")
    desk.arrive(clip(1), clip(2, "bob", callback_url=HOOK))
    assert desk.book.expire(unknown_avatar=GRACE) == 1
    assert (desk.state(1), desk.code(2)) == ("queued", AvatarFailed.code)
    assert desk.book.get("clip-2").error == {
        "code": "avatar_failed",
        "message": "Avatar bob failed: Broken.",
        "remedy": "Mend it.",
    }
    (told,) = CallbackBook(desk.ledger.engine).list()
    assert json.loads(told.body)["data"]["error"]["code"] == "avatar_failed"


def test_clips_of_an_unknown_avatar_wait_for_it_for_a_while(desk: Desk) -> None:
    desk.arrive(clip(1, "bob"))
    desk.now = NOW + GRACE - SECOND
    assert desk.book.expire(unknown_avatar=GRACE) == 0
    desk.now = NOW + GRACE
    assert desk.book.expire(unknown_avatar=GRACE) == 1
    assert (desk.state(1), desk.code(1)) == ("failed", "not_found")


def test_clips_wait_for_an_avatar_that_is_asked_for_or_made(desk: Desk) -> None:
    desk.has("carol", "new")
    desk.has("dave", "failed")
    desk.arrive(avatar("bob"), avatar("dave"), clip(1, "bob"), clip(2, "carol"), clip(3, "dave"))
    desk.now = NOW + GRACE * 2
    assert desk.book.expire(unknown_avatar=GRACE) == 0
    for record in desk.book.waiting_avatars(10):
        desk.book.fail(record.request.request_id, BROKEN)
    assert desk.book.expire(unknown_avatar=GRACE) == 2
    assert [desk.state(number) for number in (1, 2, 3)] == ["failed", "queued", "failed"]


def test_no_more_than_the_limit_expires_at_once_and_in_few_statements(desk: Desk) -> None:
    desk.arrive(*(clip(number, deadline=NOW) for number in range(300)))
    desk.arrive(*(clip(f"b{number}", "bob") for number in range(300)))
    desk.now = NOW + GRACE
    seen = statements(desk.ledger.engine)
    assert [desk.book.expire(unknown_avatar=GRACE, limit=450) for _ in range(3)] == [450, 150, 0]
    assert len(seen) < 40


# What is told


def test_whoever_asked_to_be_told_is_told_once(desk: Desk) -> None:
    desk.arrive(clip(1, tenant="acme", callback_url=HOOK), clip(2, callback_url=HOOK), clip(3))
    desk.claim()
    for _ in range(2):
        desk.book.finish("clip-1", clip_key="abc", uri="s3://b/clip.mp4")
        desk.book.fail("clip-2", QualityTooLow("The lips stand still.", remedy="Record anew."))
        desk.book.finish("clip-3", clip_key="abc")
    done, failed = CallbackBook(desk.ledger.engine).list()
    assert (done.request_id, done.url, done.state) == ("clip-1", HOOK, "pending")
    told = json.loads(done.body)
    assert told["type"] == "clip.done"
    assert told["data"]["request_id"] == "clip-1"
    assert told["data"]["tenant"] == "acme"
    assert told["data"]["uri"] == "s3://b/clip.mp4"
    told = json.loads(failed.body)
    assert (told["type"], told["data"]["error"]["message"]) == ("clip.failed", "The lips stand still.")


def test_an_avatar_s_end_is_told_as_its_own(desk: Desk) -> None:
    request = avatar("bob", callback_url=HOOK)
    desk.arrive(request)
    desk.book.begin(request.request_id, max_attempts=1)
    with pytest.raises(WorkerLost):
        desk.book.begin(request.request_id, max_attempts=1)
    (told,) = CallbackBook(desk.ledger.engine).list()
    assert json.loads(told.body)["type"] == "avatar.failed"


# Looking


def test_requests_are_found_by_what_is_known_of_them(desk: Desk) -> None:
    desk.has("bob")
    desk.arrive(clip(1), clip(2, "bob", tenant="acme"), clip(3, tenant="acme"), avatar("carol"))
    desk.claim("batch-1", 1)
    desk.book.fail("clip-3", BROKEN)

    def names(**wanted: object) -> list[str]:
        return [record.request.request_id.removeprefix("clip-") for record in desk.book.list(**wanted)]

    assert names(kind="clip") == ["1", "2", "3"]
    assert names(kind="avatar", avatar_id="carol") == [avatar("carol").request_id]
    assert names(avatar_id="ada") == ["1", "3"]
    assert names(tenant="acme") == ["2", "3"]
    assert names(batch_id="batch-1") == ["1"]
    assert names(states=("claimed", "failed")) == ["1", "3"]
    assert names(kind="clip", limit=2) == ["1", "2"]
    assert names(kind="clip", newest_first=True, limit=2) == ["3", "2"]
    assert desk.book.counts() == {
        ("clip", "claimed"): 1,
        ("clip", "queued"): 1,
        ("clip", "failed"): 1,
        ("avatar", "queued"): 1,
    }


def test_the_backlog_is_what_a_batch_could_claim(desk: Desk) -> None:
    assert (desk.book.backlog().waiting, desk.book.backlog().oldest_age) == (0, None)
    desk.has("bob", "new")
    desk.arrive(clip(1), clip(2), clip(3, "bob"), clip(4, "nobody"), avatar("carol"))
    desk.book.submit([clip(5)], batch_id="batch-9")
    desk.book.hold("clip-1", "over budget")
    desk.now += SECOND
    desk.arrive(clip(6))
    desk.now += SECOND
    assert (desk.book.backlog().waiting, desk.book.backlog().oldest_age) == (2, SECOND * 2)
    desk.claim("batch-1", 1)
    assert (desk.book.backlog().waiting, desk.book.backlog().oldest_age) == (1, SECOND)
    desk.now = NOW
    assert desk.book.backlog().oldest_age == timedelta(0), "another machine's clock may be ahead"


def test_open_batches_are_those_with_work_in_them(desk: Desk) -> None:
    desk.arrive(*(clip(number) for number in range(6)))
    for batch in ("batch-1", "batch-2", "batch-3"):
        desk.now += SECOND
        desk.claim(batch, 2)
    desk.book.begin("clip-0", max_attempts=1)
    found = [(batch.batch_id, batch.requests, batch.claimed_at) for batch in desk.book.open_batches()]
    assert found[0] == ("batch-1", 2, NOW + SECOND)
    for request in desk.book.list(batch_id="batch-1"):
        desk.book.finish(request.request.request_id, clip_key="abc")
    assert "batch-1" not in [batch.batch_id for batch in desk.book.open_batches()]


def test_a_batch_whose_requests_were_reserved_and_never_claimed_is_open(desk: Desk) -> None:
    desk.book.submit([clip(1), clip(2)], batch_id="batch-1")
    desk.arrive(clip(3))
    desk.now += SECOND
    (found,) = desk.book.open_batches()
    assert (found.batch_id, found.requests, found.claimed_at) == ("batch-1", 2, NOW)
    assert sorted(desk.claim("batch-1")) == ["1", "2"]
    (found,) = desk.book.open_batches()
    assert (found.requests, found.claimed_at) == (2, NOW + SECOND)
    for name in ("clip-1", "clip-2"):
        desk.book.hold(name, "budget")
    assert desk.book.open_batches() == [], "what is held is worked on by nobody"


def test_batches_that_are_long_over_are_forgotten_and_their_requests_kept(desk: Desk) -> None:
    desk.arrive(clip(1), clip(2))
    desk.claim("batch-1", 1)
    desk.book.finish("clip-1", clip_key="abc")
    desk.claim("batch-2", 1)
    desk.now += SECOND
    desk.claim("batch-3")
    assert desk.book.prune_batches(NOW) == 0
    assert desk.book.prune_batches(NOW + SECOND) == 1, "batch-2 has a request that is not finished"
    assert desk.book.prune_batches(NOW + SECOND) == 0
    assert desk.book.batches_with_claims(["batch-1", "batch-2", "batch-3"]) == {"batch-2", "batch-3"}
    assert desk.claim("batch-1") == ["1"], "what it had it still has"
    assert (desk.state(1), desk.steps(1)) == ("done", ["queued", "claimed", "done"])


def test_what_is_known_of_batches(desk: Desk) -> None:
    desk.has("bob")
    desk.arrive(clip(1), clip(2, "bob"), clip(3, "bob"))
    desk.claim("batch-1", 2)
    for name in ("1", "2", "3"):
        if desk.state(name) == "claimed":
            desk.now += SECOND
            desk.book.finish(f"clip-{name}", clip_key="abc")
    desk.claim("batch-2", 2)
    assert desk.book.batches_of("bob") == ["batch-2"]
    assert desk.book.batches_of("ada") == []
    assert desk.book.batches_with_claims(["batch-2", None, "batch-7"]) == {"batch-2"}
    assert desk.book.last_change_of_batches(["batch-1", "batch-7"]) == {"batch-1": NOW + SECOND * 2}
