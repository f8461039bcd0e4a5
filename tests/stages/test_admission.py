"""Clips and their budgets: what is claimed is paid for, the rest is held, and goes on by itself when there is room."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from avatar_pipeline.budget.types import Payer, ProviderCharge
from avatar_pipeline.errors import AvatarError, BudgetHold, InvalidInput
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.admission import comes_after, sift
from avatar_pipeline.stages.batches import make_manifest, render_batch, synthesize_batch
from avatar_pipeline.stages.budget_watch import batch_refused
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.stages.paying import Step, hold_step, paid_step
from tests.stages.benches import add, avatar_row, make_line

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def line(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Line]:
    """A dollar a day, and ten cents put aside for a clip: ten of them at once."""
    where = {"ledger_url": request.getfixturevalue("postgres_url")} if request.param == "postgresql" else {}
    budgets = tmp_path / "budgets.yaml"
    told = {
        "version": 1,
        "budgets": [{"name": "everything", "scope": "all", "day": "1.00"}],
        "caps": {"clip": "0.10"},
    }
    budgets.write_text(json.dumps(told))
    line = make_line(tmp_path, clock, budgets=budgets, **where)
    add(line.ledger, avatar_row("ada", NOON))
    yield line
    line.ledger.close()


def send(line: Line, count: int, *, first: int = 1, **more: object) -> list[str]:
    requests = [
        ClipRequest(request_id=f"clip-{number:03}", avatar_id="ada", text="Yes.", **more)
        for number in range(first, first + count)
    ]
    return line.requests.submit(requests)


def states(line: Line) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in line.requests.list(kind="clip"):
        counts[record.state] = counts.get(record.state, 0) + 1
    return counts


def reserved(line: Line) -> Decimal:
    return line.spend.standings(Payer())[0][1].reserved


def test_a_batch_claims_what_its_budget_pays_for_and_holds_the_rest(line: Line) -> None:
    send(line, 14)
    assert len(line.requests.claim("batch-1", 20)) == 10
    assert states(line) == {"claimed": 10, "held": 4}
    assert reserved(line) == Decimal("1.00")
    record = line.requests.get("clip-014")
    assert record.held_by == "everything/day"
    assert "everything/day" in line.requests.history("clip-014")[-1].note


def test_claiming_again_puts_nothing_aside_again(line: Line) -> None:
    send(line, 3)
    assert line.requests.claim("batch-1", 10) == line.requests.claim("batch-1", 10)
    assert reserved(line) == Decimal("0.30")


@pytest.mark.parametrize("end", ["done", "failed", "held"])
def test_what_was_put_aside_for_a_clip_is_free_again_at_its_end(line: Line, end: str) -> None:
    send(line, 1)
    line.requests.claim("batch-1", 10)
    line.requests.begin("clip-001", max_attempts=3)
    if end == "done":
        line.requests.finish("clip-001", clip_key="key")
    elif end == "failed":
        line.requests.fail("clip-001", AvatarError("It broke.", remedy="None."))
    else:
        line.requests.hold("clip-001", "quota", NOON + timedelta(hours=1))
    assert reserved(line) == 0


def test_the_clips_of_an_avatar_that_is_given_up_free_what_was_put_aside(line: Line) -> None:
    send(line, 4)
    line.requests.claim("batch-1", 10)
    line.requests.refuse_avatar("ada", AvatarError("Gone.", remedy="None."))
    assert reserved(line) == 0


def test_a_clip_that_was_held_in_its_batch_is_admitted_anew_when_it_goes_on(line: Line) -> None:
    send(line, 1)
    line.requests.claim("batch-1", 10)
    line.requests.hold("clip-001", "quota", NOON)
    line.requests.release_due()
    assert line.requests.get("clip-001").state == "claimed"
    assert line.requests.secure("clip-001").may_begin
    assert line.requests.secure("clip-001").may_begin, "and again, which puts nothing aside"
    assert reserved(line) == Decimal("0.10")
    assert line.requests.get("clip-001").admissions == 2


def test_a_clip_that_is_laid_down_for_a_moment_keeps_what_was_put_aside(line: Line) -> None:
    send(line, 1)
    line.requests.claim("batch-1", 10)
    line.requests.hold("clip-001", "the machine is taken", NOON, keep_reservation=True)
    line.requests.release("clip-001")
    assert line.requests.secure("clip-001").may_begin
    assert reserved(line) == Decimal("0.10")
    assert line.requests.get("clip-001").admissions == 1


@pytest.mark.parametrize("end", ["held", "failed", "removed"])
def test_nothing_is_put_aside_for_what_is_not_to_be_worked_on_any_more(line: Line, end: str) -> None:
    send(line, 1)
    line.requests.claim("batch-1", 10)
    if end == "held":
        line.requests.hold("clip-001", "a person wants it so")
    elif end == "failed":
        line.requests.fail("clip-001", AvatarError("It broke.", remedy="None."))
    else:
        line.ledger.delete_avatar("ada")
    secured = line.requests.secure("clip-001")
    assert (secured.may_begin, secured.refused) == (False, None)
    assert reserved(line) == 0


def test_a_hold_by_a_person_outlasts_the_budgets(line: Line) -> None:
    line.budgets.set("everything/day", Decimal(0), who="ops", reason="enough")
    send(line, 1)
    sift(line)
    line.requests.hold("clip-001", "a person wants it so")
    line.budgets.clear("everything/day", who="ops", reason="on we go")
    assert sift(line).released == 0
    assert states(line) == {"held": 1}


def test_what_a_full_limit_holds_keeps_nobody_else_waiting(tmp_path: Path, clock: Clock) -> None:
    budgets = tmp_path / "budgets.json"
    each = {"name": "tenants", "scope": "tenant", "day": "0.05"}
    budgets.write_text(json.dumps({"version": 1, "budgets": [each], "caps": {"clip": "0.10"}}))
    line = make_line(tmp_path, clock, budgets=budgets)
    add(line.ledger, avatar_row("ada", NOON))
    send(line, 30, tenant="aa")
    send(line, 1, first=99, tenant="bb")
    assert sift(line, limit=50).held == 31
    line.budgets.set("tenants/day@tenant:bb", Decimal(1), who="ops", reason="a launch")
    assert sift(line, limit=5).released == 1
    line.ledger.close()


def test_what_cannot_be_paid_for_is_held_before_a_batch_is_opened_for_it(line: Line) -> None:
    send(line, 25)
    assert sift(line) == replace(sift(line), held=15, released=0, affordable=10)
    assert states(line) == {"queued": 10, "held": 15}


def test_sifting_again_changes_nothing(line: Line) -> None:
    send(line, 25)
    sift(line)
    before = [line.requests.history(record.request.request_id) for record in line.requests.list()]
    again = sift(line)
    assert (again.held, again.released) == (0, 0)
    assert before == [line.requests.history(record.request.request_id) for record in line.requests.list()]


def test_the_oldest_and_most_urgent_are_paid_for_first(line: Line) -> None:
    send(line, 12)
    send(line, 2, first=50, priority=4)
    sift(line)
    held = [record.request.request_id for record in line.requests.list(states=("held",))]
    assert held == ["clip-009", "clip-010", "clip-011", "clip-012"]


def test_what_is_held_goes_on_when_the_limit_is_raised(line: Line) -> None:
    send(line, 25)
    sift(line)
    line.budgets.set("everything/day", Decimal("2.00"), who="ops", reason="a launch")
    sifted = sift(line)
    assert (sifted.held, sifted.released) == (0, 10)
    assert states(line) == {"queued": 20, "held": 5}


def test_what_is_held_goes_on_when_the_day_is_over(line: Line, clock: Clock) -> None:
    line.budgets.set("everything/day", Decimal(0), who="ops", reason="enough")
    send(line, 3)
    sift(line)
    assert states(line) == {"held": 3}
    line.budgets.clear("everything/day", who="ops", reason="a new day")
    assert sift(line).released == 3


def test_without_budgets_nothing_is_ever_held_and_what_was_goes_on(line: Line, tmp_path: Path, clock: Clock) -> None:
    send(line, 25)
    sift(line)
    url = line.ledger.engine.url.render_as_string(hide_password=False)
    unlimited = make_line(tmp_path, clock, ledger_url=url)
    assert sift(unlimited).released == 15
    assert states(unlimited) == {"queued": 25}
    unlimited.ledger.close()


def test_the_requests_of_a_step_that_may_not_begin_are_held(line: Line) -> None:
    send(line, 3)
    line.requests.claim("batch-1", 10)
    error = BudgetHold("No room.", remedy="Wait.", limit_id="everything/day", retry_at=NOON + timedelta(hours=3))
    assert hold_step(line, Step("run", "rendered_clips", 0, "rendered_clips", "batch-1"), error) == 3
    record = line.requests.get("clip-001")
    assert (record.state, record.held_by, record.held_until) == ("held", "everything/day", NOON + timedelta(hours=3))
    assert reserved(line) == 0


class _Slow:
    """A guard of work that takes two minutes from boundary to boundary."""

    notice = None

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def saved(self, done: float, total: float) -> None:
        pass

    def boundary(self, done: float | None = None, total: float | None = None) -> None:
        self._clock.now += timedelta(minutes=2)

    def part(self, done: float, size: float, total: float) -> "_Slow":
        return self


def test_a_clip_that_runs_out_of_money_is_parked_with_its_work_and_goes_on_when_the_limit_is_raised(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = tmp_path / "budgets.json"
    told = {"version": 1, "budgets": [{"name": "everything", "scope": "all", "day": "0.05"}], "caps": {"clip": "0.04"}}
    budgets.write_text(json.dumps(told))
    monkeypatch.setenv("AVATAR_BUDGETS", str(budgets))
    text = "One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve."
    clock = Clock()
    with open_line(read_settings()) as opened:
        bench = replace(opened, clock=clock, guard=_Slow(clock))
        bench.queues.clips.send([json.dumps({"request_id": "clip-1", "avatar_id": "ada", "text": text, "version": 1})])
        make_manifest(bench, "batch-1")
        synthesize_batch(bench, "batch-1")
        with paid_step(bench, Step("run-1", "rendered_clips", 0, "rendered_clips", "batch-1"), None) as line:
            first = render_batch(line, "batch-1")
        assert list(first.held) == ["clip-1"]
        assert first.held["clip-1"].code == "budget_hold"
        assert bench.requests.get("clip-1").held_by == "everything/day"
        (_, standing) = bench.spend.standings(Payer())[0]
        assert standing.reserved == 0
        bench.budgets.set("everything/day", Decimal(1000), who="ops", reason="a good day")
        assert sift(bench).released == 1
        with paid_step(bench, Step("run-2", "rendered_clips", 0, "rendered_clips", "batch-1"), None) as line:
            assert list(render_batch(line, "batch-1").done) == ["clip-1"]
        assert bench.requests.get("clip-1").state == "done"
        assert bench.requests.get("clip-1").admissions == 2


def test_a_budgets_file_that_cannot_be_read_admits_nothing_and_keeps_nobody_from_deleting(
    tmp_path: Path, clock: Clock
) -> None:
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text("version: 1\nbudgets: [")
    line = make_line(tmp_path, clock, budgets=budgets)
    add(line.ledger, avatar_row("ada", NOON))
    send(line, 2)
    with pytest.raises(InvalidInput, match=r"budgets\.yaml"):
        line.requests.claim("batch-1", 10)
    with pytest.raises(InvalidInput, match=r"budgets\.yaml"):
        sift(line)
    assert states(line) == {"queued": 2}
    line.ledger.delete_avatar("ada")
    assert states(line) == {}
    line.ledger.close()


def test_repeats_teach_nothing_about_what_a_clip_takes(line: Line, clock: Clock) -> None:
    send(line, 6)
    line.requests.claim("batch-1", 10)
    keys = line.requests.reservations([f"clip-{number:03}" for number in range(1, 7)])
    step = Step("run-1", "rendered_clips", 0, "rendered_clips", "batch-1")
    with paid_step(line, step, None):
        clock.now += timedelta(seconds=1)
        for name in keys:
            line.requests.finish(name, clip_key="key", learn=False)
    assert line.spend.samples("clip") == []


def test_a_step_that_runs_again_under_a_number_that_has_ended_is_another_attempt(line: Line, clock: Clock) -> None:
    step = Step("run-1", "clip_batch_manifest", 0, "clip_batch_manifest", "batch-1")
    for _ in range(2):
        with paid_step(line, step, None):
            clock.now += timedelta(seconds=2)
    known = [line.spend.attempt(f"run-1/clip_batch_manifest/{number}") for number in (0, 1)]
    assert [one.seconds for one in known if one] == [2, 2]


def test_what_a_budget_holds_goes_on_when_the_budget_says_so_and_not_when_a_time_has_come(
    line: Line, clock: Clock
) -> None:
    line.budgets.set("everything/day", Decimal("0.05"), who="ops", reason="enough")
    send(line, 1)
    sift(line)
    clock.now += timedelta(days=2)
    assert line.requests.release_due() == 0
    line.budgets.clear("everything/day", who="ops", reason="on we go")
    assert sift(line).released == 1


@pytest.mark.parametrize("end", ["failed", "refused"])
def test_a_request_that_ends_while_a_budget_holds_it_is_held_no_more(line: Line, end: str) -> None:
    send(line, 25)
    sift(line)
    if end == "failed":
        line.requests.fail("clip-025", AvatarError("It broke.", remedy="None."))
    else:
        line.requests.refuse_avatar("ada", AvatarError("Gone.", remedy="None."))
    assert line.requests.get("clip-025").held_by is None


def test_a_held_clip_that_another_limit_refuses_now_does_not_stand_in_the_way(tmp_path: Path, clock: Clock) -> None:
    budgets = tmp_path / "budgets.json"
    rules = [
        {"name": "everything", "scope": "all", "day": "0.05"},
        {"name": "tenants", "scope": "tenant", "day": "0.10"},
    ]
    budgets.write_text(json.dumps({"version": 1, "budgets": rules, "caps": {"clip": "0.10"}}))
    line = make_line(tmp_path, clock, budgets=budgets)
    add(line.ledger, avatar_row("ada", NOON))
    send(line, 5, tenant="xx")
    send(line, 1, first=9, tenant="yy")
    sift(line)
    assert {record.held_by for record in line.requests.list()} == {"everything/day"}
    line.budgets.set("everything/day", Decimal(10), who="ops", reason="a launch")
    line.budgets.set("tenants/day@tenant:xx", Decimal("0.01"), who="ops", reason="owes us")
    for _ in range(6):
        sift(line, limit=2)
    assert line.requests.get("clip-009").state == "queued"
    assert line.requests.get("clip-001").held_by == "tenants/day@tenant:xx"
    steps = [event.state for event in line.requests.history("clip-001")]
    assert steps == ["queued", "held", "held"], "it is on record, once"
    line.ledger.close()


def test_urgent_clips_do_not_wait_for_off_peak_hours_nor_do_the_steps_that_make_them(
    tmp_path: Path, clock: Clock
) -> None:
    budgets = tmp_path / "budgets.json"
    degrade = {"at": 0.5, "off_peak": "20:00-07:00"}
    everything = {"name": "everything", "scope": "all", "day": "1.00", "degrade": degrade}
    budgets.write_text(json.dumps({"version": 1, "budgets": [everything], "caps": {"clip": "0.10"}}))
    line = make_line(tmp_path, clock, budgets=budgets)
    add(line.ledger, avatar_row("ada", NOON))
    spent = ProviderCharge("x", "elsewhere", None, Payer(), "synthesized_speech", Decimal("0.60"), Decimal(0), NOON)
    assert line.spend.charge(spent)
    send(line, 1)
    send(line, 1, first=2, priority=5)
    sift(line)
    assert line.requests.get("clip-001").state == "held"
    assert batch_refused(line) is None
    with paid_step(line, Step("run-1", "clip_batch_manifest", 0, "clip_batch_manifest", "batch-1"), None):
        assert [one.request_id for one in line.requests.claim("batch-1", 10)] == ["clip-002"]
    line.ledger.close()


def test_those_that_come_before_are_reckoned_with(line: Line) -> None:
    send(line, 12)
    tenth, eleventh = (line.requests.get(f"clip-{number:03}").request for number in (10, 11))
    assert isinstance(tenth, ClipRequest)
    assert isinstance(eleventh, ClipRequest)
    assert comes_after(line, tenth, None).admitted
    assert not comes_after(line, eleventh, None).admitted
