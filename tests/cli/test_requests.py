"""`avatar requests`: what was asked for is listed, told in full, and followed to its end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.cli import console, following, work
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.cli.following import Wish
from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import AvatarError, InvalidText, NotFound
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.ledger.records import RequestRecord
from avatar_pipeline.ledger.requests import Arrival
from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import Recipe, Slot
from tests.conftest import avatar_environment

ATTEMPTS = 5


@pytest.fixture
def line(home: Path):
    with open_line() as line:
        yield line


def know_avatar(line: Line, avatar_id: str = "ada") -> None:
    consent = ConsentRecord.model_validate(
        {
            "consent_id": "consent-1",
            "subject": "Nobody",
            "statement": "A generated picture of nobody may be used.",
            "statement_version": "1",
            "scope": ["likeness", "voice"],
            "given_at": "2026-01-01T00:00:00Z",
        }
    )
    line.ledger.register_avatar(
        avatar_id, voice="local:en", greeting="Hi.", upload_key="key", source_name="v.mp4", consent=consent
    )
    line.ledger.set_avatar_state(avatar_id, "ready")


def arrive(line: Line, *names: str, **fields: object) -> None:
    sent_at = line.clock() - timedelta(seconds=90)
    requests = [
        ClipRequest.model_validate({"request_id": name, "avatar_id": "ada", "text": "A secret plan."} | fields)
        for name in names
    ]
    assert line.requests.take_in([Arrival(request, sent_at) for request in requests]) == [None] * len(names)


def clip_of(line: Line, text: str) -> str:
    """Put something like a clip into the store and return its key."""
    recipe = Recipe(Slot.avatar("ada", "clips"), "1", {"text": text}, {})
    with line.store.create(recipe) as draft:
        (draft.folder / "clip.mp4").write_bytes(b"clip")
    return recipe.key


def test_requests_are_listed_with_where_they_are(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-done", "r-failed", tenant="acme", priority=4)
    line.requests.claim("batch-1", 10)
    for name in ("r-done", "r-failed"):
        line.requests.begin(name, max_attempts=ATTEMPTS)
    line.requests.finish("r-done", clip_key=clip_of(line, "one"))
    line.requests.fail("r-failed", InvalidText("The text is\x1b[2J of no use.", remedy="Write another."))
    arrive(line, "r-queued")
    arrive(line, "r-unknown", avatar_id="bob")
    code, out, _ = avatar("requests")
    assert code == 0, "that one failed is no fault of the list"
    rows = {row.split()[0]: row for row in out.splitlines()}
    assert {"r-done", "r-failed", "r-queued", "r-unknown"} < set(rows)
    for told in ("acme", "4", "failed", "1 min 30 s", "batch-1", "The text is·[2J of no use."):
        assert told in rows["r-failed"]
    assert "secret" not in out
    listed = {entry["request_id"]: entry for entry in json.loads(avatar("requests", "--json")[1])}
    assert {name: entry["state"] for name, entry in listed.items()} == {
        "r-done": "done",
        "r-failed": "failed",
        "r-queued": "queued",
        "r-unknown": "queued",
    }
    assert listed["r-done"]["waited_seconds"] >= 90
    assert listed["r-queued"]["took_seconds"] is None
    assert "secret" not in json.dumps(listed)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--avatar=bob"], {"b-1"}),
        (["--tenant=acme"], {"a-1"}),
        (["--batch=batch-1"], {"a-1"}),
        (["--state=queued"], {"a-2", "b-1", "make-bob"}),
        (["--state=claimed", "--state=queued", "--kind=clip"], {"a-1", "a-2", "b-1"}),
        (["--kind=avatar"], {"make-bob"}),
        (["--limit=1"], {"make-bob"}),
        (["--tenant=nobody"], set()),
    ],
)
def test_the_list_is_narrowed_down(flags: list[str], expected: set[str], avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "a-1", tenant="acme")
    line.requests.claim("batch-1", 1)
    arrive(line, "a-2")
    arrive(line, "b-1", avatar_id="bob")
    maker = AvatarRequest(
        request_id="make-bob", avatar_id="bob", video_uri="/u/v", consent_uri="/u/c", tenant="default"
    )
    line.requests.take_in([Arrival(maker, line.clock())])
    if flags == ["--avatar=bob"]:
        expected = expected | {"make-bob"}
    found = json.loads(avatar("requests", *flags, "--json")[1])
    assert {entry["request_id"] for entry in found} == expected


def test_one_request_is_told_in_full(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-1", callback_url="https://hooks.example.com/in?token=hunter2")
    line.requests.claim("batch-1", 10)
    line.requests.begin("r-1", max_attempts=ATTEMPTS)
    line.requests.finish("r-1", clip_key=clip_of(line, "one"), uri="anywhere")
    told = json.loads(avatar("requests", "r-1", "--json")[1])
    assert [step["state"] for step in told["history"]] == ["queued", "claimed", "running", "done"]
    assert Path(told["clip"]).read_bytes() == b"clip"
    (callback,) = told["callbacks"]
    assert (callback["host"], callback["state"], callback["attempts"]) == ("hooks.example.com", "pending", 0)
    code, out, _ = avatar("requests", "r-1")
    assert code == 0
    assert told["clip"] in out.replace("\n", "")
    assert "callback to hooks.example.com: pending" in out
    assert "hunter2" not in out + json.dumps(told)


def test_what_failed_is_told_with_its_remedy(avatar, line: Line) -> None:
    arrive(line, "r-1")
    line.requests.fail("r-1", NotFound("There is no avatar ada.", remedy="Make it first."))
    code, out, _ = avatar("requests", "r-1")
    assert code == 0
    assert "error: There is no avatar ada." in out
    assert "remedy: Make it first." in out
    assert avatar("requests", "r-1", "--follow")[0] == 1


def test_why_a_request_is_held_is_told(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-1")
    line.requests.hold("r-1", "the budget of November is used up")
    assert "budget of November" in avatar("requests", "--state=held")[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "nobody"),
        (["../etc/passwd"], "request id"),
        (["--avatar=Ada"], "avatar"),
        (["--tenant=a b"], "tenant"),
        (["--batch=x/y"], "batch"),
    ],
)
def test_what_cannot_be_asked_is_one_line(arguments: list[str], told: str, avatar) -> None:
    code, out, err = avatar("requests", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err


class Worker:
    """What goes on elsewhere while one looks: one step of a script for each second that is waited."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)

    def __call__(self, seconds: float) -> None:
        assert self.steps, "followed for longer than anything happens"
        self.steps.pop(0)()


