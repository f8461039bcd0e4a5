"""The budget sensor: who is told what, what is held and let go, and what is taken out of the queue at a hard stop."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from avatar_pipeline.budget.types import Payer, ProviderCharge
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.records import RequestState
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.batches import make_manifest
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.stages.standing_down import StoodDown
from sensors.budget import _withdraw
from tests.sensors.conftest import Tick, clip
from tests.sensors.test_sensors import avatar, begin_run

QUEUED = dg.DagsterRunStatus.QUEUED
CAPS = {"clip": "0.10", "avatar": "1.00", "default": "0.01"}
LIMIT = "everything/month"


def budgets(home: Path, monkeypatch: pytest.MonkeyPatch, *rules: dict[str, object]) -> None:
    """Write a file of budgets, and have everybody read it."""
    file = home / "budgets.json"
    file.write_text(json.dumps({"version": 1, "budgets": rules, "caps": CAPS}))
    monkeypatch.setenv("AVATAR_BUDGETS", str(file))


@pytest.fixture
def line(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The line of a home in which the avatar `ada` is ready, with money for ten clips in a month.

    The five cents are for `ada`, who cost a little when she was made.
    """
    budgets(own_home, monkeypatch, {"name": "everything", "scope": "all", "month": "1.05"})
    monkeypatch.setenv("AVATAR_MAX_BATCH_AGE_SECONDS", "0")
    with open_line(read_settings()) as line:
        yield line


def spend(line: Line, usd: str, *, tenant: str = "") -> None:
    """Spend something."""
    charge = ProviderCharge(
        key=f"spent-{datetime.now(UTC).timestamp()}",
        provider="elsewhere",
        reservation=None,
        payer=Payer(tenant=tenant, provider="elsewhere"),
        asset="synthesized_speech",
        usd=Decimal(usd),
        characters=Decimal(0),
        at=datetime.now(UTC),
    )
    assert line.spend.charge(charge)


def raise_limit(line: Line, amount: str, limit: str = LIMIT) -> None:
    line.budgets.set(limit, Decimal(amount), who="test", reason="to see what happens")


def states(line: Line) -> dict[RequestState, int]:
    return {state: count for (_, state), count in line.requests.counts().items()}


@pytest.fixture
def queue_run(defs: dg.Definitions, instance: dg.DagsterInstance) -> Callable[..., dg.DagsterRun]:
    """Have a run wait in the queue, as the daemon puts it there."""

    def put(job: str, partition: str, **tags: str) -> dg.DagsterRun:
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "here"), job)
        return instance.create_run_for_job(
            defs.resolve_job_def(job),
            tags={"dagster/partition": partition} | tags,
            status=QUEUED,
            remote_job_origin=origin,
        )

    return put


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


# Telling


def test_each_threshold_is_told_once_and_the_ui_gets_the_figures(
    line: Line, tick: Tick, instance: dg.DagsterInstance
) -> None:
    spend(line, "0.60")
    done = tick("cost_budget_sensor")
    (event,) = done.asset_events
    assert isinstance(event, dg.AssetObservation)
    assert event.asset_key == dg.AssetKey("budgets")
    assert event.metadata[f"{LIMIT} spent"].value == pytest.approx(0.6, abs=0.02)
    instance.report_runless_asset_event(event)
    assert [alert.threshold for alert in line.budgets.alerts()] == [Decimal("0.5")]
    assert "everything/month 5" in str(done.skip_reason)
    again = tick("cost_budget_sensor")
    assert not again.asset_events, "the plot has a point of the last minutes"
    spend(line, "0.45")
    assert len(tick("cost_budget_sensor").asset_events) == 1, "an alert is shown at once"
    assert sorted(alert.threshold for alert in line.budgets.alerts()) == [Decimal("0.5"), Decimal("0.8"), 1]
    assert instance.fetch_observations(dg.AssetKey("budgets"), limit=1).records


def test_without_budgets_it_says_so_and_does_nothing(own_home: Path, tick: Tick) -> None:
    done = tick("cost_budget_sensor")
    assert "no budgets" in str(done.skip_reason)
    assert not done.asset_events


# Holding and letting go


