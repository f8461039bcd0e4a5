"""`avatar queue`: what waits is shown and left alone, dead letters come back, on SQS as in the ledger."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from avatar_pipeline.cli import doctor, sending
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.errors import AvatarError, EnvironmentProblem
from avatar_pipeline.queues.parse import parse
from avatar_pipeline.queues.types import QueueUnavailable
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.dispatch import drain
from tests.cli.conftest import bodies, clip
from tests.conftest import avatar_environment


def bury(*letters: tuple[str, str], kind: str = "clip") -> None:
    """Put messages into a queue and give them up, as the intake does."""
    with open_line() as line:
        queue = sending.queue_of(line, kind)
        reasons = dict(letters)
        queue.send(list(reasons))
        for message in queue.receive(100, visibility=timedelta(seconds=60)):
            if message.body in reasons:
                queue.dead_letter(message, reasons[message.body])
            else:
                queue.extend([message], timedelta(0))


def test_dead_letters_are_shown_with_their_reason_and_cannot_command_the_terminal(avatar) -> None:
    bury(('{"text": "\u202egnp.exe\u009b2J' + "x" * 200, "text: \u009b31mtoo long"))
    code, out, _ = avatar("queue", "dlq", "clip")
    assert code == 0
    assert "text: ·31mtoo long" in out
    assert "·gnp.exe·2J" in out
    assert "x" * 81 not in out
    assert not set("\u202e\u009b\x1b") & set(out)
    (letter,) = json.loads(avatar("queue", "dlq", "--json")[1])
    assert letter["queue"] == "clip-requests-dead"
    assert letter["reason"].endswith("too long")
    assert len(letter["body"]) > 200


def test_peeking_leaves_everything_where_it_is(avatar) -> None:
    avatar("queue", "send", "clip", "ada", "Hello.", "--request-id=one")
    bury(("bad", "malformed"))
    for _ in range(2):
        (message,) = json.loads(avatar("queue", "peek", "--json")[1])
        assert parse(message["body"], "clip").request_id == "one"
        (dead,) = json.loads(avatar("queue", "peek", "clip", "--dead", "--json")[1])
        assert dead["body"] == "bad"
    assert json.loads(avatar("queue", "peek", "avatar", "--json")[1]) == []
    assert '"avatar_id":"ada"' in avatar("queue", "peek")[1]


def test_redriving_asks_first_and_no_means_no(home: Path) -> None:
    bury(("bad", "malformed"))
    command = [sys.executable, "-m", "avatar_pipeline.cli", "queue", "redrive"]
    done = subprocess.run(
        command, env=avatar_environment(home), input="n\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Put 1 dead letters back into clip-requests?" in done.stderr
    assert bodies("clip") == []


def test_redriving_brings_dead_letters_back(avatar) -> None:
    bury(*[(f"bad {number}", "malformed") for number in range(5)])
    bury(("worse", "malformed"), kind="avatar")
    assert json.loads(avatar("queue", "redrive", "clip", "--limit=2", "--yes", "--json")[1]) == {"moved": 2}
    assert len(bodies("clip")) == 2
    assert json.loads(avatar("queue", "redrive", "--yes", "--json")[1]) == {"moved": 4}
    assert (len(bodies("clip")), bodies("avatar")) == (5, ["worse"])
    assert "no dead letters" in avatar("queue", "redrive", "--yes")[1]


def test_stats_count_queues_and_ledger(avatar, tmp_path: Path) -> None:
    avatar("queue", "send", "clip", "ada", "Hello.", "--request-id=one")
    with open_line() as line:
        drain(line, "clip")
    avatar("queue", "send", "clip", "ada", "Hello again.")
    bury(("bad", "malformed"), kind="avatar")
    code, out, _ = avatar("queue", "stats", "--json")
    told = json.loads(out)
    assert code == 0
    assert {name: told["queues"]["clip"][name] for name in ("visible", "in_flight", "delayed")} == {
        "visible": 1,
        "in_flight": 0,
        "delayed": 0,
    }
    assert told["queues"]["clip"]["oldest_age_seconds"] >= 0
    assert told["queues"]["avatar"]["oldest_age_seconds"] is None
    assert told["queues"]["avatar"]["dead"]["visible"] == 1
    assert told["requests"] == {"clip": {"queued": 1}, "avatar": {}}
    assert told["backlog"] == {"waiting": 0, "oldest_age_seconds": None}, "its avatar is not there yet"
    shown = avatar("queue", "stats")[1]
    assert "clip-requests-dead" in shown
    assert "clip requests queued: 1" in shown


def test_queues_of_the_ledger_need_not_be_created(avatar) -> None:
    code, out, _ = avatar("queue", "create")
    assert code == 0
    assert out.startswith("Nothing to do")


def test_everything_goes_through_sqs_as_well(sqs: str, avatar, upload, tmp_path: Path) -> None:
    code, out, err = avatar("queue", "create")
    assert code == 0, err
    assert f"clips-{sqs}-dead" in out
    (tmp_path / "some.jsonl").write_text("\n".join(json.dumps(clip(number)) for number in range(25)))
    assert avatar("queue", "send", "file", "some.jsonl")[0] == 0
    assert avatar("queue", "send", "avatar", "bob", upload[0], "--consent", upload[1])[0] == 0
    told = json.loads(avatar("queue", "stats", "--json")[1])["queues"]
    assert (told["clip"]["visible"], told["avatar"]["visible"]) == (25, 1)
    with open_line() as line:
        assert drain(line, "avatar").new == 1
        line.queues.avatars.send(["no request"])
        assert drain(line, "avatar").refused == 1
    (letter,) = json.loads(avatar("queue", "dlq", "avatar", "--json")[1])
    assert letter["body"] == "no request"
    assert letter["reason"]
    assert json.loads(avatar("queue", "redrive", "avatar", "--yes", "--json")[1]) == {"moved": 1}
    assert len(json.loads(avatar("queue", "peek", "clip", "--limit=3", "--json")[1])) == 3


@pytest.mark.parametrize("command", [("stats",), ("peek",), ("dlq",), ("redrive", "--yes")])
def test_a_queue_that_is_not_there_is_one_line(command: tuple[str, ...], avatar, sqs: str) -> None:
    code, out, err = avatar("queue", *command)
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_what_was_not_sent_can_be_sent_again_under_the_same_id(avatar, sqs: str) -> None:
    code, out, err = avatar("queue", "send", "clip", "ada", "Hello.")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "0 of 1 requests were sent" in err
    assert "--request-id clip-" in err
    assert "avatar queue create" in err


def test_the_doctor_looks_at_queues_dead_letters_and_callbacks(avatar) -> None:
    bury(("bad", "malformed"))
    code, out, _ = avatar("doctor")
    found = {line.partition(": ")[0].strip(): line for line in out.splitlines()}
    assert code == 0, out
    assert found["ok      queues"].endswith("sql: 0 messages in avatar-requests, 0 messages in clip-requests")
    assert found["note    dead letters"].endswith("1 in clip-requests-dead")
    assert "avatar queue dlq" in out
    assert found["ok      callbacks"].endswith("off (AVATAR_CALLBACKS)")


def test_the_doctor_finds_queues_that_are_not_there(sqs: str) -> None:
    with pytest.raises(QueueUnavailable, match=f"avatars-{sqs}"):
        doctor.look_at_queues(read_settings())


def test_the_doctor_finds_callbacks_that_could_not_be_trusted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.look_at_callbacks(read_settings()) == "off (AVATAR_CALLBACKS)"
    monkeypatch.setenv("AVATAR_CALLBACKS", "true")
    with pytest.raises(EnvironmentProblem, match="AVATAR_CALLBACK_SECRET"):
        doctor.look_at_callbacks(read_settings())
    monkeypatch.setenv("AVATAR_CALLBACK_SECRET", "hunter2")
    with pytest.raises(AvatarError, match="AVATAR_CALLBACK_SECRET") as caught:
        doctor.look_at_callbacks(read_settings())
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("AVATAR_CALLBACK_SECRET", "whsec_" + "aHVudGVy" * 4)
    assert isinstance(doctor.look_at_callbacks(read_settings()), str)
    monkeypatch.setenv("AVATAR_CALLBACK_PRIVATE_ADDRESSES", "true")
    assert isinstance(doctor.look_at_callbacks(read_settings()), doctor.Noted)
