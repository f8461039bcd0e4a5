from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from avatar_pipeline.errors import EnvironmentProblem, StoreCorrupt
from avatar_pipeline.media.audio import read_audio
from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.media.encode import encode_segment, join_segments, rgb_to_i420
from avatar_pipeline.media.probe import probe
from avatar_pipeline.media.types import Audio
from tests.media.samples import number_of, numbered_frame, tone

FPS = Fraction(25)


def _frames(begin: int, end: int, side: int = 256) -> Iterator[NDArray[np.uint8]]:
    return (rgb_to_i420(numbered_frame(number, side, side)) for number in range(begin, end))


def _segments(folder: Path, *bounds: int, fps: Fraction = FPS) -> list[Path]:
    paths = []
    for begin, end in itertools.pairwise(bounds):
        paths.append(folder / f"{begin:04d}.mp4")
        assert encode_segment(paths[-1], _frames(begin, end), width=256, height=256, fps=fps) == end - begin
    return paths


def _decoded(path: Path) -> list[NDArray[np.uint8]]:
    return [frame.image for frame in decode_frames(path, pixel_format="yuv420p")]


_SCRIPT = """
import os, sys
from fractions import Fraction
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from avatar_pipeline.media.encode import encode_segment, join_segments
from avatar_pipeline.media.types import Audio
from tests.media.samples import tone
from tests.media.test_encode import _segments
folder = Path(sys.argv[1])
join_segments(_segments(folder, 0, 30, 50), folder / "clip.mp4", audio=Audio(tone(2.0), 48_000))
"""


def test_segments_and_clips_made_again_in_another_process_on_one_core_are_the_same_bytes(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    join_segments(_segments(here, 0, 30, 50), here / "clip.mp4", audio=Audio(tone(2.0), 48_000))
    subprocess.run([sys.executable, "-c", _SCRIPT, str(there)], check=True, cwd=Path(__file__).parents[2])
    names = sorted(path.name for path in here.iterdir())
    assert names == ["0000.mp4", "0030.mp4", "clip.mp4"]
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_a_segment_is_h264_with_bt709_tags_and_closed_groups(tmp_path: Path) -> None:
    path = tmp_path / "s.mp4"
    encode_segment(path, _frames(0, 60), width=256, height=256, fps=FPS, gop=20)
    info = probe(path)
    assert (info.codec, info.fps, info.seconds, info.variable_frame_rate) == ("h264", 25, 2.4, False)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.format.name, frame.colorspace, frame.color_primaries, frame.color_trc) == ("yuv420p", 1, 1, 1)
        assert frame.color_range == 1
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    keys = [n for n, p in enumerate(packets) if p.is_keyframe]
    assert keys == [0, 20, 40]
    for key in keys:  # nothing after a keyframe is shown before it
        assert all((p.pts or 0) >= (packets[key].pts or 0) for p in packets[key:])


def test_encoding_changes_pictures_little(tmp_path: Path) -> None:
    path = tmp_path / "s.mp4"
    encode_segment(path, _frames(0, 10), width=256, height=256, fps=FPS)
    for original, decoded in zip(_frames(0, 10), _decoded(path), strict=True):
        assert np.abs(original.astype(int) - decoded).mean() < 1.0


@pytest.mark.parametrize("fps", [FPS, Fraction(30000, 1001), Fraction(60)])
def test_a_joined_clip_shows_the_segments_frames_unchanged_at_uniform_times(tmp_path: Path, fps: Fraction) -> None:
    segments = _segments(tmp_path, 0, 50, 51, 80, 130, fps=fps)
    out = tmp_path / "clip.mp4"
    join_segments(segments, out)
    frames = list(decode_frames(out, pixel_format="yuv420p"))
    parts = [image for segment in segments for image in _decoded(segment)]
    assert len(frames) == len(parts) == 130
    assert all(np.array_equal(frame.image, part) for frame, part in zip(frames, parts, strict=True))
    assert [frame.time for frame in frames] == [n / fps for n in range(130)]
    assert number_of(frames[129].image) == 129
    assert probe(out).fps == fps


