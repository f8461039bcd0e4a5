"""Requests that are held until a time, and those of an avatar that is refused, on SQLite and on PostgreSQL."""

from datetime import timedelta

from avatar_pipeline.errors import ConsentRevoked, DeadlinePassed
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.scaling.recovery import RETRY_GRACE, RunSeen, batches_to_run
from tests.ledger.desk import NOW, SECOND, Desk, avatar, clip

SOON, LATER = NOW + SECOND * 5, NOW + SECOND * 9


def test_what_is_held_until_a_time_goes_on_then(desk: Desk) -> None:
    wish = avatar("bob")
    desk.arrive(clip(1), clip(2), wish)
    desk.claim("batch-1", 1)
    for name, until in (("clip-1", SOON), ("clip-2", LATER), (wish.request_id, SOON)):
        assert desk.book.hold(name, "the quota is used up", until)
    assert desk.book.get("clip-1").held_until == SOON
    assert desk.book.release_due() == 0
    desk.now = SOON
    assert desk.book.release_due() == 2
    assert desk.book.release_due() == 0
    assert [desk.book.get(name).state for name in ("clip-1", "clip-2", wish.request_id)] == [
        "claimed",
        "held",
        "queued",
    ]
    assert desk.book.get("clip-1").held_until is None
    assert desk.steps(1) == ["queued", "claimed", "held", "claimed"]
    assert [event.note for event in desk.book.history("clip-1")][2:] == ["the quota is used up", "its time has come"]


def test_what_is_held_without_a_time_waits_for_a_person(desk: Desk) -> None:
    desk.arrive(clip(1))
    desk.book.hold("clip-1", "over budget")
    desk.now += timedelta(days=1000)
    assert desk.book.release_due() == 0
    assert desk.state(1) == "held"


def test_the_longer_of_two_holds_is_in_force(desk: Desk) -> None:
    desk.arrive(clip(1))
    assert desk.book.hold("clip-1", "quota", LATER)
    assert not desk.book.hold("clip-1", "quota", SOON)
    assert desk.book.get("clip-1").held_until == LATER
    assert not desk.book.hold("clip-1", "quota", LATER + SECOND)
    assert desk.book.get("clip-1").held_until == LATER + SECOND
    assert not desk.book.hold("clip-1", "a person says so")
    assert desk.book.get("clip-1").held_until is None
    assert not desk.book.hold("clip-1", "quota", SOON)
    assert desk.book.get("clip-1").held_until is None
    assert desk.steps(1) == ["queued", "held"]


def test_a_person_may_release_it_before_its_time(desk: Desk) -> None:
    desk.arrive(clip(1))
    desk.book.hold("clip-1", "quota", SOON)
    assert desk.book.release("clip-1")
    desk.book.hold("clip-1", "over budget")
    desk.now = LATER
    assert desk.book.release_due() == 0, "the time was of the hold before"


def test_those_due_for_longest_go_on_first_and_the_rest_with_the_next_call(desk: Desk) -> None:
    desk.arrive(*(clip(number) for number in range(5)))
    for number in range(5):
        desk.book.hold(f"clip-{number}", "quota", SOON - number * SECOND)
    desk.now = SOON
    assert desk.book.release_due(limit=2) == 2
    assert [desk.state(number) for number in range(5)] == ["held", "held", "held", "queued", "queued"]
    assert desk.book.release_due(limit=9) == 3


def test_whoever_puts_a_request_off_does_not_use_up_its_attempts(desk: Desk) -> None:
    desk.arrive(clip(1))
    desk.claim()
    for _ in range(5):
        assert desk.book.begin("clip-1", max_attempts=1)
        desk.book.hold("clip-1", "quota", desk.now)
        assert desk.book.release_due() == 1
    assert desk.book.get("clip-1").attempts == 0
    desk.book.begin("clip-1", max_attempts=1)
    desk.book.hold("clip-1", "over budget")
    assert desk.book.get("clip-1").attempts == 1


def test_a_deadline_does_not_wait(desk: Desk) -> None:
    desk.arrive(clip(1, deadline=SOON))
    desk.claim()
    desk.book.hold("clip-1", "quota", LATER)
    desk.now = SOON
    assert desk.book.expire(unknown_avatar=timedelta(days=1)) == 1
    assert desk.code(1) == DeadlinePassed.code
    desk.now = LATER
    assert desk.book.release_due() == 0


def test_a_batch_all_of_whose_requests_were_put_off_is_run_again(desk: Desk) -> None:
    """Its run ended well, for there was nothing that it could do."""
    desk.arrive(clip(1), clip(2))
    desk.claim("batch-1")
    for name in ("clip-1", "clip-2"):
        desk.book.hold(name, "quota", NOW + timedelta(hours=1))
    runs = {"batch-1": [RunSeen("run-1", "batch-1", "succeeded", NOW, NOW + SECOND)]}

    def plan() -> list[tuple[str, int]]:
        seen = desk.book.open_batches()
        return batches_to_run(seen, runs, desk.now, grace=RETRY_GRACE, max_attempts=2).rerun

    desk.now += timedelta(minutes=59)
    assert (desk.book.release_due(), plan()) == (0, [])
    assert desk.book.unfinished_batches() == {"batch-1"}
    desk.now += timedelta(minutes=1)
    assert (desk.book.release_due(), plan()) == (2, [("batch-1", 1)])
    assert sorted(desk.claim("batch-1")) == ["1", "2"]
    assert desk.book.begin("clip-1", max_attempts=2)


def test_every_unfinished_request_of_a_refused_avatar_fails(desk: Desk) -> None:
    desk.has("bob")
    desk.arrive(*(clip(number, callback_url="https://example.com/") for number in range(5)), avatar("ada"))
    desk.arrive(clip(9, "bob"))
    desk.claim("batch-1", 4)
    batch = [record.request.request_id for record in desk.book.list(batch_id="batch-1", avatar_id="ada")]
    desk.book.finish(batch[0], clip_key="abc")
    desk.book.begin(batch[1], max_attempts=2)
    desk.book.hold("clip-4", "quota", SOON)
    revoked = ConsentRevoked("consent-1")
    assert desk.book.refuse_avatar("ada", revoked, page=2) == 5
    assert desk.book.refuse_avatar("ada", revoked) == 0
    states = {record.request.request_id: record.state for record in desk.book.list(avatar_id="ada")}
    assert sorted(states.values()) == ["done"] + ["failed"] * 5
    assert states[batch[0]] == "done"
    failed = desk.book.list(avatar_id="ada", states=("failed",))
    assert all(record.error == revoked.as_dict() for record in failed)
    assert str((failed[0].error or {})["message"]).startswith("refused: consent revoked")
    assert not desk.book.finish(batch[1], clip_key="abc"), "whoever was at work on it is too late"
    desk.now = LATER
    assert desk.book.release_due() == 0
    assert desk.state(9) in ("queued", "claimed")
    assert len(CallbackBook(desk.ledger.engine).list()) == 5
