"""The schemas under docs/ are what the models say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.queues.parse import dump, parse
from avatar_pipeline.queues.schemas import export, main, schemas
from tests.queues.test_parse import AVATARS, CLIPS

COMMITTED = Path(__file__).parents[2] / "docs" / "schemas"


def test_the_committed_schemas_are_the_export(tmp_path: Path) -> None:
    names = sorted(path.name for path in export(tmp_path))
    assert names == ["avatar-request.v1.schema.json", "clip-request.v1.schema.json", "consent.v1.schema.json"]
    for name in names:
        assert (COMMITTED / name).read_text() == (tmp_path / name).read_text(), (
            "python -m avatar_pipeline.queues.schemas docs/schemas"
        )


def test_they_are_exported_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "avatar_pipeline.queues.schemas", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(list((tmp_path / "new").iterdir())) == 3
    assert main([]) == 2
    assert "docs/schemas" in capsys.readouterr().err


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(CLIPS | AVATARS)
def test_whatever_is_sent_satisfies_its_schema(request: ClipRequest | AvatarRequest) -> None:
    validators = pytest.importorskip("jsonschema")
    name = "clip" if isinstance(request, ClipRequest) else "avatar"
    schema = json.loads(schemas()[f"{name}-request.v1.schema.json"])
    validators.Draft202012Validator.check_schema(schema)
    validators.Draft202012Validator(schema).validate(json.loads(dump(request)))


@pytest.mark.parametrize(
    "changes", [{"avatar_id": "Not a slug"}, {"text": ""}, {"fps": 5}, {"other": 1}, {"version": 2}]
)
def test_what_the_schema_refuses_is_malformed_too(changes: dict[str, object]) -> None:
    validators = pytest.importorskip("jsonschema")
    message = {"request_id": "r-1", "avatar_id": "ada", "text": "Hello."}
    schema = validators.Draft202012Validator(json.loads(schemas()["clip-request.v1.schema.json"]))
    schema.validate(message)
    assert not schema.is_valid(message | changes)
    with pytest.raises(Exception, match=r"\w"):
        parse(json.dumps(message | changes), "clip")
