"""Avatar requests: taken in from where they lie, finished when the avatar is ready, failed with a reason when not."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from avatar_pipeline.errors import (
    AvatarError,
    EnvironmentProblem,
    InvalidInput,
    NotFound,
    ProviderBusy,
    QualityTooLow,
    QuotaExhausted,
    VoiceNotReady,
    WorkerLost,
)
from avatar_pipeline.ledger.messages import AvatarRequest
from avatar_pipeline.queues.parse import dump
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.avatar_requests import (
    abandon,
    attempts_allowed,
    finish_requests,
    give_up,
    take_in_uploads,
)
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


@pytest.mark.parametrize(
    "error",
    [
        QuotaExhausted("The credits are used up.", remedy="Wait."),
        ProviderBusy("It is busy.", remedy="Wait."),
        VoiceNotReady("It wants the voice verified.", remedy="Verify it."),
    ],
)
def test_an_avatar_whose_voice_cannot_be_made_yet_waits_and_is_not_given_up_for_it(
    line: Line, sample_upload: Path, error: AvatarError
) -> None:
    request = send(line, sample_upload)
    for _ in range(3 * line.settings.max_attempts):
        take_in_uploads(line, "bob")
        give_up(line, "bob", error)
        record = line.requests.get(request.request_id)
        assert (record.state, line.ledger.avatar("bob").state) == ("held", "new")
        assert record.held_until is not None
        assert record.held_until > line.clock()
        assert line.requests.release(request.request_id)
    assert attempts_allowed(line, line.requests.get(request.request_id)) == 4 * line.settings.max_attempts


def test_an_upload_that_a_killed_worker_had_fetched_is_swept(line: Line, sample_upload: Path) -> None:
    """The person's video is not to lie about for ever."""
    request = send(line, sample_upload)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        found = [path for path in line.settings.home.rglob("intake-*") if path.is_dir()]
        assert [path.parent.name for path in found] == ["bob"]
        copied = found[0].with_name("intake-of-the-dead.tmp")
        shutil.copytree(found[0], copied)
        os.utime(copied, (0, 0))
        raise Killed

    consents = line.consents
    consents.require_not_revoked = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        take_in_uploads(line, "bob")
    assert state(line, request) == "running"
    line.store.sweep(line.clock())
    assert not [path for path in line.settings.home.rglob("intake-*") if path.is_dir()]
