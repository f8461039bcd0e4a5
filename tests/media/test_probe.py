from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.media.probe import probe
from avatar_pipeline.media.types import MediaLimits
from tests.media.samples import numbered_frame, tone, write_video

DEFAULT_LIMITS = MediaLimits()


def test_a_sound_video_is_described_as_it_is(talking: Path) -> None:
    info = probe(talking)
    assert (info.container, info.codec, info.width, info.height) == ("mp4", "h264", 256, 256)
    assert (info.fps, info.rotation, info.variable_frame_rate) == (25, 0, False)
    assert info.seconds == 3.0
    assert info.size_bytes == talking.stat().st_size
    assert info.audio is not None
    assert (info.audio.codec, info.audio.rate, info.audio.channels) == ("aac", 48_000, 1)
    assert info.audio.seconds == pytest.approx(3.0, abs=0.03)


@pytest.mark.parametrize(
    ("codec", "sound_codec", "suffix", "expected"),
    [
        ("libx264", "aac", "mkv", ("matroska", "h264", "aac")),
        ("libvpx", "libopus", "webm", ("webm", "vp8", "opus")),
        ("libvpx-vp9", "libopus", "webm", ("webm", "vp9", "opus")),
        ("mpeg4", "aac", "mp4", ("mp4", "mpeg4", "aac")),
        ("libx264", "pcm_s16le", "mov", ("mov", "h264", "pcm_s16le")),
    ],
)
def test_the_usual_containers_and_codecs_are_accepted(
    tmp_path: Path, codec: str, sound_codec: str, suffix: str, expected: tuple[str, str, str]
) -> None:
    path = write_video(tmp_path / f"v.{suffix}", codec=codec, sound=tone(2.4), sound_codec=sound_codec)
    info = probe(path)
    assert info.audio is not None
    assert (info.container, info.codec, info.audio.codec) == expected
    assert (info.fps, info.variable_frame_rate) == (25, False)


def test_a_live_recording_without_length_or_index_is_measured(tmp_path: Path) -> None:
    path = write_video(tmp_path / "live.webm", codec="libvpx", container_options={"live": "1"})
    info = probe(path)
    assert (info.seconds, info.fps, info.variable_frame_rate) == (2.4, 25, False)


def test_ten_bit_video_is_accepted(tmp_path: Path) -> None:
    assert probe(write_video(tmp_path / "ten.mp4", pixel_format="yuv420p10le")).codec == "h264"


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(15), Fraction(120)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_constant_rates_are_named_exactly(tmp_path: Path, fps: Fraction, suffix: str) -> None:
    info = probe(write_video(tmp_path / f"v.{suffix}", fps=fps, frames=int(fps * 2) + 2))
    assert abs(info.fps - fps) < Fraction(1, 1000)
    assert not info.variable_frame_rate


def test_a_dropped_frame_makes_the_rate_variable(tmp_path: Path) -> None:
    pts = [3600 * (i if i < 30 else i + 3) for i in range(60)]
    info = probe(write_video(tmp_path / "vfr.mp4", pts=pts, time_base=Fraction(1, 90_000)))
    assert info.variable_frame_rate
    assert info.fps == pytest.approx(59 / (62 / 25), rel=0.01)
    assert info.seconds == pytest.approx(63 / 25, abs=0.05)


@pytest.mark.parametrize(("rotation", "size"), [(90, (192, 256)), (180, (256, 192)), (270, (192, 256))])
def test_a_rotated_video_has_the_size_that_is_displayed(tmp_path: Path, rotation: int, size: tuple[int, int]) -> None:
    info = probe(write_video(tmp_path / "r.mp4", width=256, height=192, rotation=rotation))
    assert (info.rotation, (info.width, info.height)) == (rotation, size)


def test_odd_sides_lose_their_last_row_and_column(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "odd.mp4", width=257, height=161, pixel_format="yuv444p"))
    assert (info.width, info.height) == (256, 160)


def test_an_attached_picture_is_no_video_stream(tmp_path: Path, talking: Path) -> None:
    path = tmp_path / "cover.mp4"
    with av.open(str(talking)) as source, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 256, 256, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(numbered_frame(0), "rgb24").reformat(format="yuvj420p")))
        out.mux(cover.encode(None))
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    assert (probe(path).codec, probe(path).seconds) == ("h264", 3.0)


