"""The definitions: cheap to load, complete in what the UI shows, and tagged where they need a GPU."""

import json
import os
import subprocess
import sys

import dagster as dg
import pytest

from assets.compute import GPU_TAGS
from avatar_pipeline.definitions import build_defs

HEAVY = (
    *("torch", "mediapipe", "pandas", "numpy", "boto3", "s3fs", "av", "moderngl", "elevenlabs", "cv2", "scipy"),
    *("matplotlib", "PIL", "pyarrow", "kubernetes", "alembic", "c2pa"),
)
AVATAR = {"source_video", "landmarks", "isolated_voice", "mesh", "plate", "voice_model", "greeting_clip"}
SCHEDULES = {
    "daily_report_schedule": "15 0 * * *",
    "tidy_up_schedule": "30 3 * * *",
    "sweep_store_schedule": "0 4 * * 0",
    "revocation_schedule": "*/10 * * * *",
    "sweep_gpu_jobs_schedule": "*/5 * * * *",
    "refresh_prices_schedule": "5 0 * * *",
    "cost_report_schedule": "30 0 * * *",
}
WARNINGS = {"all_rendered", "one_speaker", "no_music", "matches_the_bill"}
CLIPS = {"clip_batch_manifest", "synthesized_speech", "rendered_clips"}


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs()


@pytest.mark.parametrize("module", ["avatar_pipeline.definitions", "avatar_pipeline.cli"])
def test_loading_imports_nothing_heavy(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == []


def test_the_control_plane_loads_the_definitions_without_the_engine() -> None:
    """The webserver's image has the core alone: whatever the engine needs cannot be imported there."""
    program = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.split('.')[0] in {HEAVY!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import avatar_pipeline.definitions as d\n"
        "print(len(list(d.build_defs().resolve_all_asset_specs())))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "13", done.stderr


def test_loading_reads_no_setting() -> None:
    """A setting that cannot be used would fail the load if it were read then."""
    environment = dict(os.environ) | {"AVATAR_WORKERS": "none", "AVATAR_LEDGER_URL": "nonsense"}
    program = "import avatar_pipeline.definitions as d; d.build_defs()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_asset_is_there_and_described(defs: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert set(specs) == AVATAR | CLIPS | {"daily_report", "cost_report", "budgets"}
    assert specs.pop("budgets").description, "told of by a sensor, not made by a step"
    for name, spec in specs.items():
        assert spec.description, name
        assert spec.kinds, name
        assert spec.owners == ["team:avatars"], name
        assert spec.code_version, name
        assert spec.group_name in {"avatar", "clips", "operations"}, name


def test_steps_that_draw_are_tagged_for_a_gpu_and_share_its_pool(defs: dg.Definitions) -> None:
    drawing = set()
    for asset in defs.resolve_asset_graph().assets_defs:
        if not asset.is_executable:
            continue
        assert asset.op.tags["avatar/compute"] in {"cpu", "gpu"}
        if asset.op.tags["avatar/compute"] == "gpu":
            drawing.add(asset.key.to_user_string())
            assert asset.op.pool == "gpu"
            assert "graphics" in str(asset.op.tags["dagster-k8s/config"])
    assert drawing == {"greeting_clip", "rendered_clips"}


def test_the_gpu_tags_are_a_kubernetes_configuration_that_dagster_accepts() -> None:
    job = pytest.importorskip("dagster_k8s.job", reason="the `k8s` extra brings dagster-k8s")
    tags = {name: value if isinstance(value, str) else json.dumps(value) for name, value in GPU_TAGS.items()}
    config = job.get_user_defined_k8s_config(tags)
    assert config.container_config["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert config.job_spec_config == {"backoff_limit": 0}


def test_the_checks_of_an_avatar_block_what_comes_after(defs: dg.Definitions) -> None:
    checks = {}
    for asset in defs.resolve_asset_graph().assets_defs:
        for spec in asset.check_specs:
            # One clip that cannot be made is its request's failure, not its batch's; of a recording one may be warned.
            assert spec.blocking == (spec.name not in WARNINGS), spec.name
            checks[spec.name] = spec.asset_key.to_user_string()
    assert checks == {
        "source_valid": "source_video",
        "face_coverage": "landmarks",
        "speech_present": "isolated_voice",
        "consent_present": "isolated_voice",
        "mesh_sane": "mesh",
        "one_speaker": "voice_model",
        "no_music": "voice_model",
        "consent_in_force": "greeting_clip",
        "clip_duration": "greeting_clip",
        "mouth_follows": "greeting_clip",
        "all_rendered": "rendered_clips",
        "matches_the_bill": "cost_report",
    }


def test_the_voice_model_waits_for_the_consent_check(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    assert dg.AssetKey("isolated_voice") in graph.get(dg.AssetKey("voice_model")).parent_keys


def test_everything_that_runs_by_itself_is_switched_on(defs: dg.Definitions) -> None:
    sensors = {sensor.name: sensor.default_status for sensor in defs.sensors or []}
    assert sensors == dict.fromkeys(
        (
            "avatar_intake_sensor",
            "clip_batch_sensor",
            "recovery_sensor",
            "cost_budget_sensor",
            "callback_sensor",
            "nightly_rebuild",
        ),
        dg.DefaultSensorStatus.RUNNING,
    )
    schedules = {name: defs.resolve_schedule_def(name) for name in SCHEDULES}
    assert {name: schedule.cron_schedule for name, schedule in schedules.items()} == SCHEDULES
    assert all(schedule.default_status == dg.DefaultScheduleStatus.RUNNING for schedule in schedules.values())


def test_both_jobs_are_partitioned_and_leave_the_executor_to_the_settings(defs: dg.Definitions) -> None:
    for name, partitions in (("build_avatar", "avatars"), ("make_clip_batch", "clip_batches")):
        job = defs.resolve_job_def(name)
        assert job.executor_def.name == "steps"
        assert isinstance(job.partitions_def, dg.DynamicPartitionsDefinition)
        assert job.partitions_def.name == partitions
