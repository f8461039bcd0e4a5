"""From the queue to the finished clip: nothing lost, nothing twice, and a bad item alone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from avatar_pipeline.errors import EnvironmentProblem, NotFound
from avatar_pipeline.ledger.requests import RequestBook
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.batches import make_manifest, read_manifest, render_batch, synthesize_batch
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.voice.types import VoiceModel
from benchmarks.voice_batches import VOICES, give_voice
from tests.elevenlabs.server import StandIn
from tests.stages.benches import add, avatar_row


@pytest.fixture
def line(own_home: Path) -> Iterator[Line]:
    """The line of a home in which the avatar `ada` is ready."""
    with open_line(read_settings()) as line:
        yield line


def clip(number: int, text: str = "Yes.", avatar_id: str = "ada", **more: object) -> str:
    return json.dumps({"version": 1, "request_id": f"clip-{number}", "avatar_id": avatar_id, "text": text} | more)


def states(line: Line) -> dict[str, str]:
    return {record.request.request_id: record.state for record in line.requests.list(kind="clip")}


def run_batch(line: Line, batch_id: str) -> None:
    make_manifest(line, batch_id)
    synthesize_batch(line, batch_id)
    render_batch(line, batch_id)


def test_a_message_becomes_a_clip_and_every_step_is_on_record(line: Line) -> None:
    line.queues.clips.send([clip(1, fps=30, voice={"speed": 1.2})])
    run_batch(line, "batch-1")
    record = line.requests.get("clip-1")
    assert record.state == "done"
    assert [event.state for event in line.requests.history("clip-1")] == ["queued", "claimed", "running", "done"]
    times = [record.sent_at, record.created_at, record.claimed_at, record.started_at, record.finished_at]
    assert all(times)
    assert times == sorted(times)  # type: ignore[type-var]
    assert line.queues.clips.depth().total == 0


def test_a_batch_that_runs_again_makes_nothing_again(line: Line) -> None:
    line.queues.clips.send([clip(1), clip(2, "No.")])
    run_batch(line, "batch-1")
    line.queues.clips.send([clip(3, "Perhaps.")])
    assert make_manifest(line, "batch-1").reused
    again = render_batch(line, "batch-1")
    assert again.reused == 2
    assert [request.request_id for request in read_manifest(line, "batch-1")] == ["clip-1", "clip-2"]
    done = [event for number in (1, 2) for event in line.requests.history(f"clip-{number}") if event.state == "done"]
    assert len(done) == 2, "one `done` each, however often the batch runs"


def test_the_same_text_of_the_same_avatar_is_served_from_the_store(line: Line) -> None:
    line.queues.clips.send([clip(1), clip(2)])
    run_batch(line, "batch-1")
    first, second = line.requests.get("clip-1"), line.requests.get("clip-2")
    assert (first.state, second.state) == ("done", "done")
    assert first.clip_key == second.clip_key
    assert len([t for t in line.ledger.timings("avatars", "ada") if t.asset == "clips" and not t.reused]) == 1


def test_a_message_that_is_delivered_again_is_known(line: Line) -> None:
    line.queues.clips.send([clip(1)])
    assert drain(line, "clip").received == 1
    line.queues.clips.send([clip(1)])
    assert drain(line, "clip").refused == 0
    assert list(states(line)) == ["clip-1"]
    assert line.queues.clips.depth().total == 0


def test_a_known_id_with_another_text_is_a_dead_letter_and_the_first_stands(line: Line) -> None:
    line.queues.clips.send([clip(1)])
    drain(line, "clip")
    line.queues.clips.send([clip(1, "Something else."), clip(2)])
    assert drain(line, "clip").refused == 1
    assert set(states(line)) == {"clip-1", "clip-2"}
    dead = line.queues.clips.dead
    assert dead is not None
    (letter,) = dead.peek(10)
    assert "clip-1" in str(letter.reason)


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        clip(1, ""),
        clip(1, "x" * 5001),
        clip(1, fps=1000),
        clip(1, avatar_id="../etc"),
        clip(1, version=9),
        clip(1, deadline="0001-01-01T00:00:00+14:00"),
        clip(1, surprise=True),
    ],
    ids=["json", "empty", "long", "fps", "slug", "version", "deadline", "unknown-field"],
)
def test_a_malformed_message_is_a_dead_letter_at_once_and_its_company_goes_on(line: Line, body: str) -> None:
    line.queues.clips.send([clip(7), body, clip(8)])
    make_manifest(line, "batch-1")
    assert [request.request_id for request in read_manifest(line, "batch-1")] == ["clip-7", "clip-8"]
    dead = line.queues.clips.dead
    assert dead is not None
    (letter,) = dead.peek(10)
    assert letter.body == body
    assert letter.reason


def test_a_clip_of_an_avatar_that_is_not_there_yet_waits(line: Line) -> None:
    line.queues.clips.send([clip(1, avatar_id="bob"), clip(2)])
    make_manifest(line, "batch-1")
    assert states(line) == {"clip-1": "queued", "clip-2": "claimed"}


def test_a_clip_whose_deadline_passed_fails_and_says_so(line: Line) -> None:
    line.queues.clips.send([clip(1, deadline=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())])
    make_manifest(line, "batch-1")
    record = line.requests.get("clip-1")
    assert (record.state, (record.error or {})["code"]) == ("failed", "deadline_passed")


def test_one_clip_that_is_of_no_more_use_fails_alone(line: Line) -> None:
    deadline = line.clock() + timedelta(minutes=10)
    line.queues.clips.send([clip(1, deadline=deadline.isoformat()), clip(2)])
    make_manifest(line, "batch-1")
    synthesize_batch(line, "batch-1")
    late = replace(line, requests=RequestBook(line.ledger.engine, clock=lambda: deadline + timedelta(seconds=1)))
    assert render_batch(late, "batch-1").failed["clip-1"].code == "deadline_passed"
    assert states(line) == {"clip-1": "failed", "clip-2": "done"}
    assert render_batch(line, "batch-1").failed["clip-1"].code == "deadline_passed", "and a replay says the same"


def test_a_store_that_lacks_what_it_should_have_fails_no_request_and_holds_up_no_other(line: Line) -> None:
    """As on a node whose bucket is not mounted: the avatar is known, its artifacts are not there."""
    add(line.ledger, avatar_row("eve", line.clock()))
    line.queues.clips.send([clip(1, avatar_id="eve"), clip(2)])
    make_manifest(line, "batch-1")
    with pytest.raises(NotFound, match="eve"):
        synthesize_batch(line, "batch-1")
    with pytest.raises(NotFound, match="eve"):
        render_batch(line, "batch-1")
    assert states(line) == {"clip-1": "running", "clip-2": "done"}


def test_what_was_begun_most_often_comes_last(line: Line) -> None:
    """So what kills its worker costs its company one death, not all."""
    line.queues.clips.send([clip(1), clip(2, "No.")])
    make_manifest(line, "batch-1")
    synthesize_batch(line, "batch-1")
    line.requests.begin("clip-1", max_attempts=9)
    render_batch(line, "batch-1")
    begun = [line.requests.get(name).finished_at for name in ("clip-2", "clip-1")]
    assert begun == sorted(begun)  # type: ignore[type-var]


def test_what_kills_its_worker_is_found_and_the_others_go_on(line: Line) -> None:
    """A clip that was begun too often is failed by the next attempt, which goes on with the rest of the batch."""
    line.queues.clips.send([clip(1), clip(2, "No.")])
    make_manifest(line, "batch-1")
    synthesize_batch(line, "batch-1")
    for _ in range(line.settings.max_attempts):
        line.requests.begin("clip-1", max_attempts=line.settings.max_attempts)
    result = render_batch(line, "batch-1")
    assert result.failed["clip-1"].code == "worker_lost"
    assert states(line) == {"clip-1": "failed", "clip-2": "done"}


def test_a_fault_of_the_machine_stops_the_batch_and_fails_no_request(line: Line) -> None:
    line.queues.clips.send([clip(1)])
    make_manifest(line, "batch-1")

    def broken(stage: str, done: float, total: float | None) -> None:
        raise EnvironmentProblem("There is no OpenGL.", remedy="Install it.")

    with pytest.raises(EnvironmentProblem), open_line(read_settings(), progress=broken) as sick:
        synthesize_batch(sick, "batch-1")
    assert states(line) == {"clip-1": "claimed"}
    run_batch(line, "batch-1")
    assert states(line) == {"clip-1": "done"}


def test_a_batch_for_which_nothing_is_left_is_an_empty_one(line: Line) -> None:
    run_batch(line, "batch-1")
    assert read_manifest(line, "batch-1") == []
    line.queues.clips.send([clip(1)])
    assert make_manifest(line, "batch-1").reused, "and stays one for ever"


def test_whoever_asked_to_be_told_is_told_once(line: Line) -> None:
    line.queues.clips.send([clip(1, callback_url="https://example.com/hook")])
    run_batch(line, "batch-1")
    render_batch(line, "batch-1")
    (callback,) = line.callbacks.list(request_id="clip-1")
    told = json.loads(callback.body)
    assert told["type"] == "clip.done"
    assert told["data"]["uri"].endswith("/clip.mp4")
    assert "Yes." not in callback.body, "what is said is nobody's business on the way"


def test_two_runs_of_one_batch_write_the_same_manifest_be_it_empty(line: Line) -> None:
    """The first run claimed nothing and has not written that down yet when the second begins, and clips have come."""
    assert line.requests.claim("batch-1", 10) == []
    line.queues.clips.send([clip(1)])
    make_manifest(line, "batch-1")
    assert read_manifest(line, "batch-1") == []
    make_manifest(line, "batch-2")
    assert [request.request_id for request in read_manifest(line, "batch-2")] == ["clip-1"]


def test_a_held_clip_is_left_out_and_goes_on_when_it_is_released(line: Line) -> None:
    line.queues.clips.send([clip(1), clip(2, "No.")])
    make_manifest(line, "batch-1")
    assert line.requests.hold("clip-1", "budget")
    synthesize_batch(line, "batch-1")
    render_batch(line, "batch-1")
    assert states(line) == {"clip-1": "held", "clip-2": "done"}
    line.requests.release("clip-1")
    run_batch(line, "batch-1")
    assert states(line) == {"clip-1": "done", "clip-2": "done"}


def test_a_clip_whose_voice_must_wait_is_held_and_is_made_when_it_is_released(line: Line) -> None:
    """As when it was released between the two steps of its batch: speech is asked for while clips are rendered."""
    voice = VoiceModel(provider="elevenlabs", language="en", label="stock", parameters={"voice_id": VOICES[0]})
    give_voice(line, "ada", voice)
    with StandIn(speech="beeps", quota=1) as standin:
        key = SecretStr(standin.api_key)
        hosted = line.settings.model_copy(update={"elevenlabs_api_key": key, "elevenlabs_url": standin.url})
        hosted_line = replace(line, settings=hosted)
        line.queues.clips.send([clip(1, "Good morning, everybody.")])
        make_manifest(line, "batch-1")
        result = render_batch(hosted_line, "batch-1")
        assert result.held["clip-1"].code == "quota_exhausted"
        assert states(line) == {"clip-1": "held"}
        assert line.requests.get("clip-1").attempts == 0, "a wait is no attempt"
        standin.change(quota=1000)
        line.leases.resume("elevenlabs", "turbo")
        line.requests.release("clip-1")
        assert list(render_batch(hosted_line, "batch-1").done) == ["clip-1"]
        assert states(line) == {"clip-1": "done"}
