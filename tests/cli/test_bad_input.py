"""Whatever is wrong with an upload: one clear line, exit code 2, nothing left behind, nothing fetched."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.cli import main

CONSENT = {
    "consent_id": "consent-1",
    "subject": "Nobody",
    "statement": "A generated picture of nobody may be used.",
    "statement_version": "1",
    "scope": ["likeness", "voice"],
    "given_at": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def avatar(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    Path("consent.json").write_text(json.dumps(CONSENT))

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


def write_video(path: Path, *, size: tuple[int, int] = (256, 256), seconds: float = 3, sound: bool = True) -> None:
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "40"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        picture = np.zeros((size[1] * 3 // 2, size[0]), np.uint8)
        for number in range(int(25 * seconds)):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, int(48000 * seconds)), np.float32), "fltp", "mono")
            samples.rate = 48000
            container.mux(audio.encode(samples))
            container.mux(audio.encode())


def write_audio(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 96000), np.float32), "fltp", "mono")
        frame.rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def truncated(path: Path) -> None:
    write_video(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def tiny(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 1, 1, "yuv420p"
        for number in range(75):
            frame = av.VideoFrame(1, 1, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())


def huge(path: Path) -> None:
    write_video(path, size=(7680, 4320), seconds=0.2)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncated, "truncated.mp4"),
    "text": (lambda path: path.write_text("This is no video. " * 100) and None, "text.mp4"),
    "zero bytes": (lambda path: path.write_bytes(b"") and None, "empty"),
    "audio only": (write_audio, "no video"),
    "1x1": (tiny, "1x1"),
    "8K": (huge, "7680x4320"),
    "too short": (lambda path: write_video(path, seconds=0.5), "limit of 2 s"),
    "silent": (write_video, "--voice local:en"),
    "no audio": (lambda path: write_video(path, sound=False), "no audio"),
}


def everything_under(folder: Path) -> set[str]:
    """All files but the ledger and its lock, which any command may make."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "ledger" not in path.name}


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_broken_upload_is_one_line_and_leaves_nothing(kind: str, avatar, home: Path, tmp_path: Path) -> None:
    write, told = BROKEN[kind]
    upload = tmp_path / f"{kind.replace(' ', '-')}.mp4"
    write(upload)
    before = everything_under(tmp_path)
    code, out, err = avatar("create", "ada", str(upload), "--consent", "consent.json")
    assert (code, out) == (2, "")
    (line,) = [text for text in err.splitlines() if text.strip()]
    assert line.startswith("error: ")
    assert told.lower() in line.lower()
    assert everything_under(tmp_path) == before
    assert json.loads(avatar("list", "--json")[1]) == []


@pytest.mark.parametrize("avatar_id", ["../../etc", "/etc/passwd", "Ada", "a" * 64, "ada/../bob"])
def test_an_id_that_is_no_slug_touches_nothing(avatar_id: str, avatar, tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4")
    before = everything_under(tmp_path)
    code, _, err = avatar("create", avatar_id, "v.mp4", "--consent", "consent.json")
    assert code == 2
    assert "is not a valid id" in err
    assert everything_under(tmp_path) == before


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
def test_a_playlist_is_refused_and_nothing_is_fetched(name: str, avatar, web, tmp_path: Path) -> None:
    url, asked = web
    Path(name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}/segment.ts\n#EXT-X-ENDLIST\n")
    code, _, err = avatar("create", "ada", name, "--consent", "consent.json")
    assert code == 2
    assert name in err
    assert asked == []


@pytest.mark.parametrize("what", ["https://example.com/v.mp4", "missing.mp4", "."])
def test_what_is_no_file_is_told(what: str, avatar) -> None:
    code, _, err = avatar("create", "ada", what, "--consent", "consent.json")
    assert code == 2
    assert err.startswith("error: ")


def test_a_missing_consent_is_told_before_anything_is_read(avatar, tmp_path: Path) -> None:
    code, _, err = avatar("create", "ada", "missing.mp4", "--consent", "nowhere.json")
    assert code == 2
    assert "nowhere.json" in err


def test_errors_are_json_for_machines(avatar) -> None:
    code, out, err = avatar("show", "nobody", "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["code"] == "not_found"


@pytest.mark.parametrize("arguments", [("say", "nobody", "Hi."), ("rm", "nobody", "--yes"), ("show", "nobody")])
def test_an_unknown_avatar_is_told_by_every_command(arguments: tuple[str, ...], avatar) -> None:
    code, _, err = avatar(*arguments)
    assert code == 2
    assert "nobody" in err


def test_a_wrong_call_shows_the_usage(avatar) -> None:
    code, _, err = avatar("create")
    assert code == 2
    assert "Missing argument" in err
