"""Labels that Kubernetes takes whatever the partition is called, and tags of ops."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.labels import is_label_key, is_label_value, label_value, step_labels
from avatar_pipeline.spot.tags import Wishes, cpu_op_tags, gpu_op_tags, wishes
from avatar_pipeline.spot.types import CapacityType

# As the error message of the API server has it.
KUBERNETES = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")


@given(st.text(max_size=100))
def test_any_text_becomes_a_label_value_and_stays_it(text: str):
    value = label_value(text)
    assert KUBERNETES.fullmatch(value) and len(value) <= 63
    assert label_value(value) == value
    assert bool(value) == bool(text)


@given(st.from_regex(KUBERNETES, fullmatch=True).filter(lambda text: len(text) <= 63))
def test_what_is_a_label_value_is_left_alone(text: str):
    assert is_label_value(text)
    assert label_value(text) == text


def test_long_texts_with_one_beginning_keep_apart():
    one, other = label_value("a" * 80 + "1"), label_value("a" * 80 + "2")
    assert one != other
    assert one[:54] == other[:54] == "a" * 54
    assert len(one) == 63


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a|b", "a-b"),
        ("acme/hats and coats", "acme-hats-and-coats"),
        ("_x_", "x"),
        ("", ""),
        ("2026-11-24", "2026-11-24"),
    ],
)
def test_what_is_not_allowed_becomes_a_dash(text: str, value: str):
    assert label_value(text) == value


def test_texts_of_which_nothing_is_allowed_keep_apart():
    assert label_value("阿里") != label_value("腾讯")


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        ("team", True),
        ("example.com/team", True),
        ("a/b/c", False),
        ("/a", False),
        ("a/", False),
        ("A.b/c", False),
        (f"{'d' * 254}/a", False),
        ("a" * 64, False),
        ("", False),
    ],
)
def test_keys_are_those_that_kubernetes_takes(key: str, valid: bool):
    assert is_label_key(key) is valid


def test_an_attempt_is_labelled_with_what_its_cost_is_attributed_to():
    labels = step_labels(
        run_id="r",
        step_key="rendered_clips",
        asset="clips/rendered",
        partition="b:1",
        capacity_type=CapacityType.ON_DEMAND,
        profile="gpu-small",
        attempt=3,
    )
    assert labels == {
        "avatar-pipeline/run": "r",
        "avatar-pipeline/step": "rendered_clips",
        "avatar-pipeline/asset": "clips-rendered",
        "avatar-pipeline/partition": "b-1",
        "avatar-pipeline/capacity-type": "on-demand",
        "avatar-pipeline/profile": "gpu-small",
        "avatar-pipeline/attempt": "3",
    }


@pytest.mark.parametrize("profile", [None, "gpu-large"])
@pytest.mark.parametrize("deadline", [None, timedelta(hours=3)])
def test_what_is_written_into_op_tags_is_read_back(profile: str | None, deadline: timedelta | None):
    assert wishes(gpu_op_tags(profile, deadline=deadline)) == Wishes(gpu=True, profile=profile, deadline=deadline)


def test_an_op_without_tags_or_with_those_of_the_cpu_wants_no_gpu():
    assert wishes({}) == wishes(cpu_op_tags()) == Wishes()


@pytest.mark.parametrize("text", ["soon", "0", "-5", "1.5", "²", "9" * 12, ""])
def test_a_deadline_that_is_no_number_of_seconds_is_refused(text: str):
    with pytest.raises(InvalidInput, match="avatar/deadline-seconds"):
        wishes({"avatar/compute": "gpu", "avatar/deadline-seconds": text})


def test_a_deadline_in_the_past_is_refused():
    with pytest.raises(InvalidInput, match="deadline"):
        gpu_op_tags(deadline=timedelta(0))


def test_dagster_takes_the_tags():
    import dagster as dg

    @dg.op(tags=gpu_op_tags("gpu-small", deadline=timedelta(hours=1)))
    def render() -> None: ...

    assert wishes(render.tags).profile == "gpu-small"
