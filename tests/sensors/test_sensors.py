"""The sensors: what they ask for, in which order they make things safe, and how they find what was left behind."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from avatar_pipeline.ledger.beats import Beats
from avatar_pipeline.stages.batches import make_manifest
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.uploads import keep_upload
from tests.sensors.conftest import Tick, clip
from tests.stages.benches import add, request_row


def avatar(line: Line, upload: Path, avatar_id: str = "bob", **more: object) -> str:
    """An avatar request as `avatar queue send avatar` writes it."""
    video = keep_upload(line.settings, upload / "sample.mp4", field="video_uri")
    consent = keep_upload(line.settings, upload / "consent.json", field="consent_uri")
    return json.dumps({"version": 1, "avatar_id": avatar_id, "video_uri": video, "consent_uri": consent} | more)


def begin_run(
    defs: dg.Definitions, instance: dg.DagsterInstance, job: str, partition: str, **tags: str
) -> dg.DagsterRun:
    """Have a run in flight, as the daemon makes it from a run request."""
    return instance.create_run_for_job(
        defs.resolve_job_def(job),
        tags={"dagster/partition": partition} | tags,
        status=dg.DagsterRunStatus.STARTED,
    )


def test_an_avatar_request_becomes_a_partition_and_a_run_and_the_message_is_gone(
    line: Line, tick: Tick, sample_upload: Path, instance: dg.DagsterInstance
) -> None:
    line.queues.avatars.send([avatar(line, sample_upload, priority=3)])
    (asked,) = tick("avatar_intake_sensor").run_requests
    assert asked.partition_key == "bob"
    assert asked.tags["dagster/priority"] == "3"
    assert instance.has_dynamic_partition("avatars", "bob")
    assert line.queues.avatars.depth().total == 0
    (record,) = line.requests.list(kind="avatar")
    assert (record.state, asked.run_key) == ("queued", f"{record.request.request_id}:first")


def test_a_tick_that_died_before_its_run_was_launched_is_made_up_for(
    line: Line, tick: Tick, sample_upload: Path
) -> None:
    """The message is acknowledged by then: the ledger alone has to bring the run back, under the same key."""
    line.queues.avatars.send([avatar(line, sample_upload)])
    first = tick("avatar_intake_sensor").run_requests
    again = tick("avatar_intake_sensor").run_requests
    assert [run.run_key for run in again] == [run.run_key for run in first]


def test_an_avatar_that_is_being_built_is_not_asked_for_twice(
    line: Line, tick: Tick, sample_upload: Path, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    line.queues.avatars.send([avatar(line, sample_upload)])
    (asked,) = tick("avatar_intake_sensor").run_requests
    begin_run(defs, instance, "build_avatar", "bob", **asked.tags)
    assert not tick("avatar_intake_sensor").run_requests


def test_an_avatar_whose_run_failed_is_run_again_as_another_attempt(
    line: Line, tick: Tick, sample_upload: Path, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    line.queues.avatars.send([avatar(line, sample_upload)])
    (asked,) = tick("avatar_intake_sensor").run_requests
    run = begin_run(defs, instance, "build_avatar", "bob", **asked.tags)
    instance.report_run_failed(run)
    (again,) = tick("avatar_intake_sensor").run_requests
    assert again.run_key == str(asked.run_key).replace(":first", f":{run.run_id}")


def test_two_requests_for_one_avatar_never_have_two_runs_at_once(
    line: Line, tick: Tick, sample_upload: Path, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    """They would pull each other's checkpoints away."""
    line.queues.avatars.send([avatar(line, sample_upload), avatar(line, sample_upload, greeting="Another.")])
    (asked,) = tick("avatar_intake_sensor").run_requests
    begin_run(defs, instance, "build_avatar", "bob", **asked.tags)
    assert not tick("avatar_intake_sensor").run_requests