def test_requests_are_followed_from_the_queue_to_their_end(line: Line) -> None:
    from avatar_pipeline.stages.dispatch import drain

    know_avatar(line)
    bodies = [
        ClipRequest(request_id=name, avatar_id="ada", text="Hi.").model_dump_json(exclude_none=True)
        for name in ("f-1", "f-2")
    ]
    line.queues.clips.send(bodies)
    looks: list[dict[str, str]] = []

    def show(records: list[RequestRecord]) -> None:
        looks.append({record.request.request_id: record.state for record in records})

    def begin_both() -> None:
        for name in ("f-1", "f-2"):
            line.requests.begin(name, max_attempts=ATTEMPTS)

    worker = Worker(
        lambda: drain(line, "clip"),
        lambda: line.requests.claim("batch-1", 10),
        begin_both,
        lambda: line.requests.finish("f-1", clip_key=None),
        lambda: line.requests.fail("f-2", InvalidText("It is mute.", remedy="None.")),
    )
    records = following.follow(line, Wish(), show=show, sleep=worker)
    assert worker.steps == []
    assert looks[0] == {}
    assert [look.get("f-2") for look in looks[1:]] == ["queued", "claimed", "running", "running", "failed"]
    assert {record.request.request_id: record.state for record in records} == {"f-1": "done", "f-2": "failed"}


