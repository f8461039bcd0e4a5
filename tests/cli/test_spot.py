"""`avatar spot`: what the spot executor would ask for, and how it judges ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from avatar_pipeline.cli.app import app
from avatar_pipeline.spot.classification import RULES

pytest.importorskip("dagster_k8s", reason="the `k8s` extra brings dagster-k8s")
pytest.importorskip("kubernetes_validate", reason="the `lab` extra brings kubernetes-validate")


def test_manifests_of_the_run_and_of_every_profile_are_valid_kubernetes() -> None:
    done = CliRunner().invoke(app, ["spot", "manifests", "--check", "--image", "ours:7"])
    assert done.exit_code == 0, done.output
    jobs = list(yaml.safe_load_all(done.stdout))
    assert len(jobs) == 7
    assert {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in jobs} == {"ours:7"}
    capacity = [job["metadata"]["labels"].get("avatar-pipeline/capacity-type") for job in jobs]
    assert capacity == [None, "spot", "on-demand", "spot", "on-demand", "spot", "on-demand"]
    assert done.stderr.count("valid in Kubernetes") == 2 * len(jobs), "both of the latest minors"


def test_a_profile_of_ones_own_is_rendered_too(tmp_path: Path) -> None:
    file = tmp_path / "profiles.yaml"
    file.write_text("profiles:\n  tiny:\n    cpus: 1\n    memory_gib: 4\n    zones: [us-east-1a]\n")
    done = CliRunner().invoke(app, ["spot", "profiles", "--file", str(file), "--json"])
    assert done.exit_code == 0, done.output
    tiny = next(one for one in json.loads(done.stdout) if one["profile"] == "tiny")
    assert tiny["zones"] == ["us-east-1a"]
    assert len(tiny["machines"]) >= 15
    prices = [float(machine["spot"]) for machine in tiny["machines"]]
    assert prices == sorted(prices)


def test_every_rule_of_the_classification_is_shown_with_what_follows() -> None:
    done = CliRunner().invoke(app, ["spot", "endings", "--json"])
    assert done.exit_code == 0
    shown = json.loads(done.stdout)
    assert [one["rule"] for one in shown] == [rule.name for rule in RULES]
    assert {one["then"] for one in shown} == {
        "wait",
        "again, paid by nothing",
        "again, paid by interruptions",
        "again, paid by retry policy",
    }