@pytest.mark.parametrize("rate", [48_000, 22_050, 16_000])
@pytest.mark.parametrize("seconds", [1.5, 2.0, 2.03])
def test_sound_is_aac_at_48_khz_in_place_and_as_long_as_the_picture(tmp_path: Path, rate: int, seconds: float) -> None:
    out = tmp_path / "clip.mp4"
    speech = tone(seconds, rate, hz=300) * np.linspace(0.2, 1, round(seconds * rate), dtype=np.float32)
    join_segments(_segments(tmp_path, 0, 25, 50), out, audio=Audio(speech, rate))
    info = probe(out)
    assert info.audio is not None
    assert (info.audio.codec, info.audio.rate, info.audio.channels) == ("aac", 48_000, 1)
    assert info.seconds == 2.0
    assert abs(info.audio.seconds - info.seconds) < 1 / 25
    heard = read_audio(out, rate=rate).samples
    common = min(len(heard), len(speech)) - rate // 50
    assert np.abs(heard[:common] - speech[:common]).mean() < 0.01
    assert not np.abs(heard[len(speech) + rate // 50 :]).max(initial=0) > 0.01


def test_metadata_is_written_and_no_time_of_writing(tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    note = "AI-generated: synthetic voice and re-animated face — see manifest"
    join_segments(_segments(tmp_path, 0, 10), out, metadata={"comment": note, "title": "Hello"})
    with av.open(str(out)) as container:
        assert container.metadata["comment"] == note
        assert container.metadata["title"] == "Hello"
        assert not {"creation_time", "encoder"} & set(container.metadata)
        assert "creation_time" not in container.streams.video[0].metadata
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with pytest.raises(ValueError, match="provenance"):
        join_segments([tmp_path / "0000.mp4"], out, metadata={"provenance": "x"})


def test_segments_of_other_parameters_are_not_joined(tmp_path: Path) -> None:
    (first,) = _segments(tmp_path, 0, 10)
    out = tmp_path / "clip.mp4"
    others = {"size": (320, FPS, 18), "rate": (256, Fraction(30), 18)}
    for name, (side, fps, crf) in others.items():
        other = tmp_path / f"{name}.mp4"
        encode_segment(other, _frames(0, 10, side), width=side, height=side, fps=fps, crf=crf)
        with pytest.raises(StoreCorrupt, match=rf"{name}\.mp4 and 0000\.mp4 differ in .*(width|fps)"):
            join_segments([first, other], out)
    slow = tmp_path / "preset.mp4"
    encode_segment(slow, _frames(0, 10), width=256, height=256, fps=FPS, preset="ultrafast")
    with pytest.raises(StoreCorrupt, match="differ in extradata"):
        join_segments([first, slow], out)
    assert not out.exists()


def test_mistakes_of_the_caller_are_told(tmp_path: Path) -> None:
    size = {"width": 256, "height": 256, "fps": FPS}
    path = tmp_path / "s.mp4"
    with pytest.raises(ValueError, match="even sides"):
        encode_segment(path, _frames(0, 1), width=255, height=256, fps=FPS)
    with pytest.raises(ValueError, match="at least one frame"):
        encode_segment(path, iter(()), **size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame 1 is"):
        encode_segment(path, [*_frames(0, 1), *_frames(0, 1, 320)], **size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no segment"):
        join_segments([], path)
    with pytest.raises(ValueError, match=r"the sound lasts 3\.000 s, the picture 0\.400 s"):
        join_segments(_segments(tmp_path, 0, 10), tmp_path / "clip.mp4", audio=Audio(tone(3.0), 48_000))


@pytest.mark.parametrize("name", ["absent/s.mp4", "full"])
def test_a_file_that_cannot_be_written_is_a_problem_of_the_machine(tmp_path: Path, name: str) -> None:
    path = Path("/dev/full") if name == "full" else tmp_path / name
    with pytest.raises(EnvironmentProblem, match=rf"{path.name}: cannot be written"):
        encode_segment(path, _frames(0, 5), width=256, height=256, fps=FPS)
