"""What docs/spot-executor.md says is what the code does: its code runs, its tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import yaml

from avatar_pipeline.spot.executor.config import SpotConfig
from avatar_pipeline.spot.profiles import ComputeProfile, profiles_from
from avatar_pipeline.spot.rules import RULES
from avatar_pipeline.spot.types import Ending

PAGE = (Path(__file__).parents[2] / "docs" / "spot-executor.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_code_on_the_page_defines_an_asset_with_the_executor() -> None:
    named: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "the page", "exec", dont_inherit=True), named)
    defs = named["defs"]
    assert isinstance(defs, dg.Definitions)
    assert defs.resolve_implicit_global_asset_job_def().executor_def.name == "k8s_spot"


def test_the_manifests_and_profiles_on_the_page_are_taken() -> None:
    kinds, profiles = [], None
    for document in (each for block in blocks("yaml") for each in yaml.safe_load_all(block)):
        if "kind" in document:
            kubernetes_validate.validate(document, "1.37", strict=True)
            kinds.append(document["kind"])
        elif "profiles" in document:
            profiles = profiles_from(document, "the page")
    assert kinds == ["Role", "ClusterRole"]
    assert profiles is not None and "train" in profiles


def test_the_tables_on_the_page_are_the_codes() -> None:
    for rule in RULES:
        assert f"| {rule.name} | {f'`{rule.ending}`' if rule.ending else 'wait'} | {rule.meaning} |" in PAGE
    for name in SpotConfig.model_fields:
        assert f"| `{name}` |" in PAGE
    for name in set(ComputeProfile.model_fields) - {"name"}:
        assert f"`{name}`" in PAGE
    for ending in Ending:
        assert f"`{ending}`" in PAGE
