"""The recording in which a person consents: taken in with the upload, by file and by queue, whole or not at all."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from avatar_pipeline.cli.sending import avatar_request, send
from avatar_pipeline.consent import read_consent
from avatar_pipeline.errors import ConsentMissing, InvalidInput, InvalidMedia, SpeechNotUsable
from avatar_pipeline.ledger.messages import AvatarRequest
from avatar_pipeline.media.recording import read_recording
from avatar_pipeline.media.types import MediaLimits
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.avatar_requests import take_in_uploads
from avatar_pipeline.stages.consent import consent_recording
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.intake import register_avatar
from avatar_pipeline.stages.line import Line, open_line


@pytest.fixture
def line(home: Path) -> Iterator[Line]:
    with open_line(read_settings()) as line:
        yield line


@pytest.fixture
def papers(sample_upload: Path, tmp_path: Path) -> Path:
    """A folder with a video, a consent, and the recording that the consent names."""
    folder = tmp_path / "papers"
    folder.mkdir()
    shutil.copyfile(sample_upload / "sample.mp4", folder / "me.mp4")
    shutil.copyfile(sample_upload / "clean_speech.wav", folder / "i-agree.wav")
    return name_recording(folder, sample_upload)


def name_recording(folder: Path, sample_upload: Path, name: str = "i-agree.wav") -> Path:
    """Write a consent that names the recording, as it is now."""
    record = json.loads((sample_upload / "consent.json").read_text())
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "consent.json").write_text(json.dumps(record | {"recording": name, "evidence_sha256": digest}))
    return folder


def test_it_is_kept_with_the_upload(line: Line, papers: Path) -> None:
    record = read_consent(papers / "consent.json")
    avatar = register_avatar(line, "ada", papers / "me.mp4", record, recording=papers / "i-agree.wav")
    kept = consent_recording(line, avatar)
    assert kept is not None and kept.read_bytes() == (papers / "i-agree.wav").read_bytes()
    assert read_recording(kept).seconds > 2


def test_it_must_be_given_and_be_the_one(line: Line, papers: Path) -> None:
    record = read_consent(papers / "consent.json")
    with pytest.raises(ConsentMissing, match="which was not given"):
        register_avatar(line, "ada", papers / "me.mp4", record)
    with pytest.raises(ConsentMissing, match="does not match"):
        register_avatar(line, "ada", papers / "me.mp4", record, recording=papers / "me.mp4")
    assert not line.ledger.has_avatar("ada")


def test_it_must_hold_speech(line: Line, papers: Path, sample_upload: Path) -> None:
    (papers / "i-agree.wav").write_bytes((papers / "i-agree.wav").read_bytes()[:20_000])
    record = read_consent(name_recording(papers, sample_upload) / "consent.json")
    with pytest.raises(SpeechNotUsable, match=r"The consent's i-agree\.wav"):
        register_avatar(line, "ada", papers / "me.mp4", record, recording=papers / "i-agree.wav")
    assert not line.ledger.has_avatar("ada")


def test_it_may_be_a_video_and_no_other_kind_of_file(line: Line, papers: Path, sample_upload: Path) -> None:
    record = read_consent(name_recording(papers, sample_upload, "me.mp4") / "consent.json")
    avatar = register_avatar(line, "ada", papers / "me.mp4", record, recording=papers / "me.mp4")
    kept = consent_recording(line, avatar)
    assert kept is not None and read_recording(kept).seconds > 2
    (papers / "i-agree.wav").write_text("#EXTM3U\nhttp://elsewhere/sound.wav\n")
    record = read_consent(name_recording(papers, sample_upload) / "consent.json")
    with pytest.raises(InvalidMedia, match="not a video in a container that is accepted"):
        register_avatar(line, "bob", papers / "me.mp4", record, recording=papers / "i-agree.wav")


@pytest.mark.parametrize("name", ["i-agree.wav", "me.mp4"])
def test_its_size_and_length_have_limits(name: str, papers: Path) -> None:
    with pytest.raises(InvalidMedia, match=r"over the limit of 1 s"):
        read_recording(papers / name, MediaLimits(max_seconds=1))
    with pytest.raises(InvalidMedia, match=r"MB is over the limit"):
        read_recording(papers / name, MediaLimits(max_bytes=1000))


def test_a_sample_rate_that_would_fill_the_memory_is_refused(papers: Path) -> None:
    """Resampling from 50 MHz takes gigabytes, be the file as small as it likes."""
    path = papers / "i-agree.wav"
    content = bytearray(path.read_bytes())
    content[24:28] = (50_000_017).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InvalidMedia, match="sample rate of 50000017 Hz is over the limit"):
        read_recording(path)


def test_it_travels_by_queue_beside_its_consent(line: Line, papers: Path) -> None:
    item = avatar_request(
        line.settings, {"avatar_id": "ada"}, str(papers / "me.mp4"), str(papers / "consent.json"), line.clock()
    )
    assert isinstance(item.request, AvatarRequest)
    beside = Path(item.request.consent_uri).parent / "i-agree.wav"
    assert beside.read_bytes() == (papers / "i-agree.wav").read_bytes()
    send(line, [item])
    shutil.rmtree(papers)
    assert drain(line, "avatar").new == 1
    take_in_uploads(line, "ada")
    kept = consent_recording(line, line.ledger.avatar("ada"))
    assert kept is not None and kept.read_bytes() == beside.read_bytes()


def test_a_request_whose_recording_is_missing_or_another_fails_alone(line: Line, papers: Path) -> None:
    for number, spoil in enumerate((Path.unlink, lambda path: path.write_bytes(b"something else"))):
        item = avatar_request(
            line.settings,
            {"avatar_id": f"ada-{number}"},
            str(papers / "me.mp4"),
            str(papers / "consent.json"),
            line.clock(),
        )
        assert isinstance(item.request, AvatarRequest)
        spoil(Path(item.request.consent_uri).parent / "i-agree.wav")
        send(line, [item])
        drain(line, "avatar")
        with pytest.raises(InvalidInput, match="recording"):
            take_in_uploads(line, f"ada-{number}")
        assert line.requests.get(item.request.request_id).state == "failed"
        assert not line.ledger.has_avatar(f"ada-{number}")


def test_nothing_is_sent_without_it(line: Line, papers: Path) -> None:
    (papers / "i-agree.wav").unlink()
    with pytest.raises(ConsentMissing, match="is not there"):
        avatar_request(
            line.settings, {"avatar_id": "ada"}, str(papers / "me.mp4"), str(papers / "consent.json"), line.clock()
        )
    assert not Path(line.settings.uploads_uri).exists()
