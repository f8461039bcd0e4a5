"""Avatar requests: from the places that they name to a registered avatar, and to their end."""

from __future__ import annotations

import logging
import tempfile
from datetime import timedelta
from pathlib import Path

from avatar_pipeline.consent import ConsentRecord, read_consent
from avatar_pipeline.errors import (
    AvatarError,
    ConsentRevoked,
    DeadlinePassed,
    InvalidInput,
    NotFound,
    QualityTooLow,
    WorkerLost,
)
from avatar_pipeline.ledger.messages import AvatarRequest
from avatar_pipeline.ledger.records import RequestRecord, RequestState
from avatar_pipeline.ledger.retention import NamedUpload, named_by_others
from avatar_pipeline.settings import InvalidSettings
from avatar_pipeline.stages.intake import register_avatar
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.retention import delete_named
from avatar_pipeline.stages.uploads import beside, fetch_upload
from avatar_pipeline.stages.waiting import WAITING, put_off, times_put_off
from avatar_pipeline.store.artifacts import Slot

_log = logging.getLogger(__name__)

MOST_LOOKED_AT = 500
UNFINISHED: tuple[RequestState, ...] = ("queued", "claimed", "running")


def take_in_uploads(line: Line, avatar_id: str) -> None:
    """Register the avatar that its waiting requests ask for; without such requests there is nothing to do.

    A request whose upload cannot be used, or whose time or attempts are over, fails alone, with the reason.

    Raises:
        InvalidInput, WorkerLost, DeadlinePassed: no request is left to be worked on, and the avatar is not ready from
            before.
    """
    problem: AvatarError | None = None
    for record in _unfinished(line, avatar_id):
        request = record.request
        if not isinstance(request, AvatarRequest):
            continue
        try:
            if line.requests.begin(request.request_id, max_attempts=line.settings.max_attempts):
                _register(line, request)
        except (InvalidInput, WorkerLost, DeadlinePassed) as error:
            if isinstance(error, InvalidSettings):
                raise
            line.requests.fail(request.request_id, error)
            problem = error
    if problem is None or _unfinished(line, avatar_id):
        return
    _fail_avatar(line, avatar_id, problem)
    if not line.ledger.has_avatar(avatar_id) or line.ledger.avatar(avatar_id).state == "failed":
        raise problem


def waiting_requests(line: Line) -> list[RequestRecord]:
    """Return the avatar requests that are not finished, the most urgent first; those of no more use are failed."""
    line.requests.expire(unknown_avatar=timedelta(seconds=line.settings.unknown_avatar_seconds))
    return line.requests.waiting_avatars(MOST_LOOKED_AT)


def abandon(line: Line, record: RequestRecord, error: AvatarError) -> None:
    """End a request whose runs came to nothing: it failed, and the avatar with it; or it is done, if that is ready."""
    request_id, avatar_id = record.request.request_id, record.request.avatar_id
    if record.state == "running" and line.ledger.has_avatar(avatar_id):
        greeting = line.store.current(Slot.avatar(avatar_id, "greeting_clip"))
        if line.ledger.avatar(avatar_id).state == "ready" and greeting is not None:
            line.requests.finish(request_id, clip_key=greeting.key, uri=f"{greeting.uri}/clip.mp4")
            return
    # The avatar goes first: killed in between, the request is found again, while a failed one would not be.
    _fail_avatar(line, avatar_id, error)
    line.requests.fail(request_id, error)


def finish_requests(line: Line, avatar_id: str, *, key: str, uri: str) -> None:
    """Finish the requests of an avatar that became ready; `key` and `uri` are its greeting's."""
    for record in _unfinished(line, avatar_id):
        if record.state == "running":
            line.requests.finish(record.request.request_id, clip_key=key, uri=uri)


def give_up(line: Line, avatar_id: str, error: AvatarError) -> None:
    """Record that an avatar cannot be made from what was given; one that is ready already stays as it is.

    What may go better another time (the machine's fault, not the input's) changes nothing: the run is tried again. What
    has to wait, for credits, a busy provider or a person who verifies the voice, is put off until then.
    """
    if isinstance(error, WAITING):
        for record in _unfinished(line, avatar_id):
            if record.state == "running":
                put_off(line, record.request.request_id, error)
        return
    of_the_machine = isinstance(error, NotFound | InvalidSettings)
    if of_the_machine or not isinstance(error, InvalidInput | QualityTooLow):
        return
    _fail_avatar(line, avatar_id, error)
    for record in _unfinished(line, avatar_id):
        if record.state == "running":
            line.requests.fail(record.request.request_id, error)


def attempts_allowed(line: Line, record: RequestRecord) -> int:
    """Return how many runs of an avatar may fail before it is given up: a wait is not its fault."""
    return line.settings.max_attempts + times_put_off(line, record.request.request_id)


def _fail_avatar(line: Line, avatar_id: str, error: AvatarError) -> None:
    if line.ledger.has_avatar(avatar_id) and line.ledger.avatar(avatar_id).state != "ready":
        line.ledger.set_avatar_state(avatar_id, "failed", error)


def _register(line: Line, request: AvatarRequest) -> None:
    # Among the avatar's drafts, so that what a killed process leaves goes with these.
    drafts = line.store.drafts_of("avatars", request.avatar_id)
    drafts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=drafts, prefix="intake-", suffix=".tmp") as folder:
        consent = read_consent(fetch_upload(line.settings, request.consent_uri, Path(folder), field="consent_uri"))
        try:
            # Before anything of the person is copied here.
            line.consents.require_not_revoked(consent.consent_id)
            _take_in(line, request, consent, Path(folder))
        except ConsentRevoked:
            _delete_what_it_named(line, request, consent)
            raise


def _take_in(line: Line, request: AvatarRequest, consent: ConsentRecord, folder: Path) -> None:
    recording = None
    if consent.recording is not None:
        uri = beside(request.consent_uri, consent.recording)
        recording = fetch_upload(line.settings, uri, folder, field="recording")
    video = fetch_upload(line.settings, request.video_uri, folder, field="video_uri")
    register_avatar(
        line,
        request.avatar_id,
        video,
        consent,
        voice=request.voice,
        greeting=request.greeting,
        recording=recording,
    )


def _delete_what_it_named(line: Line, request: AvatarRequest, consent: ConsentRecord) -> None:
    """Delete the files of a request whose consent was taken back: with no avatar, nothing else knows of them.

    What another request named that has not failed stays: that one has a consent of its own.
    """
    named = [NamedUpload(request.video_uri, "video_uri"), NamedUpload(request.consent_uri, "consent_uri")]
    wanted = named_by_others(line.ledger.engine, {upload.uri for upload in named}, request.request_id)
    try:
        delete_named(line, [upload for upload in named if upload.uri not in wanted], consent)
    except AvatarError as error:
        _log.warning("The files that request %s named are still in the uploads place: %s", request.request_id, error)


def _unfinished(line: Line, avatar_id: str) -> list[RequestRecord]:
    return line.requests.list(kind="avatar", avatar_id=avatar_id, states=UNFINISHED)