def test_clips_that_nobody_can_pay_for_are_held_and_go_on_when_the_limit_is_raised(line: Line, tick: Tick) -> None:
    line.requests.submit([ClipRequest(request_id=f"clip-{n}", avatar_id="ada", text="Yes.") for n in range(14)])
    tick("cost_budget_sensor")
    assert states(line) == {"queued": 10, "held": 4}
    raise_limit(line, "1.25")
    tick("cost_budget_sensor")
    assert states(line) == {"queued": 12, "held": 2}


def test_where_nothing_more_can_begin_what_is_in_the_queue_is_taken_in_and_held_and_no_batch_is_opened(
    line: Line, tick: Tick
) -> None:
    """Else a batch after the other would be opened, to find that it can pay for nothing."""
    spend(line, "1.05")
    line.queues.clips.send([clip(number) for number in range(3)])
    opened = tick("clip_batch_sensor")
    assert not opened.run_requests
    assert "everything/month" in str(opened.skip_reason)
    tick("cost_budget_sensor")
    assert line.queues.clips.depth().total == 0
    assert states(line) == {"held": 3}
    raise_limit(line, "5")
    tick("cost_budget_sensor")
    assert states(line) == {"queued": 3}
    assert tick("clip_batch_sensor").run_requests


def test_an_avatar_is_not_begun_unless_all_of_it_can_be_paid_for(line: Line, tick: Tick, sample_upload: Path) -> None:
    line.queues.avatars.send([avatar(line, sample_upload, name, request_id=name) for name in ("bob", "eve")])
    raise_limit(line, "1.50")
    asked = tick("avatar_intake_sensor")
    assert [run.partition_key for run in asked.run_requests] == ["bob"]
    record = line.requests.get("eve")
    assert (record.state, record.held_by) == ("held", LIMIT)
    assert record.held_until is not None
    raise_limit(line, "5")
    tick("cost_budget_sensor")
    assert line.requests.get("eve").state == "queued"
    assert [run.partition_key for run in tick("avatar_intake_sensor").run_requests] == ["bob", "eve"]


# Taking out of the queue


def test_a_queued_batch_that_would_claim_nothing_is_withdrawn_and_one_at_work_goes_on(
    line: Line, tick: Tick, defs: dg.Definitions, instance: dg.DagsterInstance, queue_run: Callable[..., dg.DagsterRun]
) -> None:
    line.requests.submit([ClipRequest(request_id=f"clip-{n}", avatar_id="ada", text="Yes.") for n in range(2)])
    waits = queue_run("make_clip_batch", "batch-1")
    works = begin_run(defs, instance, "make_clip_batch", "batch-2")
    tick("cost_budget_sensor")
    assert status(instance, waits) == QUEUED, "there is money for them"
    spend(line, "1.00")
    tick("cost_budget_sensor")
    assert status(instance, waits) == dg.DagsterRunStatus.CANCELED
    assert status(instance, works) == dg.DagsterRunStatus.STARTED
    assert "by the budget" in instance.all_logs(waits.run_id)[-1].message


def test_a_batch_goes_on_with_what_was_put_aside_for_it_though_there_is_room_for_no_more(
    line: Line, tick: Tick, instance: dg.DagsterInstance, queue_run: Callable[..., dg.DagsterRun]
) -> None:
    line.requests.submit([ClipRequest(request_id=f"clip-{n}", avatar_id="ada", text="Yes.") for n in range(12)])
    make_manifest(line, "batch-1")
    run = queue_run("make_clip_batch", "batch-1")
    tick("cost_budget_sensor")
    assert states(line) == {"claimed": 10, "held": 2}
    assert status(instance, run) == QUEUED


def test_a_batch_whose_limit_was_lowered_under_it_is_withdrawn_and_goes_on_when_it_is_raised(
    line: Line, tick: Tick, instance: dg.DagsterInstance, queue_run: Callable[..., dg.DagsterRun]
) -> None:
    """It is neither parked, as what a person called off, nor does it use up an attempt."""
    line.requests.submit([ClipRequest(request_id="clip-1", avatar_id="ada", text="Yes.")])
    make_manifest(line, "batch-1")
    run = queue_run("make_clip_batch", "batch-1")
    raise_limit(line, "0")
    tick("cost_budget_sensor")
    assert status(instance, run) == dg.DagsterRunStatus.CANCELED
    record = line.requests.get("clip-1")
    assert (record.state, record.held_by, record.batch_id) == ("held", LIMIT, "batch-1")
    recovered = tick("recovery_sensor")
    assert not recovered.run_requests
    assert "0 parked" in str(recovered.skip_reason)
    raise_limit(line, "5")
    tick("cost_budget_sensor")
    assert line.requests.get("clip-1").state == "claimed"
    (asked,) = tick("recovery_sensor").run_requests
    assert (asked.partition_key, asked.run_key) == ("batch-1", f"batch-1:{run.run_id}")


