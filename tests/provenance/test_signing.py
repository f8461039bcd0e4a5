"""Content credentials: in the file, as they were signed, without a name, the same each time; and what breaks them."""

import json
import shutil
import stat
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import av
import c2pa
import pytest

from avatar_pipeline.cli.doctor import Noted, look_at_credentials
from avatar_pipeline.clock import utc_now
from avatar_pipeline.errors import EnvironmentProblem, InvalidInput, InvalidMedia
from avatar_pipeline.media.audio import read_wav
from avatar_pipeline.provenance import sign
from avatar_pipeline.provenance.certificate import TEST_FILE, TEST_ORGANIZATION, open_credentials
from avatar_pipeline.provenance.claim import ORIGIN, SOURCE_TYPE
from avatar_pipeline.provenance.reading import read_credentials
from avatar_pipeline.settings import Settings
from tests.provenance.samples import CLAIM, NOW, make, operator_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.mark.parametrize("name", ["clip.mp4", "speech.wav"])
def test_a_signed_file_reads_back_as_valid_and_synthetic(name: str, tmp_path: Path, settings: Settings) -> None:
    path = make(tmp_path / name)
    size = path.stat().st_size
    sign(path, CLAIM, settings)
    found = read_credentials(path)
    assert found is not None
    assert (found.state, found.problems) == ("Valid", ("signingCredential.untrusted",))
    assert found.source_types == (SOURCE_TYPE,)
    assert found.is_test and found.told == "Valid, signed with a test certificate"
    assert found.origin["voice_kind"] == "voice-matched, not cloned"
    assert set(found.origin) == {
        "artifact", "text_sha256", "voice_provider", "voice_kind", "voice_model", "consent_id_sha256"
    }  # fmt: skip
    assert 0 < path.stat().st_size - size < 20_000


def test_a_signed_file_plays_as_before(tmp_path: Path, settings: Settings) -> None:
    speech, clip = make(tmp_path / "speech.wav"), make(tmp_path / "clip.mp4")
    before = read_wav(speech).samples
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]
    sign(speech, CLAIM, settings)
    sign(clip, CLAIM, settings)
    assert (read_wav(speech).samples == before).all()
    with av.open(str(clip)) as container:
        assert [frame.to_ndarray().tobytes() for frame in container.decode(video=0)] == frames


@pytest.mark.parametrize("name", ["clip.mp4", "speech.wav"])
def test_one_flipped_bit_of_the_media_or_of_the_claim_is_seen(name: str, tmp_path: Path, settings: Settings) -> None:
    path = make(tmp_path / name)
    sign(path, CLAIM, settings)
    whole = path.read_bytes()
    media = 5_000 if name == "speech.wav" else whole.index(b"mdat") + 40
    for place in (media, whole.index(b"voice-matched")):
        broken = bytearray(whole)
        broken[place] ^= 1
        path.write_bytes(broken)
        found = read_credentials(path)
        assert found is not None and found.state == "Invalid"
        assert found.told.startswith("Invalid: changed after it was signed")


def test_no_name_and_no_text_is_inside(tmp_path: Path, settings: Settings) -> None:
    path = make(tmp_path / "speech.wav")
    sign(path, CLAIM, settings)
    content = path.read_bytes().lower()
    for secret in (b"ada", b"lovelace", b"hello", b"consent-of"):
        assert secret not in content
    assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("name", ["clip.mp4", "speech.wav"])
def test_the_same_work_gives_the_same_bytes(name: str, tmp_path: Path, settings: Settings) -> None:
    """Or two workers that finish the same clip would publish different files under one name."""
    one, two = make(tmp_path / name), tmp_path / f"two{Path(name).suffix}"
    shutil.copyfile(one, two)
    sign(one, CLAIM, settings)
    sign(two, CLAIM, settings)
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("kind", ["ec", "ec384", "ed25519", "rsa"])
def test_the_operators_certificate_signs_where_it_is_set(kind: str, tmp_path: Path) -> None:
    settings = operator_settings(tmp_path, kind=kind, days=3650)
    path = make(tmp_path / "speech.wav")
    sign(path, CLAIM, settings)
    found = read_credentials(path)
    assert found is not None
    assert (found.state, found.signer, found.is_test) == ("Valid", "Example Ltd.", False)
    assert found.told == "Valid, signed by Example Ltd. (not known here)"
    assert not (settings.home / "provenance").exists()


def test_the_test_certificate_is_made_once_says_so_and_is_nobody_elses_to_read(settings: Settings) -> None:
    first = open_credentials(settings, NOW)
    path = settings.home / "provenance" / TEST_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert open_credentials(settings, NOW + timedelta(days=3000)).chain == first.chain
    assert open_credentials(settings, NOW + timedelta(days=4000)).chain != first.chain, "it ended meanwhile"
    assert "NOT TRUSTED" in TEST_ORGANIZATION
    assert "sign" not in repr(first).split("algorithm")[1].split(",", 1)[0] and "function" not in repr(first)


