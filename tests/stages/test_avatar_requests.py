"""Avatar requests: taken in from where they lie, finished when the avatar is ready, failed with a reason when not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from avatar_pipeline.errors import EnvironmentProblem, InvalidInput, NotFound, QualityTooLow, WorkerLost
from avatar_pipeline.ledger.messages import AvatarRequest
from avatar_pipeline.queues.parse import dump
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.avatar_requests import abandon, finish_requests, give_up, take_in_uploads
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.stages.uploads import keep_upload


@pytest.fixture
def line(home: Path) -> Iterator[Line]:
    with open_line(read_settings()) as line:
        yield line


def send(line: Line, upload: Path, avatar_id: str = "bob", *, video: str | None = None, **more: str) -> AvatarRequest:
    """Put an avatar request into the queue, and take it into the ledger."""
    request = AvatarRequest.model_validate(
        {
            "avatar_id": avatar_id,
            "video_uri": video or keep_upload(line.settings, upload / "sample.mp4", field="video_uri"),
            "consent_uri": keep_upload(line.settings, upload / "consent.json", field="consent_uri"),
        }
        | more
    )
    line.queues.avatars.send([dump(request)])
    assert drain(line, "avatar").new == 1
    return request


def state(line: Line, request: AvatarRequest) -> str:
    return line.requests.get(request.request_id).state


def test_a_request_registers_its_avatar(line: Line, sample_upload: Path) -> None:
    request = send(line, sample_upload, greeting="Hi there.")
    take_in_uploads(line, "bob")
    assert line.ledger.avatar("bob").greeting == "Hi there."
    assert state(line, request) == "running"


def test_registering_twice_is_registering_once(line: Line, sample_upload: Path) -> None:
    send(line, sample_upload)
    take_in_uploads(line, "bob")
    take_in_uploads(line, "bob")
    assert [avatar.id for avatar in line.ledger.avatars()] == ["bob"]


def test_a_request_is_done_when_its_avatar_is_ready(line: Line, sample_upload: Path) -> None:
    request = send(line, sample_upload)
    take_in_uploads(line, "bob")
    finish_requests(line, "bob", key="k" * 64, uri="somewhere/clip.mp4")
    assert state(line, request) == "done"


def test_an_upload_from_elsewhere_is_not_opened(line: Line, sample_upload: Path) -> None:
    request = send(line, sample_upload, video=str(sample_upload / "sample.mp4"))
    with pytest.raises(InvalidInput, match="video_uri"):
        take_in_uploads(line, "bob")
    assert state(line, request) == "failed"
    assert not line.ledger.has_avatar("bob")


def test_a_second_request_for_a_taken_id_fails_alone(line: Line, sample_upload: Path) -> None:
    first = send(line, sample_upload)
    second = send(line, sample_upload, greeting="I am another.")
    take_in_uploads(line, "bob")
    assert (state(line, first), state(line, second)) == ("running", "failed")
    assert (line.requests.get(second.request_id).error or {})["code"] == "conflict"


def test_footage_that_will_not_do_fails_the_request_and_the_avatar(line: Line, sample_upload: Path) -> None:
    request = send(line, sample_upload)
    take_in_uploads(line, "bob")
    give_up(line, "bob", QualityTooLow("The mouth does not follow.", remedy="Record again."))
    assert state(line, request) == "failed"
    assert line.ledger.avatar("bob").state == "failed"


def test_a_fault_of_the_machine_fails_nobody(line: Line, sample_upload: Path) -> None:
    request = send(line, sample_upload)
    take_in_uploads(line, "bob")
    give_up(line, "bob", EnvironmentProblem("There is no OpenGL.", remedy="Install it."))
    assert state(line, request) == "running"
    assert line.ledger.avatar("bob").state == "new"


def test_an_avatar_that_is_ready_stays_ready_when_a_rebuild_fails(line: Line, sample_upload: Path) -> None:
    send(line, sample_upload)
    take_in_uploads(line, "bob")
    line.ledger.set_avatar_state("bob", "ready")
    give_up(line, "bob", QualityTooLow("Worse than before.", remedy="See the run."))
    assert line.ledger.avatar("bob").state == "ready"


def test_a_request_whose_workers_all_died_fails_and_its_avatar_does_not_stay_new(
    line: Line, sample_upload: Path
) -> None:
    """Clips would wait for it for ever."""
    request = send(line, sample_upload)
    take_in_uploads(line, "bob")
    for _ in range(line.settings.max_attempts - 1):
        line.requests.begin(request.request_id, max_attempts=line.settings.max_attempts)
    with pytest.raises(WorkerLost):
        take_in_uploads(line, "bob")
    assert (state(line, request), line.ledger.avatar("bob").state) == ("failed", "failed")


def test_a_request_that_is_given_up_when_its_avatar_is_ready_is_done(own_home: Path, sample_upload: Path) -> None:
    with open_line(read_settings()) as line:
        request = send(line, sample_upload, "ada")
        line.requests.begin(request.request_id, max_attempts=9)
        abandon(line, line.requests.get(request.request_id), WorkerLost("Enough.", remedy="None."))
        assert state(line, request) == "done"


def test_a_store_that_lacks_an_artifact_fails_nobody(line: Line, sample_upload: Path) -> None:
    request = send(line, sample_upload)
    take_in_uploads(line, "bob")
    give_up(line, "bob", NotFound("bob has no landmarks yet.", remedy="Materialize it."))
    assert (state(line, request), line.ledger.avatar("bob").state) == ("running", "new")
