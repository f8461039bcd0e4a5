"""The nightly rebuild: what it asks for, and what it leaves alone, evaluated night by night on a real instance."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from assets import binding
from assets.automation import LAST, NIGHTLY, nightly
from assets.avatars import avatar_assets
from assets.partitions import avatars
from avatar_pipeline.definitions import build_defs

DAY = timedelta(days=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NIGHT = datetime(2026, 3, 2, 2, 0, 30, tzinfo=UTC)
INPUTS = {"source": [], "track": ["source"], "mesh": ["track"], "voice": ["source"], LAST: ["mesh", "voice"]}
EVERYTHING = set(INPUTS)


class Line:
    """A line of the shape of the real one, with versions that change and partitions that fail, seen by one sensor."""

    def __init__(self, instance: dg.DagsterInstance, condition: dg.AutomationCondition[Any] = NIGHTLY) -> None:
        self.instance = instance
        self.condition = condition
        self.versions = dict.fromkeys(INPUTS, "1")
        self.bad: set[tuple[str, str]] = set()
        self.cursor: Any = None

    def assets(self) -> list[dg.AssetsDefinition]:
        return [self._asset(name) for name in INPUTS]

    def _asset(self, name: str) -> dg.AssetsDefinition:
        @dg.asset(
            name=name,
            deps=INPUTS[name],
            partitions_def=avatars,
            code_version=self.versions[name],
            automation_condition=self.condition,
        )
        def made(context: dg.AssetExecutionContext) -> None:
            if (name, context.partition_key) in self.bad:
                raise dg.Failure("no face", allow_retries=False)

        return made

    def make(self, partition: str, *names: str) -> None:
        self.add(partition)
        dg.materialize(
            self.assets(),
            instance=self.instance,
            partition_key=partition,
            selection=list(names) or None,
            raise_on_error=False,
        )

    def add(self, *partitions: str) -> None:
        self.instance.add_dynamic_partitions(str(avatars.name), list(partitions))

    def begin(self, partition: str, *names: str) -> dg.DagsterRun:
        """Have a run at work, as a worker has."""
        self.add(partition)
        chosen = dg.AssetSelection.assets(*(names or INPUTS))
        job = dg.Definitions(self.assets(), jobs=[dg.define_asset_job("build", chosen)]).resolve_job_def("build")
        return self.instance.create_run_for_job(
            job, tags={"dagster/partition": partition}, status=dg.DagsterRunStatus.STARTED
        )

    def look(self, at: datetime) -> dict[str, set[str]]:
        """Return what one look of the sensor asks for: assets by partition."""
        result = dg.evaluate_automation_conditions(self.assets(), self.instance, evaluation_time=at, cursor=self.cursor)
        self.cursor = result.cursor
        wanted: dict[str, set[str]] = {}
        for name in INPUTS:
            for partition in result.get_requested_partitions(dg.AssetKey(name)):
                wanted.setdefault(str(partition), set()).add(name)
        return wanted

    def rebuild(self, at: datetime) -> dict[str, set[str]]:
        """Look, and make what was asked for."""
        wanted = self.look(at)
        for partition, names in wanted.items():
            self.make(partition, *names)
        return wanted


@pytest.fixture
def line() -> Iterator[Line]:
    settings = {"run_retries": {"enabled": True, "max_retries": 3, "retry_on_asset_or_op_failure": False}}
    with dg.DagsterInstance.ephemeral(settings=settings) as instance:
        yield Line(instance)


def test_what_was_never_made_waits_for_the_night(line: Line) -> None:
    line.look(NOON)
    line.add("ann", "bob")
    assert line.look(NOON + timedelta(minutes=1)) == {}
    assert line.rebuild(NIGHT) == {"ann": EVERYTHING, "bob": EVERYTHING}
    assert line.look(NIGHT + timedelta(minutes=1)) == {}
    assert line.look(NIGHT + DAY) == {}


def test_a_hole_in_the_middle_is_filled_with_what_stands_on_it(line: Line) -> None:
    line.look(NOON)
    line.make("ann", "source", "voice")
    line.make("ann", "track")
    assert line.rebuild(NIGHT) == {"ann": {"mesh", LAST}}


def test_what_stands_on_something_lost_is_made_again_with_it(line: Line) -> None:
    line.make("ann")
    line.look(NOON)
    line.instance.wipe_assets([dg.AssetKey("mesh")])
    assert line.rebuild(NIGHT) == {"ann": {"mesh", LAST}}
    assert line.rebuild(NIGHT + DAY) == {}


def test_new_code_rebuilds_its_asset_and_what_follows_for_all_once(line: Line) -> None:
    for partition in ("ann", "bob", "cid"):
        line.make(partition)
    line.look(NOON)
    line.versions["track"] = "2"
    assert line.look(NOON + timedelta(hours=1)) == {}
    assert line.rebuild(NIGHT) == {key: {"track", "mesh", LAST} for key in ("ann", "bob", "cid")}
    assert line.look(NIGHT + DAY) == {}
    assert line.look(NIGHT + 2 * DAY) == {}


def test_new_code_counts_though_the_sensor_was_switched_on_after_it(line: Line) -> None:
    line.make("ann")
    line.versions["voice"] = "2"
    line.look(NOON)
    assert line.look(NIGHT) == {"ann": {"voice", LAST}}


def test_new_code_counts_though_the_sensor_lost_its_memory(line: Line) -> None:
    line.make("ann")
    line.look(NOON)
    line.versions["voice"] = "2"
    line.look(NOON + timedelta(hours=1))
    line.cursor = None
    line.look(NOON + timedelta(hours=2))
    assert line.look(NIGHT) == {"ann": {"voice", LAST}}


def test_what_a_run_of_the_old_code_finished_after_the_deployment_is_old(line: Line) -> None:
    line.make("ann")
    line.look(NOON)
    old = Line(line.instance)
    line.versions["track"] = "2"
    line.look(NOON + timedelta(hours=1))
    old.make("ann")
    line.look(NOON + timedelta(hours=2))
    assert line.look(NIGHT) == {"ann": {"track", "mesh", LAST}}


def test_code_that_was_taken_back_calls_for_nothing(line: Line) -> None:
    line.make("ann")
    line.look(NOON)
    line.versions["track"] = "2"
    line.look(NOON + timedelta(hours=1))
    line.versions["track"] = "1"
    assert line.look(NIGHT) == {}


def test_a_rebuild_that_was_called_off_half_way_is_finished_the_next_night(line: Line) -> None:
    line.make("ann")
    line.look(NOON)
    line.versions["track"] = "2"
    assert line.look(NIGHT) == {"ann": {"track", "mesh", LAST}}
    line.make("ann", "track")
    assert line.look(NIGHT + DAY) == {"ann": {"mesh", LAST}}


def test_a_bad_upload_is_not_tried_every_night(line: Line) -> None:
    line.bad.add(("track", "ann"))
    line.make("ann")
    line.make("bob")
    line.look(NOON)
    assert line.rebuild(NIGHT) == {"ann": {"track", "mesh", LAST}}, "the first night of all tries what it knows not"
    for day in (1, 2):
        assert line.look(NOON + day * DAY) == {}, "what is known is not forgotten by day"
        assert line.rebuild(NIGHT + day * DAY) == {}


def test_what_failed_gets_a_try_with_new_code_and_only_one(line: Line) -> None:
    line.look(NOON)
    line.look(NIGHT)
    line.bad.add(("track", "ann"))
    line.make("ann")
    assert line.rebuild(NIGHT + DAY) == {"ann": {"track", "mesh", LAST}}, "the code version was not known before"
    assert line.rebuild(NIGHT + 2 * DAY) == {}
    line.versions["track"] = "2"
    assert line.rebuild(NIGHT + 3 * DAY) == {"ann": {"track", "mesh", LAST}}
    assert line.rebuild(NIGHT + 4 * DAY) == {}
    line.versions["track"] = "3"
    line.bad.clear()
    assert line.rebuild(NIGHT + 5 * DAY) == {"ann": {"track", "mesh", LAST}}
    assert line.rebuild(NIGHT + 6 * DAY) == {}


def test_what_failed_gets_a_try_when_its_inputs_have_new_code(line: Line) -> None:
    line.bad.add((LAST, "ann"))
    line.make("ann")
    line.look(NOON)
    assert line.rebuild(NIGHT) == {"ann": {LAST}}
    assert line.rebuild(NIGHT + DAY) == {}
    line.versions["voice"] = "2"
    assert line.rebuild(NIGHT + 2 * DAY) == {"ann": {"voice", LAST}}
    assert line.rebuild(NIGHT + 3 * DAY) == {}


def test_nothing_is_made_from_inputs_that_failed(line: Line) -> None:
    line.bad.add(("track", "ann"))
    line.make("ann", "source", "track", "voice")
    line.look(NOON)
    line.rebuild(NIGHT)
    line.versions["mesh"] = "2"
    assert line.rebuild(NIGHT + DAY) == {}


def test_what_somebody_is_at_is_left_alone(line: Line) -> None:
    line.look(NOON)
    line.begin("ann")
    line.add("bob")
    assert line.look(NIGHT) == {"bob": EVERYTHING}


def test_inputs_are_not_changed_under_a_run_that_is_further_down(line: Line) -> None:
    line.make("ann")
    line.look(NOON)
    line.versions["source"] = "2"
    line.begin("ann", LAST)
    assert line.look(NIGHT) == {}


def test_a_run_that_was_lost_with_its_machine_is_made_up_for(line: Line) -> None:
    line.look(NOON)
    line.add("ann")
    line.look(NIGHT)
    run = line.begin("ann")
    line.instance.report_run_failed(run, message="Its worker gives no sign of life any more.")
    assert line.rebuild(NIGHT + DAY) == {"ann": EVERYTHING}


def test_what_kills_every_worker_is_given_up(line: Line) -> None:
    line.look(NOON)
    line.add("ann")
    line.rebuild(NIGHT)
    line.versions["source"] = "2"
    line.look(NIGHT + DAY)
    run = line.begin("ann")
    line.instance.add_run_tags(run.run_id, {"dagster/retry_number": "3"})
    line.instance.report_run_failed(run, message="Its worker gives no sign of life any more.")
    assert line.look(NIGHT + 2 * DAY) == {}


def test_one_that_was_called_off_is_made_up_for(line: Line) -> None:
    line.look(NOON)
    run = line.begin("ann")
    line.instance.report_run_canceled(run)
    assert line.look(NIGHT) == {"ann": EVERYTHING}


def test_a_removed_avatar_is_not_rebuilt(line: Line) -> None:
    line.make("ann", "source")
    line.look(NOON)
    line.instance.delete_dynamic_partition(str(avatars.name), "ann")
    assert line.look(NIGHT) == {}


@pytest.mark.parametrize(
    ("down_from", "up_at", "begun"),
    [
        (NOON, NIGHT + timedelta(hours=1), True),
        (NOON, NIGHT + timedelta(hours=5), False),
        (NOON - 3 * DAY, NIGHT + timedelta(hours=1), True),
        (NOON - 3 * DAY, NIGHT + timedelta(hours=5), False),
    ],
    ids=["up in the window", "up after it", "up in the window after days", "up after it after days"],
)
def test_a_daemon_that_was_down_begins_only_within_the_window(
    line: Line, down_from: datetime, up_at: datetime, begun: bool
) -> None:
    line.add("ann")
    line.look(down_from)
    assert bool(line.look(up_at)) is begun


def test_the_window_can_be_moved() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        line = Line(instance, nightly("30 23 * * *", "0 1 * * *", "Europe/Berlin"))
        line.add("ann")
        line.look(NOON)
        assert line.look(datetime(2026, 3, 1, 22, 0, tzinfo=UTC)) == {}
        assert line.look(datetime(2026, 3, 1, 22, 31, tzinfo=UTC)) == {"ann": EVERYTHING}


def test_the_avatars_assets_are_rebuilt_by_night() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(avatars.name), ["ann", "bob"])
        defs = build_defs()
        first = dg.evaluate_automation_conditions(defs, instance, evaluation_time=NOON)
        night = dg.evaluate_automation_conditions(defs, instance, evaluation_time=NIGHT, cursor=first.cursor)
        assert first.total_requested == 0
        assert night.total_requested == 2 * len(avatar_assets)
        assert LAST in {asset.key.to_user_string() for asset in avatar_assets}


def test_assets_leave_their_data_versions_to_dagster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rebuild knows by them which code made what; one of the asset's own would look old every night."""
    monkeypatch.setattr(binding, "metadata", lambda line, result: {})
    made: Any = SimpleNamespace(facts={})
    (result,) = binding.materialize(made, lambda: made)
    assert isinstance(result, dg.MaterializeResult)
    assert result.data_version is None
    assert all(spec.code_version for asset in avatar_assets for spec in asset.specs)
