"""Messages that anybody may write: a request comes out, or a reason without their content."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidText
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest
from avatar_pipeline.queues.limits import LARGEST_BODY
from avatar_pipeline.queues.parse import MalformedMessage, dump, parse
from avatar_pipeline.voice.text import check_text
from avatar_pipeline.voice.types import VoiceSettings

CLIP = {"version": 1, "request_id": "order-17", "avatar_id": "ada", "text": "Good morning."}
AVATAR = {"version": 1, "avatar_id": "ada", "video_uri": "s3://b/v.mp4", "consent_uri": "s3://b/c.json"}


def reason(body: str, kind: Any = "clip") -> str:
    with pytest.raises(MalformedMessage) as raised:
        parse(body, kind)
    assert raised.value.code == "malformed_message"
    assert raised.value.remedy
    return raised.value.message


def clip(**changes: object) -> str:
    return json.dumps(CLIP | changes)


def test_a_clip_request_is_read_with_its_defaults() -> None:
    assert parse(json.dumps(CLIP), "clip") == ClipRequest(request_id="order-17", avatar_id="ada", text="Good morning.")


def test_an_avatar_request_without_an_id_is_named_by_its_content() -> None:
    one, other = (parse(json.dumps(AVATAR | changes), "avatar") for changes in ({}, {"video_uri": "s3://b/w.mp4"}))
    assert parse(json.dumps(AVATAR), "avatar") == one
    assert one.request_id.startswith("avatar-")
    assert one.request_id != other.request_id
    assert parse(dump(one), "avatar") == one


def test_a_message_without_version_is_of_the_first() -> None:
    assert parse(json.dumps({name: value for name, value in CLIP.items() if name != "version"}), "clip").version == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "The message is not JSON: Expecting value at character 0."),
        ("hello", "The message is not JSON"),
        ('{"text": "half', "The message is not JSON: Unterminated string"),
        ("[]", "The message is not a JSON object."),
        ('"text"', "The message is not a JSON object."),
        ("null", "The message is not a JSON object."),
        ("[" * 100_000, "The message is nested more than 8 deep."),
        (clip(voice={"a": [[[[[[[[[1]]]]]]]]]}), "The message is nested more than 8 deep."),
        (clip(priority=int("9" * 4000)), "priority: "),
        (json.dumps(CLIP)[:-1] + ', "priority": ' + "9" * 5000 + "}", "The message holds a number of too many digits."),
        (json.dumps(CLIP)[:-1] + ', "priority": NaN}', "The message holds NaN, which is not JSON."),
        (json.dumps(CLIP)[:-1] + ', "priority": 1e999}', "The message holds a number that is too large."),
        (json.dumps(CLIP)[:-1] + ', "avatar_id": "bob"}', "avatar_id is given twice."),
        (clip(text="\ud800"), "The message holds half a surrogate pair."),
        (json.dumps({**CLIP, "\udfff": 1}), "The message holds half a surrogate pair."),
        (json.dumps(CLIP) + " " * LARGEST_BODY, "The message is larger than 262,144 bytes."),
        (clip(version=2), "version is not one that is known here (1)."),
        (clip(version="1"), "version is not one that is known here (1)."),
        (clip(version=True), "version is not one that is known here (1)."),
        (clip(version=None), "version is not one that is known here (1)."),
        (clip(wibble=1), "wibble is not a field of this request."),
        (json.dumps({"avatar_id": "ada", "request_id": "r1"}), "text is missing."),
        (json.dumps({"text": "Hi."}), "avatar_id is missing (and 1 more)."),
        (clip(fps=61), "fps: input should be less than or equal to 60."),
        (clip(fps="25"), "fps: input should be a valid integer."),
        (clip(fps=True), "fps: input should be a valid integer."),
        (clip(priority=-1), "priority: input should be greater than or equal to 0."),
        (clip(voice={"speed": 3}), "voice.speed: input should be less than or equal to 2."),
        (clip(voice={"pitch": 3}), "voice.pitch is not a field of this request."),
        (clip(deadline="2026-03-01T12:00:00"), "deadline: input should have timezone info."),
        (clip(deadline=1e9), "deadline: "),
        (clip(deadline="soon"), "deadline: "),
        (clip(request_id="Order 17"), "request_id is not an id of 2 to 63 characters"),
        (clip(avatar_id="x"), "avatar_id is not an id of 2 to 63 characters"),
        (clip(tenant="-a"), "tenant is not an id of 2 to 63 characters"),
        (clip(text="a " * 2501), "text: string should have at most 5000 characters."),
        (clip(text="   "), "text is empty."),
        (clip(text="!?"), "text has nothing to speak."),
        (clip(text="bell\x07"), "text holds the control character U+0007 at position 4."),
        (clip(text="Supercalifragilistic" * 6), "text has 120 letters or digits in a row; the limit is 100."),
        (clip(text=5), "text: input should be a valid string."),
        (clip(callback_url="ftp://a/b"), "callback_url is not an http or https URL with a host"),
        (clip(callback_url="https://me:pw@host/"), "callback_url is not an http or https URL with a host"),
        (clip(callback_url="https://[1"), "callback_url is not an http or https URL with a host"),
        (clip(callback_url="https://h/" + "x" * 2048), "callback_url: "),
        (
            clip(callback_url="https://h/\x00"),
            "callback_url holds the character U+0000 at position 10, which has to be",
        ),
        (clip(callback_url="https://h/\n"), "callback_url holds the character U+000A at position 10"),
        (clip(callback_url="https://h/a b"), "callback_url holds the character U+0020 at position 11"),
        (clip(callback_url=" https://h/"), "callback_url holds the character U+0020 at position 0"),
        (clip(callback_url="https://h/\u202e"), "callback_url holds the character U+202E at position 10"),
        (clip(callback_url="https://h\xe9/"), "callback_url holds the character U+00E9 at position 9"),
        (clip(deadline="0001-01-01T00:00:00+14:00"), "deadline does not lie between the years 2 and 9998."),
        (clip(deadline="9999-12-31T23:59:59-12:00"), "deadline does not lie between the years 2 and 9998."),
    ],
)
def test_what_is_wrong_is_named(body: str, said: str) -> None:
    assert reason(body).startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"video_uri": ""}, "video_uri: string should have at least 1 character."),
        ({"video_uri": "/x/\x00"}, "video_uri holds the control character U+0000 at position 3."),
        ({"video_uri": "/x/\x85"}, "video_uri holds the control character U+0085 at position 3."),
        ({"video_uri": "/x/v.mp4\n"}, "video_uri holds the control character U+000A at position 8."),
        ({"consent_uri": "/x\u2028y"}, "consent_uri holds the control character U+2028 at position 2."),
        ({"consent_uri": " /x"}, "consent_uri has space around it."),
        ({"voice": "enrol:en\x00"}, "voice: string should match pattern"),
        ({"voice": "enrol:en\n"}, "voice: string should match pattern"),
        ({"greeting": "Hi.\x00"}, "greeting holds the control character U+0000 at position 3."),
        ({"tenant": "acme\n"}, "tenant is not an id of 2 to 63 characters"),
        ({"voice": "deep"}, "voice: string should match pattern"),
        ({"greeting": "…"}, "greeting has nothing to speak."),
        ({"request_id": "A"}, "request_id is not an id"),
        ({"request_id": 5}, "request_id: input should be a valid string."),
        ({"text": "Hi."}, "text is not a field of this request."),
    ],
)
def test_what_is_wrong_with_an_avatar_request_is_named(changes: dict[str, object], said: str) -> None:
    assert reason(json.dumps(AVATAR | changes), "avatar").startswith(said)


def test_a_file_may_have_spaces_and_any_language_in_its_name() -> None:
    name = "/uploads/José Ω 录像/Screen Recording at 9.41\u202fAM.mov"
    request = parse(json.dumps(AVATAR | {"video_uri": name}), "avatar")
    assert isinstance(request, AvatarRequest)
    assert request.video_uri == name


def test_a_request_shows_neither_its_text_nor_where_things_are() -> None:
    shown = repr(parse(clip(text="A secret sentence.", callback_url="https://h/token"), "clip"))
    shown += repr(parse(json.dumps(AVATAR | {"video_uri": "https://b/?signature=1", "consent_uri": "/c"}), "avatar"))
    assert not any(secret in shown for secret in ("secret", "token", "signature", "/c"))


def test_a_clip_request_is_no_avatar_request() -> None:
    assert reason(json.dumps(CLIP), "avatar")
    assert reason(json.dumps(AVATAR), "clip")


SECRET = "Seventeen-secret-words-nobody-may-read"


@pytest.mark.parametrize(
    "body",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(CLIP | {SECRET + " ": 1}),
        json.dumps(CLIP | {SECRET * 3: 1}),
        f'{{"{SECRET} ": 1, "{SECRET} ": 2}}',
        *(clip(**{name: SECRET + " x"}) for name in ("fps", "deadline", "request_id", "tenant", "voice", "version")),
        *(
            clip(callback_url=url)
            for url in (SECRET, f"https://u:{SECRET}@h/", f"https://{SECRET}\u2100/", "https://[" + SECRET)
        ),
        clip(text=SECRET.replace("-", "") * 4),
        clip(text=SECRET + "\x00"),
        json.dumps(AVATAR | {"video_uri": SECRET * 100}),
    ],
)
def test_no_reason_quotes_what_was_sent(body: str) -> None:
    kind = "avatar" if "video_uri" in body else "clip"
    with pytest.raises(MalformedMessage) as raised:
        parse(body, kind)
    said = str(raised.value)
    assert SECRET not in said
    assert SECRET.replace("-", "")[:12] not in said
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


SLUGS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,62}", fullmatch=True)
OFFSETS = st.integers(-720, 720).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.builds(
    lambda seconds, zone: (datetime(1970, 1, 2, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(zone),
    st.integers(0, 200 * 365 * 86400) | st.floats(0, 1e9),
    st.just(UTC) | OFFSETS,
)
URLS = st.from_regex(r"https?://[a-z0-9]{1,20}\.example(:[0-9]{2,4})?/[a-zA-Z0-9/_?=&%-]{0,40}", fullmatch=True)


def speakable(text: str) -> bool:
    try:
        check_text(text)
    except InvalidText:
        return False
    return True


TEXTS = st.text(min_size=1, max_size=200).map(lambda text: f"a {text}").filter(speakable)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "avatar_id": SLUGS,
    "tenant": SLUGS,
    "priority": st.integers(0, 9),
    "deadline": st.none() | TIMES,
    "callback_url": st.none() | URLS,
}
CLIPS = st.builds(
    ClipRequest,
    request_id=SLUGS,
    text=TEXTS,
    voice=st.builds(VoiceSettings, speed=st.floats(0.5, 2.0)),
    size=st.none() | st.integers(256, 2160),
    fps=st.integers(10, 60),
    **COMMON,
)
AVATARS = st.builds(
    AvatarRequest,
    request_id=st.just("") | SLUGS,
    video_uri=st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=80),
    consent_uri=st.just("s3://bucket/consent.json"),
    voice=st.sampled_from(["enrol:en", "local:de", "local:en-us"]),
    greeting=TEXTS,
    **COMMON,
)


@given(CLIPS | AVATARS)
def test_a_request_survives_the_way_through_a_queue(request: ClipRequest | AvatarRequest) -> None:
    body = dump(request)
    assert parse(body, "clip" if isinstance(request, ClipRequest) else "avatar") == request
    assert json.loads(body)["version"] == 1
    assert len(body.encode()) <= LARGEST_BODY


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from([*ClipRequest.model_fields, *AvatarRequest.model_fields])


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(st.characters()),
        JSON.map(json.dumps),
        st.dictionaries(FIELDS, JSON).map(lambda changes: json.dumps(CLIP | changes)),
        st.dictionaries(FIELDS, JSON).map(lambda changes: json.dumps(AVATAR | changes, ensure_ascii=False)),
        st.binary(max_size=50).map(lambda raw: raw.decode("latin-1")),
    ),
    st.sampled_from(["clip", "avatar"]),
)
def test_any_message_is_a_request_or_malformed(body: str, kind: Any) -> None:
    try:
        request = parse(body, kind)
    except MalformedMessage as error:
        assert error.message
        error.message.encode()
    else:
        assert parse(dump(request), kind) == request