def _refused(path: Path, limits: MediaLimits = DEFAULT_LIMITS) -> str:
    with pytest.raises(InvalidMedia) as caught:
        probe(path, limits)
    assert path.name in caught.value.message
    assert str(path.parent) not in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return caught.value.message


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("/dev/zero")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing")
    assert "not a regular file" in _refused(tmp_path / "pipe.mp4")
    assert "not a regular file" in _refused(tmp_path / "link.mp4")
    assert "cannot be read" in _refused(tmp_path / "dangling.mp4")
    assert "cannot be read" in _refused(tmp_path / "absent.mp4")
    (tmp_path / "folder.mp4").mkdir()
    assert "not a regular file" in _refused(tmp_path / "folder.mp4")


def test_a_link_to_a_video_is_followed(tmp_path: Path, talking: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(talking)
    assert probe(tmp_path / "link.mp4").size_bytes == talking.stat().st_size


@pytest.mark.parametrize("name", ["concat:a|b.mp4", "http:x.mp4", "data:v.mp4", "v%03d.mp4", "über 1.mp4"])
def test_names_that_look_like_protocols_or_patterns_are_names(tmp_path: Path, talking: Path, name: str) -> None:
    shutil.copy(talking, tmp_path / name)
    assert probe(tmp_path / name).seconds == 3.0


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "0 bytes" in _refused(tmp_path / "empty.mp4")


@pytest.mark.parametrize(
    "content",
    [b"hello, I am a text\n" * 99, b"\x00\x00\x00\x18ftypisom" + b"x" * 999, b"\x1a\x45\xdf\xa3" + b"\x00" * 99],
)
def test_other_content_under_a_video_name_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fake.mp4").write_bytes(content)
    _refused(tmp_path / "fake.mp4")


def test_unlisted_containers_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", codec="mpeg4").rename(tmp_path / "v.mp4")
    assert "container" in _refused(path)


def test_unlisted_codecs_are_refused(tmp_path: Path) -> None:
    assert "mjpeg" in _refused(write_video(tmp_path / "m.mov", codec="mjpeg", pixel_format="yuvj420p"))
    assert "mp2" in _refused(write_video(tmp_path / "d.mkv", sound=tone(2.4), sound_codec="mp2"))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize(
    "container_options", [{}, {"movflags": "+faststart"}, {"movflags": "frag_keyframe+empty_moov"}]
)
def test_an_mp4_that_was_cut_off_is_refused(tmp_path: Path, share: float, container_options: dict[str, str]) -> None:
    whole = write_video(tmp_path / "whole.mp4", sound=tone(2.4), container_options=container_options).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut short" in _refused(path, MediaLimits(min_seconds=0.1))


@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_webm_that_was_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    whole = write_video(tmp_path / "whole.webm", codec="libvpx").read_bytes()
    path = tmp_path / "cut.webm"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut short" in _refused(path)


def test_an_index_that_points_past_the_end_is_refused(tmp_path: Path, talking: Path) -> None:
    whole = bytearray(talking.read_bytes())
    mdat = whole.index(b"mdat")
    whole[mdat - 4 : mdat] = (0).to_bytes(4, "big")  # 'to the end of the file': the boxes alone give nothing away
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: mdat + (len(whole) - mdat) // 2])
    assert "cut short" in _refused(path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(2.0)[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert "no video stream" in _refused(path)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_two_streams_of_a_kind_are_refused(tmp_path: Path, talking: Path, kind: str) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(talking)) as source, av.open(str(path), "w") as out:
        pairs = [(s, out.add_stream_from_template(s)) for s in source.streams]
        pairs += [(s, out.add_stream_from_template(s)) for s in source.streams if s.type == kind]
        for packet in source.demux():
            for original, copy in pairs:
                if packet.size and original.index == packet.stream_index:
                    twin = av.Packet(bytes(packet))
                    twin.pts, twin.dts, twin.time_base = packet.pts, packet.dts, packet.time_base
                    twin.is_keyframe = packet.is_keyframe
                    twin.stream = copy
                    out.mux(twin)
    assert f"2 {kind} streams" in _refused(path)


def test_sizes_outside_the_limits_are_refused(tmp_path: Path) -> None:
    assert "too small" in _refused(write_video(tmp_path / "dot.mkv", width=16, height=16, codec="mpeg4"))
    pixel = tmp_path / "pixel.webm"
    with av.open(str(pixel), "w") as out:
        stream = out.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1, 1, "yuv420p"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((1, 1, 3), np.uint8), "rgb24").reformat(format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert "1x1 px is too small" in _refused(pixel)
    large = write_video(tmp_path / "8k.mp4", width=7680, height=4320, frames=1, codec="mpeg4")
    assert "7680x4320 px is over the limit of 4096x2304 px" in _refused(large)


def test_bytes_lengths_and_rates_outside_the_limits_are_refused(tmp_path: Path, talking: Path) -> None:
    assert "over the limit of 0 MB" in _refused(talking, MediaLimits(max_bytes=1000))
    assert "3.0 s is over the limit of 2.5 s" in _refused(talking, MediaLimits(max_seconds=2.5))
    assert "3.0 s is over the limit of 1 s" in _refused(talking, MediaLimits(max_seconds=1))
    assert "3.00 s is under the limit of 4 s" in _refused(talking, MediaLimits(min_seconds=4))
    assert "25.00 frames per second" in _refused(talking, MediaLimits(max_fps=24))
    assert "single frame" in _refused(write_video(tmp_path / "one.mp4", frames=1))
    assert "5.00 frames per second" in _refused(write_video(tmp_path / "slow.mp4", frames=12, fps=5))


def test_a_length_that_only_the_packets_tell_is_still_limited(tmp_path: Path) -> None:
    path = write_video(tmp_path / "live.webm", codec="libvpx", container_options={"live": "1"})
    assert "over the limit" in _refused(path, MediaLimits(max_seconds=1))


def test_a_picture_that_starts_late_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mkv", pts=[i + 1000 for i in range(60)])
    assert "starts at 40.0 s" in _refused(path)


def test_a_broken_first_frame_is_refused(tmp_path: Path, talking: Path) -> None:
    with av.open(str(talking)) as source:
        first = next(source.demux(video=0))
        assert first.pos is not None
    damaged = bytearray(talking.read_bytes())
    damaged[first.pos + 700 : first.pos + first.size] = bytes(first.size - 700)
    (tmp_path / "bad.mp4").write_bytes(damaged)
    _refused(tmp_path / "bad.mp4")


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on the loopback that keeps the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}", asked
    web.shutdown()
    web.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
def test_a_playlist_is_refused_without_asking_its_servers(
    tmp_path: Path, server: tuple[str, list[str]], name: str
) -> None:
    url, asked = server
    body = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}/segment.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / name).write_text(body)
    # The trap works: ffmpeg, let loose, does ask.
    with pytest.raises(av.error.FFmpegError):
        loose = {"allowed_extensions": "ALL", "extension_picky": "0", "protocol_whitelist": "file,http,tcp"}
        av.open(str(tmp_path / name), format="hls", container_options=loose)
    assert asked
    asked.clear()
    assert "not a video in a container that is accepted" in _refused(tmp_path / name)
    assert asked == []


def test_scripts_and_manifests_that_name_other_files_are_refused(
    tmp_path: Path, talking: Path, server: tuple[str, list[str]]
) -> None:
    url, asked = server
    scripts = {
        "concat.mp4": f"ffconcat version 1.0\nfile '{talking}'\n",
        "dash.mp4": f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}/</BaseURL></Period></MPD>',
        "sdp.mp4": f"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=control:{url}\n",
    }
    for name, body in scripts.items():
        (tmp_path / name).write_text(body)
        _refused(tmp_path / name)
    assert asked == []


def test_nothing_of_ffmpeg_reaches_the_terminal(
    tmp_path: Path, talking: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    probe(talking)
    damaged = bytearray(talking.read_bytes())
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    (tmp_path / "bad.mp4").write_bytes(damaged[:-1])
    _refused(tmp_path / "bad.mp4")
    assert capfd.readouterr() == ("", "")
