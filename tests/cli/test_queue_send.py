"""`avatar queue send`: what is sent arrives as it was asked for, and what cannot be used is not sent."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.cli import sending
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.queues.parse import parse
from avatar_pipeline.settings import Settings, read_settings
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.uploads import fetch_upload, keep_upload
from tests.cli.conftest import CONSENT, bodies, clip
from tests.conftest import avatar_environment

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_clip_arrives_as_it_was_asked_for(avatar) -> None:
    options = {
        "request-id": "order-7",
        "tenant": "acme",
        "priority": 3,
        "deadline": "2099-01-01T00:00:00+02:00",
        "speed": 1.5,
        "size": 480,
        "fps": 30,
        "callback": "https://example.com/hook",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    code, out, _ = avatar("queue", "send", "clip", "ada", "Hello, you.", *flags, "--json")
    assert code == 0
    assert json.loads(out)["request_id"] == "order-7"
    assert json.loads(out)["queue"] == "clip-requests"
    (body,) = bodies("clip")
    assert parse(body, "clip") == ClipRequest(
        request_id="order-7",
        avatar_id="ada",
        text="Hello, you.",
        tenant="acme",
        priority=3,
        deadline=datetime(2098, 12, 31, 22, tzinfo=UTC),
        voice={"speed": 1.5},
        size=480,
        fps=30,
        callback_url="https://example.com/hook",
    )


def test_a_clip_without_an_id_gets_one_of_its_own_and_it_is_told(avatar) -> None:
    said = [avatar("queue", "send", "clip", "ada", "Hello.")[1] for _ in range(2)]
    ids = [text.split()[0] for text in said]
    assert len(set(ids)) == 2
    assert all(name.startswith("clip-") for name in ids)
    assert [parse(body, "clip").request_id for body in bodies("clip")] == ids


def test_an_avatar_is_sent_with_its_files_in_the_uploads_place(avatar, upload, home: Path, tmp_path: Path) -> None:
    video, consent = upload
    arguments = ("queue", "send", "avatar", "bob", video, "--consent", consent, "--voice", "local:de", "--greeting=Hi")
    code, out, err = avatar(*arguments, "--tenant=acme", "--json")
    assert code == 0, out + err
    (body,) = bodies("avatar")
    request = parse(body, "avatar")
    assert isinstance(request, AvatarRequest)
    assert (request.avatar_id, request.voice, request.greeting, request.tenant) == ("bob", "local:de", "Hi", "acme")
    assert request.request_id == json.loads(out)["request_id"]
    for uri, path in ((request.video_uri, video), (request.consent_uri, consent)):
        assert uri.startswith(str(home / "uploads"))
        assert fetch_upload(read_settings(), uri, tmp_path / "work").read_bytes() == path.read_bytes()


def test_sending_the_same_avatar_again_is_the_same_request(avatar, upload) -> None:
    video, consent = upload
    for _ in range(2):
        assert avatar("queue", "send", "avatar", "bob", video, "--consent", consent)[0] == 0
    with open_line() as line:
        assert drain(line, "avatar").received == 2
        assert len(line.requests.list()) == 1


def test_a_file_that_lies_in_the_uploads_place_is_not_copied(avatar, upload, home: Path) -> None:
    video, consent = upload
    (home / "uploads").mkdir(parents=True)
    placed = home / "uploads" / "placed.mp4"
    video.rename(placed)
    uri = keep_upload(read_settings(), consent, "consent_uri")
    before = sorted((home / "uploads").rglob("*"))
    assert avatar("queue", "send", "avatar", "bob", placed, "--consent", uri)[0] == 0
    (body,) = bodies("avatar")
    assert (parse(body, "avatar").video_uri, parse(body, "avatar").consent_uri) == (str(placed), uri)
    assert sorted((home / "uploads").rglob("*")) == before


BAD_CLIPS = {
    "no slug": (["Ada", "Hi."], "avatar_id"),
    "traversal": (["../etc", "Hi."], "avatar_id"),
    "no text": (["ada", ""], "text"),
    "nothing to speak": (["ada", "..."], "text"),
    "long text": (["ada", "word " * 1001], "at most 5000"),
    "control character": (["ada", "Hi\x1b[2J"], "U+001B"),
    "bad id": (["ada", "Hi.", "--request-id=No"], "request_id"),
    "bad tenant": (["ada", "Hi.", "--tenant=A B"], "tenant"),
    "priority": (["ada", "Hi.", "--priority=10"], "priority"),
    "negative priority": (["ada", "Hi.", "--priority=-1"], "priority"),
    "speed": (["ada", "Hi.", "--speed=9"], "speed"),
    "speed that is no number": (["ada", "Hi.", "--speed=nan"], "NaN"),
    "size": (["ada", "Hi.", "--size=64"], "size"),
    "fps": (["ada", "Hi.", "--fps=1000"], "fps"),
    "callback": (["ada", "Hi.", "--callback=ftp://example.com"], "callback_url"),
    "callback with credentials": (["ada", "Hi.", "--callback=https://u:hunter2@example.com"], "callback_url"),
    "deadline over": (["ada", "Hi.", "--deadline=2020-01-01T00:00:00Z"], "--deadline"),
    "deadline without a zone": (["ada", "Hi.", "--deadline=2099-01-01T00:00:00"], "time zone"),
    "deadline that is no time": (["ada", "Hi.", "--deadline=soon"], "--deadline"),
    "deadline beyond all calendars": (["ada", "Hi.", "--deadline=9999-12-31T23:59:59-12:00"], "--deadline"),
}


@pytest.mark.parametrize("case", list(BAD_CLIPS))
def test_a_clip_that_cannot_be_made_is_one_line_and_not_sent(case: str, avatar) -> None:
    arguments, told = BAD_CLIPS[case]
    code, out, err = avatar("queue", "send", "clip", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err
    assert "hunter2" not in err
    assert bodies("clip") == []


def revoked(path: Path) -> None:
    path.write_text(json.dumps(CONSENT | {"revoked_at": "2026-02-01T00:00:00Z"}))


BAD_AVATARS = {
    "no slug": (["Bob", "me.mp4", "--consent=consent.json"], "avatar_id"),
    "no video": (["bob", "none.mp4", "--consent=consent.json"], "video_uri"),
    "folder": (["bob", ".", "--consent=consent.json"], "video_uri"),
    "large video": (["bob", "large.mp4", "--consent=consent.json"], "the limit is 1,000"),
    "no consent": (["bob", "me.mp4", "--consent=none.json"], "none.json"),
    "no consent record": (["bob", "me.mp4", "--consent=me.mp4"], "me.mp4 is not a consent record"),
    "revoked consent": (["bob", "me.mp4", "--consent=revoked.json"], "was revoked"),
    "consent without voice": (["bob", "me.mp4", "--consent=likeness.json"], "does not cover voice"),
    "voice": (["bob", "me.mp4", "--consent=consent.json", "--voice=loud"], "voice"),
    "greeting": (["bob", "me.mp4", "--consent=consent.json", "--greeting=..."], "greeting"),
    "other bucket": (["bob", "s3://bucket/v.mp4", "--consent=consent.json"], "video_uri"),
    "signed URL": (["bob", "https://x.example/v.mp4?sig=hunter2", "--consent=consent.json"], "video_uri"),
    "file URI": (["bob", "me.mp4", "--consent=file:///etc/passwd"], "consent_uri"),
    "missing in the uploads place": (["bob", "home/uploads/v.mp4", "--consent=consent.json"], "video_uri"),
}


@pytest.mark.parametrize("case", list(BAD_AVATARS))
def test_an_avatar_that_cannot_be_made_is_one_line_and_nothing_is_sent_or_kept(
    case: str, avatar, upload, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATAR_MAX_UPLOAD_BYTES", "1000")
    (tmp_path / "large.mp4").write_bytes(b"x" * 1001)
    (tmp_path / "likeness.json").write_text(json.dumps(CONSENT | {"scope": ["likeness"]}))
    revoked(tmp_path / "revoked.json")
    (home / "uploads").mkdir(parents=True)
    arguments, told = BAD_AVATARS[case]
    code, out, err = avatar("queue", "send", "avatar", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err
    assert "hunter2" not in err
    assert bodies("avatar") == []
    assert [path for path in (home / "uploads").rglob("*") if path.is_file()] == []


def test_a_file_of_requests_is_sent_whole(avatar, home: Path, tmp_path: Path) -> None:
    maker = {"kind": "avatar", "avatar_id": "bob", "consent_uri": f"{home}/uploads/c.json"}
    maker["video_uri"] = f"{home}/uploads/v.mp4"
    lines = [json.dumps(clip(number)) for number in range(1200)]
    (tmp_path / "many.jsonl").write_text("\n".join([*lines[:600], "", json.dumps(maker), "  ", *lines[600:]]))
    code, out, _ = avatar("queue", "send", "file", "many.jsonl", "--json")
    assert (code, json.loads(out)) == (0, {"sent": 1201, "clip": 1200, "avatar": 1})
    with open_line() as line:
        assert line.queues.clips.depth().visible == 1200
        assert drain(line, "clip").new == 1200
        assert drain(line, "avatar").new == 1
    # Sent once more by somebody who was not sure: the ledger knows them all.
    assert avatar("queue", "send", "file", "many.jsonl")[0] == 0
    with open_line() as line:
        assert drain(line, "clip").received == 1200
        assert len(line.requests.list()) == 1201


def test_requests_are_read_from_standard_input(home: Path) -> None:
    command = [sys.executable, "-m", "avatar_pipeline.cli", "queue", "send", "file", "-"]
    text = "\n".join(json.dumps(clip(number, text="Grüße, 世界.")) for number in range(3))
    environment = avatar_environment(home) | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=environment, input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"Sent 3 requests")
    assert {parse(body, "clip").text for body in bodies("clip")} == {"Grüße, 世界."}


BAD_LINES = {
    "no JSON": (b"{", "it is not JSON"),
    "no UTF-8": (b'{"kind": "clip", "text": "\xff"}', "it is not JSON"),
    "no object": (b"[1]", "not a JSON object"),
    "twice": (b'{"kind": "clip", "text": "a", "text": "b"}', "given twice"),
    "deep": (b"[" * 100_000, "it is not JSON"),
    "no kind": (b'{"request_id": "a-1"}', "kind"),
    "other kind": (b'{"kind": "song"}', "kind"),
    "kind of another type": (b'{"kind": ["clip"]}', "kind"),
    "no id": (json.dumps(clip(9) | {"request_id": None}).encode(), "request_id"),
    "field": (json.dumps(clip(9, fps=1)).encode(), "fps"),
    "unknown field": (json.dumps(clip(9, colour="red")).encode(), "colour"),
    "video elsewhere": (
        b'{"kind": "avatar", "avatar_id": "bob", "video_uri": "/etc/passwd", "consent_uri": "/etc/passwd"}',
        "video_uri",
    ),
    "another request's id": (json.dumps(clip(1, text="Something else.")).encode(), "request_id clip-1"),
}


@pytest.mark.parametrize("case", list(BAD_LINES))
def test_one_bad_line_and_nothing_of_the_file_is_sent(case: str, avatar, tmp_path: Path) -> None:
    line, told = BAD_LINES[case]
    good = [json.dumps(clip(number)).encode() for number in range(3)]
    (tmp_path / "some.jsonl").write_bytes(b"\n".join([*good, b"", line, json.dumps(clip(4)).encode()]))
    code, out, err = avatar("queue", "send", "file", "some.jsonl")
    assert (code, out) == (2, "")
    assert err.startswith("error: some.jsonl, line 5: ")
    assert err.count("\n") == 1
    assert told in err
    assert bodies("clip") == []


def test_a_file_that_is_not_there_is_one_line(avatar) -> None:
    code, _, err = avatar("queue", "send", "file", "none.jsonl")
    assert code != 0
    assert err.startswith("error: none.jsonl")
    assert err.count("\n") == 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
_FIELDS = ["kind", "version", "request_id", "avatar_id", "text", "tenant", "priority", "deadline", "voice", "size"]
_FIELDS += ["fps", "callback_url", "video_uri", "consent_uri", "greeting", "other"]


@given(
    base=st.sampled_from([clip(1), {"kind": "avatar", "avatar_id": "bob", "video_uri": "/u/v", "consent_uri": "/u/c"}]),
    changes=st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=3),
    cut=st.integers(0, 400),
)
def test_any_line_is_a_request_that_parses_again_or_an_error_with_its_number(base, changes, cut) -> None:
    line = json.dumps(base | changes).encode()[: 1000 if cut > 300 else cut]
    settings = Settings(uploads="/u")
    try:
        items = sending.read_requests(settings, [b"\n", line], "file")
    except InvalidInput as error:
        assert error.message.startswith("file, line 2: ")
    else:
        assert [parse(item.body, item.kind) for item in items] == [item.request for item in items]


@given(st.text(max_size=12) | st.from_regex(r"\+\d{1,7}[smhd]", fullmatch=True) | st.datetimes().map(str))
def test_a_deadline_is_in_the_future_or_an_error(text: str) -> None:
    try:
        deadline = sending.read_deadline(text, NOW)
    except InvalidInput as error:
        assert "--deadline" in error.message
    else:
        assert deadline is not None
        assert deadline >= NOW
        assert deadline.utcoffset() == timedelta(0)


def test_a_deadline_may_be_a_span_or_a_time() -> None:
    assert sending.read_deadline(None, NOW) is None
    assert sending.read_deadline("+10m", NOW) == NOW + timedelta(minutes=10)
    assert sending.read_deadline("+2h", NOW) == NOW + timedelta(hours=2)
    east = datetime(2026, 11, 24, 15, 30, tzinfo=timezone(timedelta(hours=2)))
    assert sending.read_deadline("2026-11-24T15:30+02:00", NOW) == east
