"""Profiles: what fits on what, and what is refused with which words."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.catalog import CATALOG
from avatar_pipeline.spot.profiles import (
    DEFAULT_PROFILES,
    ENOUGH_TYPES,
    ComputeProfile,
    load_profiles,
    profile_from,
    profiles_from,
)


def types(**fields: Any) -> set[str]:
    return {kind.name for kind in ComputeProfile(name="test", allow_few_types=True, **fields).instance_types()}


def test_the_default_profiles_have_machines_enough_and_lead_upwards():
    counts = {name: len(profile.instance_types()) for name, profile in DEFAULT_PROFILES.items()}
    assert counts == {"gpu-small": 20, "gpu-medium": 16, "gpu-large": 13}
    ladder = [DEFAULT_PROFILES["gpu-small"]]
    while ladder[-1].bigger:
        ladder.append(DEFAULT_PROFILES[ladder[-1].bigger])
    assert [step.name for step in ladder] == ["gpu-small", "gpu-medium", "gpu-large"]
    assert [step.memory_gib for step in ladder] == sorted({step.memory_gib for step in ladder})


def test_four_cores_do_not_fit_on_a_machine_of_four():
    """The kubelet and the DaemonSets want some: such a pod would stay Pending where only xlarge is to be had."""
    assert "g5.xlarge" in types(cpus=3.5)
    assert "g5.xlarge" not in types(cpus=4)
    assert "g5.2xlarge" in types(cpus=4)


def test_a_card_of_24_gb_has_22_gib():
    families = {name.partition(".")[0] for name in types(gpu_memory_gib=22)}
    assert families == {"g5", "g6", "g6e"}
    assert {name.partition(".")[0] for name in types(gpu_memory_gib=24)} == {"g6e"}


@pytest.mark.parametrize(("gpus", "bought"), [(1, 1), (2, 4), (4, 4), (5, 8)])
def test_a_step_gets_machines_with_no_more_gpus_than_it_must_pay_for(gpus: int, bought: int):
    found = ComputeProfile(name="test", gpus=gpus, allow_few_types=True).instance_types()
    assert {kind.gpus for kind in found} == {bought}


def test_families_and_sizes_narrow_the_choice():
    assert types(families=("g4dn", "g6"), sizes=("xlarge", "2xlarge")) == {
        "g4dn.xlarge",
        "g4dn.2xlarge",
        "g6.xlarge",
        "g6.2xlarge",
    }


def test_a_profile_on_few_types_says_what_limits_it():
    with pytest.raises(InvalidInput) as refused:
        profile_from({"name": "wide", "cpus": 7, "memory_gib": 52}, "p.yaml")
    assert "13 instance types fit, 15 are needed" in refused.value.message
    assert "memory_gib: 16" in refused.value.message
    assert "cpus" not in refused.value.message
    assert "allow_few_types" in refused.value.remedy
    assert len(
        profile_from({"name": "wide", "cpus": 7, "memory_gib": 52, "allow_few_types": True}, "").instance_types()
    )


def test_a_profile_that_fits_nowhere_is_refused_even_if_few_types_are_allowed():
    with pytest.raises(InvalidInput, match="0 instance types fit, 1 are needed"):
        profile_from({"name": "huge", "memory_gib": 9000, "allow_few_types": True}, "p.yaml")


def test_enough_types_is_what_karpenter_wants_for_spot_to_spot():
    assert ENOUGH_TYPES == 15
    assert len(CATALOG) > ENOUGH_TYPES


@pytest.mark.parametrize(
    ("fields", "where", "says"),
    [
        ({"gpus": 9}, "p.yaml.gpus", "less than or equal to 8"),
        ({"gpu": 1}, "p.yaml.gpu", "Extra inputs are not permitted"),
        ({"cpus": float("nan")}, "p.yaml.cpus", "greater than 0"),
        ({"name": "Big one"}, "p.yaml.name", "not a slug"),
        ({"zones": ["us east"]}, "p.yaml.zones", "'us east'"),
        ({"labels": {"team": "a b"}}, "p.yaml.labels", "'a b'"),
        ({"labels": {"avatar-pipeline/run": "x"}}, "p.yaml.labels", "avatar-pipeline/run"),
        ({"labels": {"a/b/c": "x"}}, "p.yaml.labels", "a/b/c"),
        ({"do_not_disrupt": "0s"}, "p.yaml.do_not_disrupt", "'0s'"),
        ({"do_not_disrupt": "yes"}, "p.yaml.do_not_disrupt", "'yes'"),
        ({"gpu_speed": {"t4": -1}}, "p.yaml.gpu_speed", "-1"),
        ({"gpu_speed": {"h100": 2}}, "p.yaml.gpu_speed", "h100"),
        ({"termination_grace_seconds": 0}, "p.yaml.termination_grace_seconds", "greater than or equal to 1"),
        ({"tolerations": [{"key": "a", "value": "b"}]}, "p.yaml.tolerations.0", "Exists"),
        ({"node_affinity": [{"key": "disk", "operator": "In"}]}, "p.yaml.node_affinity.0", "In with 0 values"),
        (
            {"node_affinity": [{"key": "disk", "operator": "Exists", "values": ["a"]}]},
            "p.yaml.node_affinity.0",
            "1 val",
        ),
        (
            {"node_affinity": [{"key": "topology.kubernetes.io/zone", "values": ["a"]}]},
            "p.yaml.node_affinity.0",
            "placement",
        ),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_the_reason(fields: dict[str, Any], where: str, says: str):
    with pytest.raises(InvalidInput) as refused:
        profile_from({"name": "test"} | fields, "p.yaml")
    assert refused.value.message.startswith(f"{where}: ")
    assert says in refused.value.message
    assert refused.value.remedy


def test_a_profile_does_not_change():
    with pytest.raises(ValidationError):
        DEFAULT_PROFILES["gpu-small"].cpus = 1


def test_a_file_changes_default_profiles_adds_own_and_sets_fields_of_all(tmp_path: Path):
    path = tmp_path / "profiles.yaml"
    path.write_text(
        """
