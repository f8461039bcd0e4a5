"""Shared by the tests of the commands: calling one as a user would, in this process."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avatar_pipeline.cli import main, sending
from avatar_pipeline.cli.bench import open_line

Avatar = Callable[..., tuple[int, str, str]]
CONSENT = {
    "consent_id": "consent-1",
    "subject": "Nobody",
    "statement": "A generated picture of nobody may be used.",
    "statement_version": "1",
    "scope": ["likeness", "voice"],
    "given_at": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def avatar(home, capsys: pytest.CaptureFixture[str]) -> Avatar:
    """Run `avatar ...` with an empty home; return the exit code and what was printed on both outputs."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def upload(tmp_path: Path) -> tuple[Path, Path]:
    """A file that might be a video, and a consent."""
    video, consent = tmp_path / "me.mp4", tmp_path / "consent.json"
    video.write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 64)
    consent.write_text(json.dumps(CONSENT))
    return video, consent


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[str]:
    """Settings for Amazon SQS, at moto's server over HTTP, with no queues yet; what their names end with."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # All moto servers of a process share their queues.
    mark = secrets.token_hex(4)
    for name, value in {
        "AVATAR_QUEUE": "sqs",
        "AVATAR_SQS_ENDPOINT": f"http://{host}:{port}",
        "AVATAR_CLIP_QUEUE": f"clips-{mark}",
        "AVATAR_AVATAR_QUEUE": f"avatars-{mark}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield mark
    server.stop()


def bodies(kind: str) -> list[str]:
    """Return the messages that wait in a queue."""
    with open_line() as line:
        return [message.body for message in sending.queue_of(line, kind).peek(1000)]


def clip(number: int, **more: object) -> dict[str, object]:
    """Return a clip request as a line of a file has it."""
    return {"kind": "clip", "request_id": f"clip-{number}", "avatar_id": "ada", "text": f"Number {number}."} | more
