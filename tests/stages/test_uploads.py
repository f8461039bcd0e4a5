"""The uploads place, in a folder and on S3 (moto's server, over HTTP): files come in and out, and nothing else does."""

import os
import string
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from avatar_pipeline.consent import MAX_BYTES
from avatar_pipeline.errors import EnvironmentProblem, InvalidInput, NotFound
from avatar_pipeline.settings import InvalidSettings, Settings, read_settings
from avatar_pipeline.stages.uploads import (
    delete_upload,
    fetch_upload,
    is_upload,
    keep_upload,
    require_under_uploads,
    require_upload,
    uploads_root,
)


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    import s3fs

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3fs.S3FileSystem.clear_instance_cache()
    yield f"http://{host}:{port}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(aws: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "AWS_ENDPOINT_URL": aws,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    for name in ("studio", "studio-evil"):
        client.create_bucket(Bucket=name)
    return client


@pytest.fixture(params=["folder", "s3"])
def configured(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    if request.param == "s3":
        request.getfixturevalue("bucket")
        monkeypatch.setenv("AVATAR_UPLOADS", "s3://studio/in/")
    monkeypatch.setenv("AVATAR_MAX_UPLOAD_BYTES", "1000")
    return read_settings()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "Me, talking.mp4"
    path.write_bytes(b"\0moving pictures" * 9)
    return path


def test_a_file_that_was_kept_is_fetched_whole_and_with_its_name(configured: Settings, video: Path, tmp_path: Path):
    uri = keep_upload(configured, video, "video_uri")
    assert is_upload(configured, uri)
    require_upload(configured, uri, "video_uri")
    fetched = fetch_upload(configured, uri, tmp_path / "work")
    assert fetched.read_bytes() == video.read_bytes()
    assert fetched.name == "Me__talking.mp4"
    assert fetched.is_relative_to(tmp_path / "work")


def test_keeping_the_same_file_again_gives_the_same_uri(configured: Settings, video: Path):
    uri = keep_upload(configured, video, "video_uri")
    assert keep_upload(configured, video, "video_uri") == uri
    video.write_bytes(b"something else")
    assert keep_upload(configured, video, "video_uri") != uri


def test_a_kept_file_that_is_damaged_is_found_out_and_mended(home: Path, video: Path, tmp_path: Path):
    settings = read_settings()
    uri = keep_upload(settings, video, "video_uri")
    Path(uri).write_bytes(b"\0moving pictures" * 8)
    with pytest.raises(InvalidInput, match=r"^video_uri: .* does not match the SHA-256"):
        fetch_upload(settings, uri, tmp_path / "work")
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert keep_upload(settings, video, "video_uri") == uri
    assert fetch_upload(settings, uri, tmp_path / "work").read_bytes() == video.read_bytes()


@pytest.mark.parametrize(("size", "told"), [(1001, "has 1,001 bytes; the limit is 1,000"), (0, "is empty")])
def test_a_file_of_a_wrong_size_is_neither_kept_nor_fetched(size: int, told: str, configured: Settings, tmp_path: Path):
    path = tmp_path / "odd.mp4"
    path.write_bytes(b"x" * size)
    with pytest.raises(InvalidInput, match=told):
        keep_upload(configured, path, "video_uri")
    uri = f"{uploads_root(configured)}/odd.mp4"
    if uri.startswith("s3://"):
        boto3.client("s3").put_object(Bucket="studio", Key="in/odd.mp4", Body=b"x" * size)
    else:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
        path.rename(uri)
    for look in (
        lambda: require_upload(configured, uri, "video_uri"),
        lambda: fetch_upload(configured, uri, tmp_path / "work"),
    ):
        with pytest.raises(InvalidInput, match=f"^video_uri.*{told}"):
            look()


def test_a_consent_has_a_limit_of_its_own(home: Path, tmp_path: Path):
    path = tmp_path / "consent.json"
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(InvalidInput, match=f"the limit is {MAX_BYTES:,}"):
        keep_upload(read_settings(), path, "consent_uri")


def test_a_file_that_grows_while_it_is_copied_stops_at_the_limit(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AVATAR_MAX_UPLOAD_BYTES", str(3 * 1024 * 1024))
    growing = home / "uploads" / "growing.mp4"
    growing.parent.mkdir(parents=True)
    growing.write_bytes(b"x" * 1024 * 1024)
    real = os.fdopen

    class Growing:
        """The file as its reader sees it while somebody goes on writing: never at its end."""

        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def read(self, size):
            with growing.open("ab") as more:
                more.write(b"x" * size)
            return self.stream.read(size)

    monkeypatch.setattr(os, "fdopen", lambda *arguments, **named: Growing(real(*arguments, **named)))
    with pytest.raises(InvalidInput, match="the limit is 3,145,728"):
        fetch_upload(read_settings(), str(growing), tmp_path / "work")
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]


def test_what_is_not_there_is_told(configured: Settings, tmp_path: Path):
    root = uploads_root(configured)
    if not root.startswith("s3://"):
        Path(root).mkdir(parents=True)
    for name in ("none.mp4", "no/such/folder.mp4", "n" * 300):
        with pytest.raises(NotFound, match=r"^consent_uri: .* is not there"):
            fetch_upload(configured, f"{root}/{name}", tmp_path / "work", field="consent_uri")
    delete_upload(configured, f"{root}/none.mp4")


def test_a_deleted_upload_is_gone(configured: Settings, video: Path, tmp_path: Path):
    uri = keep_upload(configured, video, "video_uri")
    delete_upload(configured, uri)
    with pytest.raises(NotFound):
        fetch_upload(configured, uri, tmp_path / "work")
    with pytest.raises(InvalidInput, match="does not lie under"):
        delete_upload(configured, str(video))
    assert video.exists()


@pytest.mark.parametrize(
    "uri",
    [
        "s3://studio-evil/in/v.mp4",
        "s3://studio/in-evil/v.mp4",
        "s3://studio/other/v.mp4",
        "s3://studio/in/../other/v.mp4",
        "s3://studio/in/./v.mp4",
        "s3://studio/in//v.mp4",
        "s3://studio/in/",
        "s3://studio/in",
        "s3://studio/in/v.mp4?versionId=1",
        "s3://studio/in/*.mp4",
        "s3://studio@evil/in/v.mp4",
        "S3://studio/in/v.mp4",
        "s3a://studio/in/v.mp4",
        "https://studio.s3.amazonaws.com/in/v.mp4?X-Amz-Signature=hunter2",
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://studio/in/v.mp4\n",
        "",
    ],
)
def test_nothing_outside_the_prefix_of_a_bucket_is_read(
    uri: str, bucket, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, key in (("studio-evil", "in/v.mp4"), ("studio", "in-evil/v.mp4"), ("studio", "other/v.mp4")):
        bucket.put_object(Bucket=name, Key=key, Body=b"secret")
    monkeypatch.setenv("AVATAR_UPLOADS", "s3://studio/in")
    configured = read_settings()
    assert not is_upload(configured, uri)
    with pytest.raises(InvalidInput, match=r"^video_uri does not lie under the uploads place s3://studio/in") as caught:
        fetch_upload(configured, uri, tmp_path / "work")
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "pipe", "folder", "device"])
def test_what_is_no_file_of_the_folder_itself_is_not_read(kind: str, home: Path, tmp_path: Path):
    root = home / "uploads"
    root.mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "v.mp4").write_bytes(b"secret")
    uri = root / "v.mp4"
    if kind == "link to a file":
        uri.symlink_to(tmp_path / "secret" / "v.mp4")
    elif kind == "link to a folder":
        (root / "folder").symlink_to(tmp_path / "secret")
        uri = root / "folder" / "v.mp4"
    elif kind == "pipe":
        os.mkfifo(uri)
    elif kind == "device":
        uri.symlink_to("/dev/zero")
    else:
        uri.mkdir()
    with pytest.raises(InvalidInput, match=r"^video_uri: .* is not there, or is no file"):
        fetch_upload(read_settings(), str(uri), tmp_path / "work")
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]