def test_a_request_that_no_longer_fits_is_followed_to_its_end(line: Line) -> None:
    know_avatar(line)
    arrive(line, "f-1")
    worker = Worker(
        lambda: line.requests.claim("batch-1", 1), lambda: line.requests.fail("f-1", InvalidText("No.", remedy="None."))
    )
    (record,) = following.follow(line, Wish(states=("queued",)), show=lambda _: None, sleep=worker)
    assert record.state == "failed"


def test_a_request_that_never_comes_is_not_waited_for_for_ever(line: Line) -> None:
    seconds: list[float] = []
    with pytest.raises(NotFound, match="nobody"):
        following.follow(line, Wish(request_id="nobody"), show=lambda _: None, sleep=seconds.append)
    assert len(seconds) < 60


def test_following_what_is_final_ends_at_once_and_tells_whether_any_failed(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "f-1", "f-2")
    line.requests.claim("batch-1", 10)
    for name in ("f-1", "f-2"):
        line.requests.begin(name, max_attempts=ATTEMPTS)
        line.requests.finish(name, clip_key=None)
    code, out, _ = avatar("requests", "--batch=batch-1", "--follow")
    assert code == 0
    assert [text.split()[1:] for text in out.splitlines()].count(["f-1", "done"]) == 1
    arrive(line, "f-3")
    line.requests.fail("f-3", InvalidText("It is mute.", remedy="None."))
    code, out, _ = avatar("requests", "--follow", "--json")
    assert code == 1
    assert len(json.loads(out)) == 3


def test_ctrl_c_ends_following_cleanly(home: Path, line: Line) -> None:
    know_avatar(line)
    arrive(line, "f-1")
    command = [sys.executable, "-m", "avatar_pipeline.cli", "requests", "--follow"]
    with subprocess.Popen(
        command, env=avatar_environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following_process:
        assert following_process.stdout is not None
        assert "f-1 queued" in following_process.stdout.readline()
        os.kill(following_process.pid, signal.SIGINT)
        out, err = following_process.communicate(timeout=60)
    assert following_process.returncode == 130
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: Interrupted.")


def test_on_a_terminal_the_table_changes_in_place(home: Path, line: Line) -> None:
    import pty

    know_avatar(line)
    arrive(line, "f-1")
    line.requests.fail("f-1", InvalidText("It is mute.", remedy="None."))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "avatar_pipeline.cli", "requests", "--follow"]
    environment = avatar_environment(home) | {"TERM": "xterm", "COLUMNS": "160"}
    done = subprocess.run(command, env=environment, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 1
    assert "f-1" in shown and "It is mute." in shown


def test_a_clip_that_cannot_be_said_does_not_stay_claimed(own_home: Path) -> None:
    """Damage stops the run and not the request, which would be run again and again; but nobody waits for it here."""
    mesh = next(own_home.glob("store/avatars/ada/mesh/*/mesh.npz"))
    mesh.write_bytes(b"\0" * mesh.stat().st_size)
    with open_line() as line:
        with pytest.raises(AvatarError) as caught:
            work.say(line, "ada", "Hello.", out=None)
        (record,) = line.requests.list(avatar_id="ada", kind="clip")
        assert record.state == "failed"
        assert record.error is not None
        assert record.error["message"] == caught.value.message
        assert record.error["code"] in {"bug", "store_corrupt"}, "none of which a batch fails a request for"
        assert line.requests.open_batches() == []


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=4000)))
def test_a_span_of_time_is_told_in_at_most_two_units(length: timedelta) -> None:
    words = console.span(length).split()
    assert len(words) in {2, 4}
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    told = sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(told - length.total_seconds()) <= max(1.0, length.total_seconds() * 0.05)


@given(st.text())
def test_nothing_printed_commands_a_terminal(text: str) -> None:
    shown = console.printable(text, 80)
    assert len(shown) <= 80
    assert shown.isprintable()


def test_times_are_aware() -> None:
    assert console.span(datetime(2026, 1, 2, tzinfo=UTC) - datetime(2026, 1, 1, tzinfo=UTC)) == "1 d"
    assert console.span(None) == ""