defaults:
  zones: [eu-west-1a, eu-west-1b, eu-west-1a]
profiles:
  gpu-small: {image: "registry.example/worker:2"}
  cheap: {families: [g4dn], allow_few_types: true, bigger: gpu-medium, zones: [eu-west-1c]}
"""
    )
    found = load_profiles(path)
    assert set(found) == {*DEFAULT_PROFILES, "cheap"}
    assert found["gpu-small"].image == "registry.example/worker:2"
    assert found["gpu-small"].bigger == "gpu-medium"
    assert found["gpu-large"].zones == ("eu-west-1a", "eu-west-1b")
    assert found["cheap"].zones == ("eu-west-1c",)
    assert DEFAULT_PROFILES["gpu-small"].image is None


def test_fields_of_all_go_before_those_of_default_profiles_and_after_a_profiles_own():
    found = profiles_from({"defaults": {"cpus": 2}, "profiles": {"gpu-medium": {"cpus": 5}}}, "p.yaml")
    assert {name: profile.cpus for name, profile in found.items()} == {"gpu-small": 2, "gpu-medium": 5, "gpu-large": 2}


def test_a_file_may_be_json_or_empty(tmp_path: Path):
    path = tmp_path / "profiles.json"
    path.write_text(json.dumps({"profiles": {"mine": {"cpus": 2}}}))
    assert load_profiles(path)["mine"].cpus == 2
    path.write_text("")
    assert load_profiles(path) == DEFAULT_PROFILES


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (["a"], "expected fields"),
        ({"profile": {}}, "unknown field 'profile'"),
        ({"profiles": {"a": 3}}, "profiles.a: expected fields"),
        ({"profiles": {"a": {"bigger": "b"}}}, "profiles.a.bigger: there is no profile 'b'"),
        ({"profiles": {"a": {"bigger": "a"}}}, "a has 12 GiB of memory, a has 12"),
        ({"profiles": {"a": {"memory_gib": 13, "bigger": "gpu-small"}}}, "gpu-small has 12 GiB of memory, a has 13"),
        ({"profiles": {"a": {"cpus": "many"}}}, "profiles.a.cpus: "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(content: object, says: str):
    with pytest.raises(InvalidInput) as refused:
        profiles_from(content, "p.yaml")
    assert refused.value.message.startswith("p.yaml: ")
    assert says in refused.value.message


@pytest.mark.parametrize("text", ["a: [", "\x00", "!!python/object:os.system {}"])
def test_what_is_not_yaml_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "profiles.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"profiles\.yaml"):
        load_profiles(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_profiles(tmp_path / "none.yaml")