_PIECES = st.sampled_from(["..", ".", "", "v.mp4", "a", "%2e%2e", "..%2f", "\\..", "\0", "\u202e", "file:", "~", "-"])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(_PIECES | st.text(alphabet=string.printable, max_size=4), max_size=6),
    lead=st.sampled_from(["{root}/", "{root}", "{root}-evil/", "{root}/../", "//", "/", "file://{root}/", "~/"]),
)
def test_no_spelling_of_a_uri_leaves_the_folder(pieces: list[str], lead: str, home: Path, tmp_path: Path):
    """Whatever is read lies, after everything is resolved, under the root; all else is refused in one kind of error."""
    root = home / "uploads"
    (root / "a").mkdir(parents=True, exist_ok=True)
    for place in (root, root / "a"):
        (place / "v.mp4").write_bytes(b"fine")
    for outside in (home / "v.mp4", tmp_path / "v.mp4", home / "uploads-evil" / "v.mp4"):
        outside.parent.mkdir(exist_ok=True)
        outside.write_bytes(b"secret")
    uri = lead.format(root=root) + "/".join(pieces)
    try:
        fetched = fetch_upload(read_settings(), uri, tmp_path / "work")
    except InvalidInput as error:
        assert error.message.startswith("video_uri")
    else:
        assert Path(uri).resolve().is_relative_to(root.resolve())
        assert fetched.read_bytes() == b"fine"
        assert fetched.is_relative_to(tmp_path / "work")


def test_the_place_itself_may_be_reached_through_a_link(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "v.mp4").write_bytes(b"fine")
    (tmp_path / "mounted").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("AVATAR_UPLOADS", "mounted/")
    for spelling in ("mounted", "disk"):
        uri = str(tmp_path / spelling / "v.mp4")
        assert fetch_upload(read_settings(), uri, tmp_path / "work").read_bytes() == b"fine"


def test_a_place_that_is_away_is_the_machines_fault_and_not_the_requests(home: Path, tmp_path: Path):
    with pytest.raises(EnvironmentProblem, match="uploads place"):
        fetch_upload(read_settings(), str(home / "uploads" / "v.mp4"), tmp_path / "work")


def test_a_bucket_that_is_not_there_is_told_when_a_file_is_kept(
    bucket, home: Path, video: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AVATAR_UPLOADS", "s3://nowhere/in")
    with pytest.raises(EnvironmentProblem, match="bucket"):
        keep_upload(read_settings(), video, "video_uri")


@pytest.mark.parametrize("place", ["gs://bucket/in", "s3://", "s3://Bucket/in", "file:///srv/uploads", "s3://b/in?x"])
def test_a_place_of_another_kind_is_refused(place: str, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AVATAR_UPLOADS", place)
    with pytest.raises(InvalidSettings, match=r"^AVATAR_UPLOADS"):
        is_upload(read_settings(), "anything")


def test_a_uri_may_be_checked_without_looking(home: Path):
    configured = read_settings()
    require_under_uploads(configured, f"{uploads_root(configured)}/later.mp4", "video_uri")
    with pytest.raises(InvalidInput, match=r"^consent_uri"):
        require_under_uploads(configured, "/etc/passwd", "consent_uri")
