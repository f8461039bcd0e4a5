"""What is left of a consent that was taken back is found by a schedule, and carried out by a run."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from avatar_pipeline.definitions import default_resources
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.settings import Settings
from avatar_pipeline.stages.line import Line
from tests.stages.benches import add, avatar_row, make_line

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def line(home: Path) -> Line:
    """The line of a home with the avatar `ada`, of whom there is one file."""
    line = make_line(home.parent, lambda: NOW)
    assert line.settings.store_uri == Settings().store_uri
    add(line.ledger, avatar_row("ada", NOW))
    mesh = home / "store" / "avatars" / "ada" / "mesh"
    mesh.mkdir(parents=True)
    (mesh / "avatar.glb").write_text("a face")
    return line


def test_the_schedule_asks_for_a_run_while_anything_is_left(
    line: Line, defs: dg.Definitions, instance: dg.DagsterInstance, home: Path
) -> None:
    def asked() -> bool:
        with dg.build_schedule_context(instance=instance, resources=default_resources()) as context:
            return bool(defs.resolve_schedule_def("revocation_schedule").evaluate_tick(context).run_requests)

    assert not asked()
    line.consents.revoke("consent-1", reason="killed right after this")
    assert asked()
    instance.add_dynamic_partitions("avatars", ["ada", "bob"])
    assert defs.resolve_job_def("carry_out_revocations").execute_in_process(instance=instance).success
    assert not (home / "store" / "avatars" / "ada").exists()
    assert instance.get_dynamic_partitions("avatars") == ["bob"], "or it would be built again at night"
    assert line.ledger.avatar("ada").state == "failed"
    assert not asked()


def test_pictures_of_the_person_in_runs_that_ended_later_or_were_shared_go_too(
    line: Line, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    """A batch holds many people's clips; and a run in flight cannot be deleted when the consent is taken back."""
    add(line.ledger, avatar_row("bob", NOW, consent_id="consent-2"))
    for batch_id, others in (("mixed", "done"), ("open", "claimed"), ("bobs", "done")):
        names = [f"{batch_id}-{avatar_id}" for avatar_id in ("ada", "bob") if (batch_id, avatar_id) != ("bobs", "ada")]
        line.requests.submit(
            [ClipRequest(request_id=name, avatar_id=name.rpartition("-")[2], text="Hello.") for name in names],
            batch_id=batch_id,
        )
        line.requests.claim(batch_id, 2)
        if others == "done":
            line.requests.finish(f"{batch_id}-bob", clip_key="k")
    line.consents.revoke("consent-1", reason="")
    runs = {
        key: dg.DagsterRun(job_name=job, status=dg.DagsterRunStatus.SUCCESS, tags={"dagster/partition": key})
        for job, key in (
            ("build_avatar", "ada"),
            ("build_avatar", "bob"),
            ("make_clip_batch", "mixed"),
            ("make_clip_batch", "open"),
            ("make_clip_batch", "bobs"),
        )
    }
    for run in runs.values():
        instance.add_run(run)
    assert defs.resolve_job_def("carry_out_revocations").execute_in_process(instance=instance).success
    assert {key for key, run in runs.items() if instance.has_run(run.run_id)} == {"bob", "open", "bobs"}
    line.requests.finish("open-bob", clip_key="k")
    assert defs.resolve_job_def("carry_out_revocations").execute_in_process(instance=instance).success
    assert {key for key, run in runs.items() if instance.has_run(run.run_id)} == {"bob", "bobs"}