def test_an_avatar_that_waits_for_its_run_is_withdrawn_and_asked_for_again_under_another_key(
    line: Line, tick: Tick, sample_upload: Path, instance: dg.DagsterInstance, queue_run: Callable[..., dg.DagsterRun]
) -> None:
    raise_limit(line, "5")
    line.queues.avatars.send([avatar(line, sample_upload, request_id="bob")])
    (asked,) = tick("avatar_intake_sensor").run_requests
    run = queue_run("build_avatar", "bob", **asked.tags)
    by_a_person = queue_run("build_avatar", "ada")
    spend(line, "5.00")
    tick("cost_budget_sensor")
    assert status(instance, run) == dg.DagsterRunStatus.CANCELED
    assert status(instance, by_a_person) == QUEUED, "it says by itself why it cannot begin"
    assert line.requests.get("bob").held_by == LIMIT
    assert not tick("avatar_intake_sensor").run_requests
    raise_limit(line, "10")
    tick("cost_budget_sensor")
    (again,) = tick("avatar_intake_sensor").run_requests
    assert again.run_key == f"bob:{run.run_id}"


def test_a_tenant_without_money_holds_up_nobody_else(
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    tick: Tick,
    instance: dg.DagsterInstance,
    queue_run: Callable[..., dg.DagsterRun],
) -> None:
    budgets(own_home, monkeypatch, {"name": "tenants", "scope": "tenant", "month": "1.00"})
    with open_line(read_settings()) as line:
        spend(line, "1.00", tenant="poor")
        texts = {"poor": "clip-1", "rich": "clip-2"}
        line.requests.submit(
            [ClipRequest(request_id=name, avatar_id="ada", tenant=who, text="Yes.") for who, name in texts.items()]
        )
        run = queue_run("make_clip_batch", "batch-1")
        tick("cost_budget_sensor")
        assert line.requests.get("clip-1").held_by == "tenants/month@tenant:poor"
        assert line.requests.get("clip-2").state == "queued"
        assert status(instance, run) == QUEUED


def test_a_run_that_has_left_the_queue_is_not_stopped(
    defs: dg.Definitions, instance: dg.DagsterInstance, line: Line
) -> None:
    run = begin_run(defs, instance, "make_clip_batch", "batch-1")
    assert not _withdraw(instance, StoodDown(run.run_id, "Nothing is left."))
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.STARTED
    assert "avatar/withdrawn" not in found.tags


# Running degraded


def test_where_a_budget_runs_low_runs_are_asked_for_on_spot_and_later_in_line(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, tick: Tick, sample_upload: Path, defs: dg.Definitions
) -> None:
    degrade = {"at": 0.5, "spot_only": True, "priority": -5}
    budgets(own_home, monkeypatch, {"name": "everything", "scope": "all", "month": "10.00", "degrade": degrade})
    monkeypatch.setenv("AVATAR_MAX_BATCH_AGE_SECONDS", "0")
    with open_line(read_settings()) as line:
        line.requests.submit([ClipRequest(request_id="clip-1", avatar_id="ada", text="Yes.")])
        line.queues.avatars.send([avatar(line, sample_upload, priority=3)])
        (batch,) = tick("clip_batch_sensor").run_requests
        (built,) = tick("avatar_intake_sensor").run_requests
        assert "avatar/capacity" not in batch.tags | built.tags
        spend(line, "5.00")
        (batch,) = tick("clip_batch_sensor").run_requests
        (built,) = tick("avatar_intake_sensor").run_requests
        assert (batch.tags["dagster/priority"], batch.tags["avatar/capacity"]) == ("-5", "spot")
        assert (built.tags["dagster/priority"], built.tags["avatar/capacity"]) == ("-2", "spot")
        make_manifest(line, "batch-1")
        tick("recovery_sensor")