def test_no_more_avatars_are_begun_than_the_settings_allow(
    line: Line, tick: Tick, sample_upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATAR_MAX_OPEN_AVATARS", "2")
    line.queues.avatars.send([avatar(line, sample_upload, f"bob-{number}", priority=number) for number in range(5)])
    asked = tick("avatar_intake_sensor").run_requests
    assert [run.partition_key for run in asked] == ["bob-4", "bob-3"], "the most urgent first"


def test_a_malformed_avatar_request_goes_to_the_dead_letters_and_holds_up_nobody(
    line: Line, tick: Tick, sample_upload: Path
) -> None:
    line.queues.avatars.send(["{}", avatar(line, sample_upload), "not json"])
    assert len(tick("avatar_intake_sensor").run_requests) == 1
    dead = line.queues.avatars.dead
    assert dead is not None
    assert sorted(message.body for message in dead.peek(10)) == ["not json", "{}"]
    assert all(message.reason for message in dead.peek(10))


def test_the_batch_sensor_opens_batches_and_receives_nothing(
    line: Line, tick: Tick, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATAR_BATCH_SIZE", "3")
    monkeypatch.setenv("AVATAR_BACKLOG_PER_WORKER", "3")
    line.queues.clips.send([clip(number) for number in range(6)])
    asked = tick("clip_batch_sensor").run_requests
    assert len(asked) == 2
    assert set(instance.get_dynamic_partitions("clip_batches")) == {run.partition_key for run in asked}
    assert all(message.receive_count == 0 for message in line.queues.clips.peek(10))


def test_batches_that_have_yet_to_claim_are_counted_before_more_are_opened(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATAR_MAX_BATCH_AGE_SECONDS", "0")
    line.queues.clips.send([clip(1)])
    (asked,) = tick("clip_batch_sensor").run_requests
    begin_run(defs, instance, "make_clip_batch", str(asked.partition_key))
    assert not tick("clip_batch_sensor").run_requests


def test_a_lone_clip_waits_for_company_and_no_longer_than_it_may(
    line: Line, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.queues.clips.send([clip(1)])
    waiting = tick("clip_batch_sensor")
    assert not waiting.run_requests
    assert "waits for company" in str(waiting.skip_reason)
    monkeypatch.setenv("AVATAR_MAX_BATCH_AGE_SECONDS", "0")
    assert len(tick("clip_batch_sensor").run_requests) == 1


def test_a_batch_without_a_run_is_run_again(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    line.queues.clips.send([clip(1)])
    make_manifest(line, "batch-1")
    run = begin_run(defs, instance, "make_clip_batch", "batch-1")
    assert not tick("recovery_sensor").run_requests
    instance.report_run_failed(run)
    (asked,) = tick("recovery_sensor").run_requests
    assert (asked.partition_key, asked.run_key) == ("batch-1", f"batch-1:{run.run_id}")
    assert instance.has_dynamic_partition("clip_batches", "batch-1")


def test_a_batch_that_was_put_off_is_run_again_when_its_time_has_come(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    line.queues.clips.send([clip(1), clip(2)])
    make_manifest(line, "batch-1")
    instance.report_run_failed(begin_run(defs, instance, "make_clip_batch", "batch-1"))
    now = datetime.now(UTC)
    line.requests.hold("clip-1", "the quota is used up", now + timedelta(hours=1))
    line.requests.hold("clip-2", "the quota is used up", now + timedelta(hours=1))
    assert not tick("recovery_sensor").run_requests
    line.requests.release("clip-2")
    line.requests.hold("clip-2", "the quota is used up", now)
    assert [asked.partition_key for asked in tick("recovery_sensor").run_requests] == ["batch-1"]
    assert [line.requests.get(name).state for name in ("clip-1", "clip-2")] == ["held", "claimed"]


def test_a_batch_that_fails_again_and_again_is_given_up_and_its_requests_say_why(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATAR_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("AVATAR_RETRY_SECONDS", "0")
    line.queues.clips.send([clip(1)])
    make_manifest(line, "batch-1")
    for _ in range(3):
        instance.report_run_failed(begin_run(defs, instance, "make_clip_batch", "batch-1"))
    assert tick("recovery_sensor").run_requests, "each of its clips may use up its own attempts before"
    instance.report_run_failed(begin_run(defs, instance, "make_clip_batch", "batch-1"))
    assert not tick("recovery_sensor").run_requests
    record = line.requests.get("clip-1")
    assert (record.state, (record.error or {})["code"]) == ("failed", "worker_lost")


def test_while_batches_wait_to_be_run_again_no_more_are_opened(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the machine is at fault, the queue is the safe place for what has not begun."""
    monkeypatch.setenv("AVATAR_MAX_BATCH_AGE_SECONDS", "0")
    monkeypatch.setenv("AVATAR_MAX_OPEN_BATCHES", "1")
    line.queues.clips.send([clip(1)])
    make_manifest(line, "batch-1")
    run = begin_run(defs, instance, "make_clip_batch", "batch-1")
    instance.report_run_failed(run)
    line.queues.clips.send([clip(2)])
    assert not tick("clip_batch_sensor").run_requests
    instance.report_run_canceled(begin_run(defs, instance, "make_clip_batch", "batch-1"))
    assert tick("clip_batch_sensor").run_requests, "one that a person called off holds up nobody"


def test_a_batch_that_a_person_called_off_is_left_to_the_person(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    line.queues.clips.send([clip(1)])
    make_manifest(line, "batch-1")
    instance.report_run_canceled(begin_run(defs, instance, "make_clip_batch", "batch-1"))
    done = tick("recovery_sensor")
    assert not done.run_requests
    assert "1 parked" in str(done.skip_reason)
    assert line.requests.get("clip-1").state == "claimed"


def test_a_run_whose_worker_is_silent_is_closed_and_its_batch_run_again(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.queues.clips.send([clip(1)])
    make_manifest(line, "batch-1")
    run = begin_run(defs, instance, "make_clip_batch", "batch-1")
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    Beats(line.ledger.engine, clock=lambda: long_ago).beat(run.run_id)
    assert [asked.partition_key for asked in tick("recovery_sensor").run_requests] == ["batch-1"]
    closed = instance.get_run_by_id(run.run_id)
    assert closed is not None
    assert closed.status == dg.DagsterRunStatus.FAILURE


def test_a_run_whose_worker_beats_is_left_alone(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    run = begin_run(defs, instance, "make_clip_batch", "batch-1")
    line.beats.beat(run.run_id)
    tick("recovery_sensor")
    alive = instance.get_run_by_id(run.run_id)
    assert alive is not None
    assert alive.status == dg.DagsterRunStatus.STARTED


def test_callbacks_are_off_unless_somebody_turns_them_on(line: Line, tick: Tick) -> None:
    assert "off" in str(tick("callback_sensor").skip_reason)


def test_old_batch_partitions_are_pruned_and_none_with_work_left(
    line: Line, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=line.settings.keep_batches_days + 1)
    for name, finished_at in (("done", long_ago), ("busy", long_ago), ("left", None)):
        row = request_row(f"clip-{name}", sent_at=long_ago, finished_at=finished_at, batch_id=f"batch-{name}")
        add(line.ledger, row)
    names = ["batch-done", "batch-busy", "batch-left", "batch-never-ran"]
    instance.add_dynamic_partitions("clip_batches", names)
    begin_run(defs, instance, "make_clip_batch", "batch-busy")
    assert defs.resolve_job_def("tidy_up").execute_in_process(instance=instance).success
    assert set(instance.get_dynamic_partitions("clip_batches")) == set(names) - {"batch-done"}