def test_the_doctor_says_whose_certificate_signs_and_when_it_ends(tmp_path: Path, settings: Settings) -> None:
    found = look_at_credentials(settings)
    assert isinstance(found, Noted) and "test certificate that nobody trusts" in found.told
    assert not settings.home.exists(), "looking makes nothing"
    found = look_at_credentials(operator_settings(tmp_path, days=3650))
    assert isinstance(found, str) and "es256, until 2036" in found
    soon = (utc_now() - NOW).days + 10
    found = look_at_credentials(operator_settings(tmp_path, days=soon))
    assert isinstance(found, Noted) and "Renew" in found.remedy


def test_a_damaged_test_certificate_is_made_anew(settings: Settings) -> None:
    first = open_credentials(settings, NOW)
    (settings.home / "provenance" / TEST_FILE).write_text("nothing")
    assert open_credentials(settings, NOW).chain != first.chain


def test_a_test_certificate_of_a_clock_that_was_ahead_is_made_anew(settings: Settings) -> None:
    """A machine that woke up in the future must not keep every later worker from signing."""
    now = utc_now()
    ahead = open_credentials(settings, now + timedelta(days=400))
    again = open_credentials(settings, now)
    assert again.chain != ahead.chain
    assert open_credentials(settings, now).chain == again.chain


@pytest.mark.parametrize("data", [["a", "list"], "a word", 5])
def test_a_strangers_assertion_with_our_label_is_told_as_unreadable(
    data: object, tmp_path: Path, settings: Settings
) -> None:
    credentials = open_credentials(settings, utc_now())
    manifest = CLAIM.manifest("1")
    manifest["assertions"][-1] = {"label": ORIGIN, "data": data}
    signer = c2pa.Signer.from_callback(credentials.sign, c2pa.C2paSigningAlg.ES256, credentials.chain, None)
    path, source = tmp_path / "theirs.wav", make(tmp_path / "speech.wav")
    with signer, c2pa.Builder(json.dumps(manifest)) as builder, source.open("rb") as before, path.open("w+b") as after:
        builder.sign(signer, "audio/wav", before, after)
    with pytest.raises(InvalidMedia, match="cannot be read"):
        read_credentials(path)


def test_certificates_that_cannot_be_used_are_told_with_a_remedy(tmp_path: Path) -> None:
    good = operator_settings(tmp_path)
    cases = {
        "without the other": good.model_copy(update={"c2pa_private_key": None}),
        "cannot be read": good.model_copy(update={"c2pa_private_key": tmp_path / "none.pem"}),
    }
    for told, settings in cases.items():
        with pytest.raises(EnvironmentProblem, match=told):
            open_credentials(settings, NOW)
    with pytest.raises(EnvironmentProblem, match="is valid from "):
        open_credentials(good, NOW + timedelta(days=31))
    with pytest.raises(EnvironmentProblem, match="not that of the first certificate"):
        open_credentials(operator_settings(tmp_path, other_key=True), NOW)
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(EnvironmentProblem, match="is not PEM"):
        open_credentials(good, NOW)


def test_what_cannot_be_signed_is_left_as_it_was(tmp_path: Path, settings: Settings) -> None:
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(b"no video at all")
    with pytest.raises(EnvironmentProblem, match=r"clip\.mp4"):
        sign(broken, CLAIM, settings)
    assert broken.read_bytes() == b"no video at all"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["clip.mp4"]
    with pytest.raises(InvalidInput, match="cannot hold"):
        sign(tmp_path / "avatar.glb", CLAIM, settings)


def test_a_file_without_credentials_has_none(tmp_path: Path) -> None:
    assert read_credentials(make(tmp_path / "speech.wav")) is None
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(InvalidMedia):
        read_credentials(tmp_path / "text.wav")
    with pytest.raises(InvalidMedia, match="not there"):
        read_credentials(tmp_path / "none.wav")


def test_a_file_that_names_an_address_does_not_make_us_ask_there(tmp_path: Path, settings: Settings) -> None:
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Listener)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        credentials = open_credentials(settings, utc_now())
        signer = c2pa.Signer.from_callback(credentials.sign, c2pa.C2paSigningAlg.ES256, credentials.chain)
        builder = c2pa.Builder(json.dumps(CLAIM.manifest("1")))
        builder.set_no_embed()
        builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/elsewhere.c2pa")
        with make(tmp_path / "speech.wav").open("rb") as source, (tmp_path / "signed.wav").open("w+b") as target:
            builder.sign(signer, "audio/wav", source, target)
        assert b"elsewhere.c2pa" in (tmp_path / "signed.wav").read_bytes()
        with pytest.raises(InvalidMedia, match="must fetch remote manifests"):
            read_credentials(tmp_path / "signed.wav")
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []
