from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.media.orientation import Orientation
from avatar_pipeline.media.probe import probe
from tests.media.samples import number_of, numbered_frame, write_video


def _decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode ")]


@pytest.mark.parametrize("pixel_format", ["rgb24", "yuv420p"])
def test_every_frame_comes_once_in_order_with_its_exact_time(talking: Path, pixel_format: str) -> None:
    shape = (256, 256, 3) if pixel_format == "rgb24" else (384, 256)
    count = 0
    for count, frame in enumerate(decode_frames(talking, pixel_format=pixel_format), start=1):
        assert number_of(frame.image) == count - 1
        assert frame.time == Fraction(count - 1, 25)
        assert frame.image.shape == shape
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
    assert count == 75


@settings(max_examples=25, deadline=None)
@given(start=st.integers(-3, 80), length=st.integers(0, 40), shift=st.sampled_from([0, 1, 39]))
def test_a_range_holds_the_frames_with_start_up_to_but_not_stop(
    talking: Path, start: int, length: int, shift: int
) -> None:
    begin, end = Fraction(start, 25) + Fraction(shift, 1000), Fraction(start + length, 25)
    expected = [n for n in range(75) if begin <= Fraction(n, 25) < end]
    assert [number_of(f.image) for f in decode_frames(talking, start=begin, stop=end)] == expected


@pytest.mark.parametrize(
    ("name", "codec", "options", "container_options"),
    [
        ("open-h264.mp4", "libx264", {"preset": "medium", "x264-params": "open-gop=1:bframes=8:b-adapt=0"}, {}),
        ("open-h264.mkv", "libx264", {"preset": "medium", "x264-params": "open-gop=1:bframes=8:b-adapt=0"}, {}),
        ("fragments.mp4", "libx264", {}, {"movflags": "frag_keyframe+empty_moov"}),
        ("part2.mp4", "mpeg4", {"bf": "2"}, {}),
        ("vp8.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}, {}),
        ("live.webm", "libvpx", {}, {"live": "1"}),
        ("vp9.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}, {}),
    ],
)
def test_seeking_gives_the_frames_that_decoding_from_the_beginning_gives(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], container_options: dict[str, str]
) -> None:
    path = write_video(tmp_path / name, frames=100, codec=codec, options=options, container_options=container_options)
    whole = list(decode_frames(path))
    assert [number_of(f.image) for f in whole] == list(range(100))
    for first in (3, 24, 25, 26, 49, 60, 74, 76, 97):
        part = list(decode_frames(path, start=whole[first].time, stop=whole[min(first + 5, 99)].time))
        assert [f.pts for f in part] == [f.pts for f in whole[first : min(first + 5, 99)]]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole[first:], strict=False))


def test_times_of_a_variable_frame_rate_are_kept(tmp_path: Path) -> None:
    pts = [0, 3000, 6001, 10_000, 12_500, 30_000, 33_003, 36_000]
    path = write_video(tmp_path / "vfr.mp4", frames=8, pts=pts, time_base=Fraction(1, 90_000))
    assert [f.time for f in decode_frames(path)] == [Fraction(p, 90_000) for p in pts]


@pytest.mark.parametrize("pixel_format", ["rgb24", "yuv420p"])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_turned_upright(tmp_path: Path, rotation: int, mirrored: bool, pixel_format: str) -> None:
    upright = numbered_frame(777, 320, 256)
    undone = np.rot90(upright, rotation // 90)
    recorded = undone[:, ::-1] if mirrored else undone
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10"})
        stream.height, stream.width = recorded.shape[:2]
        stream.pix_fmt = "yuv420p"
        # This call mirrors after turning; mirrored first, the turn goes the other way round.
        stream.set_display_rotation(rotation if mirrored else -rotation, hflip=mirrored)
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(recorded), "rgb24").reformat(format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    image = next(decode_frames(path, pixel_format=pixel_format)).image
    assert number_of(image) == 777
    if pixel_format == "rgb24":
        assert np.abs(image.astype(int) - upright).mean() < 3
        assert (probe(path).width, probe(path).height) == (320, 256)
        assert probe(path).rotation == rotation


def test_a_mirrored_frame_is_mirrored_before_it_is_turned() -> None:
    image = np.arange(6).reshape(2, 3)
    assert Orientation(clockwise=90, mirrored=True).apply(image).tolist() == [[5, 2], [4, 1], [3, 0]]


def test_odd_sides_lose_their_last_row_and_column(tmp_path: Path) -> None:
    path = write_video(tmp_path / "odd.mp4", width=257, height=161, pixel_format="yuv444p", frames=3)
    assert next(decode_frames(path)).image.shape == (160, 256, 3)
    planar = next(decode_frames(path, pixel_format="yuv420p")).image
    assert planar.shape == (240, 256)
    assert number_of(planar) == 0


def test_pixels_are_made_square(tmp_path: Path) -> None:
    path = tmp_path / "anamorphic.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 240, 256, "yuv420p"
        stream.sample_aspect_ratio = Fraction(4, 3)
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(numbered_frame(5, 240, 256), "rgb24").reformat(format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    image = next(decode_frames(path)).image
    assert image.shape == (256, 320, 3)
    assert number_of(image) == 5
    assert (probe(path).width, probe(path).height) == (320, 256)


def test_frames_before_the_start_of_an_edit_list_are_not_shown(tmp_path: Path, talking: Path) -> None:
    path = tmp_path / "trimmed.mp4"
    with av.open(str(talking)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts -= 512 * 10
                packet.dts -= 512 * 10
                packet.stream = stream
                out.mux(packet)
    frames = list(decode_frames(path))
    assert [number_of(f.image) for f in frames] == list(range(10, 75))
    assert [f.time for f in frames] == [Fraction(n, 25) for n in range(65)]
    assert probe(path).seconds == pytest.approx(65 / 25)


def test_closing_the_generator_ends_its_thread(talking: Path) -> None:
    frames = decode_frames(talking, prefetch=1)
    next(frames)
    assert _decoding_threads()
    frames.close()
    assert not _decoding_threads()


def test_a_finished_generator_leaves_no_thread(talking: Path) -> None:
    for _ in decode_frames(talking):
        pass
    assert not _decoding_threads()


def test_an_error_of_the_consumer_ends_the_thread(talking: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in decode_frames(talking):
            1 / 0  # noqa: B018
    assert not _decoding_threads()


def test_nothing_is_opened_before_the_first_frame_is_asked_for(tmp_path: Path) -> None:
    frames = decode_frames(tmp_path / "absent.mp4")
    assert not _decoding_threads()
    with pytest.raises(InvalidMedia, match=r"absent\.mp4"):
        next(frames)
    assert not _decoding_threads()


@pytest.mark.parametrize("fill", ["noise", "zeros"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_damage_in_the_middle_is_an_error_that_says_where(tmp_path: Path, codec: str, fill: str) -> None:
    path = write_video(tmp_path / "v.mp4", frames=75, codec=codec)
    with av.open(str(path)) as source:
        packets = [p for p in source.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(3).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    for packet in packets[40:44]:
        assert packet.pos is not None
        body = slice(packet.pos + 12, packet.pos + packet.size)
        content[body] = noise[: packet.size - 12] if fill == "noise" else bytes(packet.size - 12)
    path.write_bytes(content)
    seen = []
    with pytest.raises(InvalidMedia, match=r"v\.mp4: .*damaged.* \d\.\d+ s") as caught:
        for frame in decode_frames(path):
            seen.append(number_of(frame.image))
    # Noise may decode as a picture before it decodes as an error, so frames from the damage on are not judged.
    assert seen[:40] == list(range(len(seen)))[:40]
    assert 25 <= len(seen) <= 44
    assert "\n" not in str(caught.value)


def test_frames_that_change_size_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sizes.webm"
    with av.open(str(path), "w") as out:
        streams = []
        for side in (256, 320):
            small = write_video(tmp_path / f"{side}.webm", codec="libvpx", frames=30, width=side, height=side)
            with av.open(str(small)) as source:
                streams.append([p for p in source.demux(video=0) if p.size])
                if side == 256:
                    target = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(streams[0] + streams[1]):
            copy = av.Packet(bytes(packet))
            copy.pts = copy.dts = number * 40
            copy.time_base, copy.is_keyframe, copy.stream = Fraction(1, 1000), packet.is_keyframe, target
            out.mux(copy)
    with pytest.raises(InvalidMedia, match="change size from 256x256 to 320x320"):
        list(decode_frames(path))


def test_an_unknown_pixel_format_is_a_mistake_of_the_caller(talking: Path) -> None:
    with pytest.raises(ValueError, match="bgr24"):
        next(decode_frames(talking, pixel_format="bgr24"))
