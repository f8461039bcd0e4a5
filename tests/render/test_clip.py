import hashlib
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.media.probe import probe
from avatar_pipeline.media.types import Audio, MediaLimits
from avatar_pipeline.render.clip import ClipReport, clip_frames, clip_side, render_clip, segment_frames
from avatar_pipeline.render.curves import lip_gap
from avatar_pipeline.render.loop import plate_indices
from avatar_pipeline.render.verify import measure_lip_gap, verify_clip
from avatar_pipeline.store.checkpoints import FolderCheckpoints

RATE = 16_000
SECONDS = 3.3
FRAMES = 83


@pytest.fixture(scope="module")
def audio():
    tone = 0.1 * np.sin(2 * np.pi * 220 * np.arange(round(SECONDS * RATE)) / RATE)
    return Audio(tone.astype(np.float32), RATE)


@pytest.fixture(scope="module")
def weights(footage):
    """At rest for a second, then the jaw opens and shuts three times."""
    time = np.arange(FRAMES) / 25
    values = np.zeros((FRAMES, len(footage.mesh.morph_names)), np.float32)
    values[:, 0] = np.where(time < 1.0, 0.0, 0.5 - 0.5 * np.cos(2 * np.pi * 1.5 * (time - 1.0)))
    return values


@pytest.fixture(scope="module")
def rendered(footage, plate, weights, audio, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    report = render_clip(
        mesh=footage.mesh,
        plate=plate,
        weights=weights,
        audio=audio,
        out=folder / "clip.mp4",
        checkpoints=FolderCheckpoints(folder / "segments"),
        metadata={"comment": "made for a test"},
    )
    return folder, report


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_clip_lasts_as_long_as_its_sound(rendered, plate):
    folder, report = rendered
    info = probe(folder / "clip.mp4", MediaLimits(min_seconds=0.5))
    assert (report.frames, report.segments, report.fps) == (FRAMES, 2, Fraction(25))
    assert (info.width, info.height, info.fps) == (plate.width, plate.height, Fraction(25))
    assert info.audio is not None and abs(info.seconds - SECONDS) < 0.05
    assert sum(1 for _ in decode_frames(folder / "clip.mp4")) == FRAMES


def test_the_metadata_of_the_caller_is_in_the_file(rendered):
    import av

    with av.open(str(rendered[0] / "clip.mp4")) as container:
        assert container.metadata["comment"] == "made for a test"


def test_the_lips_follow_the_command_without_lag(rendered, footage, weights):
    report = verify_clip(rendered[0] / "clip.mp4", footage.mesh, lip_gap(footage.mesh, weights))
    assert report.passed and report.judged_by == "correlation"
    assert report.lag_correlation is not None and report.lag_correlation > 0.9
    assert abs(report.offset_mm) < 4.0


def test_lips_are_still_in_silence(rendered, footage):
    """The portrait shows teeth all the time: its lips are drawn shut, and must not quiver."""
    gap = measure_lip_gap(rendered[0] / "clip.mp4", footage.mesh)
    assert gap[:24].mean() < 5.0
    assert gap[:24].std() < 1.0


def test_only_the_lower_face_differs_from_the_footage(rendered, plate):
    clip = [frame.image for frame in decode_frames(rendered[0] / "clip.mp4", pixel_format="yuv420p")]
    footage = [frame.image for frame in decode_frames(plate.video, pixel_format="yuv420p")]
    index = int(np.argmax(np.arange(FRAMES) == 33))
    shown = int(plate_indices(index, index + 1, len(plate))[0])
    difference = np.abs(clip[index][: plate.height].astype(int) - footage[shown][: plate.height])
    landmarks = plate.landmarks[shown]
    eyes, mouth = int(-landmarks[168, 1]), int(-landmarks[14, 1])
    centre = int(landmarks[14, 0])
    assert difference[:eyes].mean() < 2.5
    assert difference[:, :20].mean() < 2.5
    assert difference[mouth - 8 : mouth + 12, centre - 10 : centre + 10].mean() > 15


def test_a_resumed_clip_equals_an_undisturbed_one(rendered, footage, plate, weights, audio, tmp_path):
    folder, _ = rendered
    segments = tmp_path / "segments"
    with FolderCheckpoints(segments).put("segment-00000.mp4") as path:
        path.write_bytes((folder / "segments" / "segment-00000.mp4").read_bytes())
    report = render_clip(
        mesh=footage.mesh,
        plate=plate,
        weights=weights,
        audio=audio,
        out=tmp_path / "clip.mp4",
        checkpoints=FolderCheckpoints(segments),
        metadata={"comment": "made for a test"},
    )
    assert (report.resumed_segments, report.segments) == (1, 2)
    assert sha256(tmp_path / "clip.mp4") == sha256(folder / "clip.mp4")


_AGAIN = """
import pickle, sys
from pathlib import Path
from avatar_pipeline.render.clip import render_clip
from avatar_pipeline.store.checkpoints import FolderCheckpoints
folder = Path(sys.argv[1])
inputs = pickle.loads((folder / "inputs.pickle").read_bytes())
render_clip(**inputs, out=folder / "clip.mp4", checkpoints=FolderCheckpoints(folder / "segments"))
"""


def test_another_process_renders_the_same_bytes(rendered, footage, plate, weights, audio, tmp_path):
    import pickle

    count = segment_frames()
    short = Audio(audio.samples[: count * RATE // 25], RATE)
    inputs = {"mesh": footage.mesh, "plate": plate, "weights": weights[:count], "audio": short}
    (tmp_path / "inputs.pickle").write_bytes(pickle.dumps(inputs))
    subprocess.run([sys.executable, "-c", _AGAIN, str(tmp_path)], check=True)
    first = "segments/segment-00000.mp4"
    assert sha256(tmp_path / first) == sha256(rendered[0] / first)


def test_an_interrupted_clip_keeps_its_finished_segments_and_leaves_no_part(footage, plate, weights, audio, tmp_path):
    class Killed(Exception):
        pass

    def kill_in_second_segment(stage, done, total):
        if done == 1:
            raise Killed

    checkpoints = FolderCheckpoints(tmp_path / "segments")
    with pytest.raises(Killed):
        render_clip(
            mesh=footage.mesh,
            plate=plate,
            weights=weights,
            audio=audio,
            out=tmp_path / "clip.mp4",
            checkpoints=checkpoints,
            progress=kill_in_second_segment,
        )
    assert [p.name for p in (tmp_path / "segments").glob("*.mp4")] == ["segment-00000.mp4"]
    assert checkpoints.get("segment-00000.mp4") is not None
    assert not (tmp_path / "clip.mp4").exists()


def test_a_clip_that_is_stopped_at_a_boundary_goes_on_there_to_the_same_bytes(
    rendered, footage, plate, weights, audio, tmp_path
):
    class Leaving(Exception):
        pass

    def leave(done, total):
        assert (done, total) == (1, 2)
        raise Leaving

    inputs = {"mesh": footage.mesh, "plate": plate, "weights": weights, "audio": audio, "out": tmp_path / "clip.mp4"}
    inputs |= {"checkpoints": FolderCheckpoints(tmp_path / "segments"), "metadata": {"comment": "made for a test"}}
    with pytest.raises(Leaving):
        render_clip(**inputs, boundary=leave)
    assert [path.name for path in (tmp_path / "segments").glob("*.mp4")] == ["segment-00000.mp4"]
    reached = []
    report = render_clip(**inputs, boundary=lambda *step: reached.append(step))
    assert report.resumed_segments == 1 and reached == [(2, 2)]
    assert sha256(tmp_path / "clip.mp4") == sha256(rendered[0] / "clip.mp4")


def test_a_smaller_picture_can_be_asked_for(footage, plate, weights, audio, tmp_path):
    report = render_clip(
        mesh=footage.mesh,
        plate=plate,
        weights=weights[:20],
        audio=Audio(audio.samples[: RATE * 20 // 25], RATE),
        out=tmp_path / "clip.mp4",
        checkpoints=FolderCheckpoints(tmp_path / "segments"),
        short_side=144,
        offset=5,
    )
    assert (report.width, report.height) == (144, 144)
    frame = next(iter(decode_frames(tmp_path / "clip.mp4")))
    assert frame.image.shape == (144, 144, 3)


@pytest.mark.parametrize(
    ("asked", "side"),
    [(None, None), (288, None), (289, None), (4000, None), (287, 286), (286, 286), (145, 144), (64, 64)],
)
def test_a_picture_is_reduced_to_an_even_side_and_never_enlarged(asked, side):
    assert clip_side(512, 288, asked) == side


def test_a_side_too_small_to_draw_is_refused():
    with pytest.raises(InvalidInput, match="63 px"):
        clip_side(512, 288, 63)


@pytest.mark.parametrize(
    ("samples", "rate", "frames"), [(16000, 16000, 25), (16001, 16000, 26), (1, 16000, 1), (22050 * 3 + 1, 22050, 76)]
)
def test_frames_cover_the_sound_exactly(samples, rate, frames):
    assert clip_frames(Audio(np.zeros(samples, np.float32), rate)) == frames


@pytest.mark.parametrize("rows", [0, 40, FRAMES + 2])
def test_weights_that_do_not_fit_the_sound_are_refused(footage, plate, audio, rows, tmp_path):
    with pytest.raises(InvalidInput, match="fits the audio"):
        render_clip(
            mesh=footage.mesh,
            plate=plate,
            weights=np.zeros((rows, len(footage.mesh.morph_names)), np.float32),
            audio=audio,
            out=tmp_path / "clip.mp4",
            checkpoints=FolderCheckpoints(tmp_path),
        )


def test_a_plate_of_another_mesh_is_refused(footage, plate, weights, audio, tmp_path):
    from dataclasses import replace

    other = replace(footage.mesh, vertices=footage.mesh.vertices + np.float32(1.0))
    with pytest.raises(InvalidInput, match="another mesh"):
        render_clip(
            mesh=other,
            plate=plate,
            weights=weights,
            audio=audio,
            out=tmp_path / "clip.mp4",
            checkpoints=FolderCheckpoints(tmp_path),
        )


@dataclass(frozen=True)
class Other:
    """A clip of the same sound at another rate and size."""

    folder: Path
    report: ClipReport
    inputs: dict[str, Any]


@pytest.fixture(scope="module", params=[(10, 201), (15, None), (30, 240), (60, None)], ids=str)
def other(request, footage, plate, audio, tmp_path_factory):
    rate, side = request.param
    fps = Fraction(rate)
    time = np.arange(clip_frames(audio, fps)) / rate
    values = np.zeros((len(time), len(footage.mesh.morph_names)), np.float32)
    values[:, 0] = np.where(time < 1.0, 0.0, 0.5 - 0.5 * np.cos(2 * np.pi * 1.5 * (time - 1.0)))
    inputs = {"mesh": footage.mesh, "plate": plate, "weights": values, "audio": audio, "fps": fps, "short_side": side}
    folder = tmp_path_factory.mktemp("other")
    report = render_clip(**inputs, out=folder / "clip.mp4", checkpoints=FolderCheckpoints(folder / "segments"))
    return Other(folder, report, inputs)


def test_a_clip_has_the_frames_the_rate_and_the_size_asked_for_and_is_as_long_as_its_sound(other):
    import av

    fps, side = other.inputs["fps"], (other.inputs["short_side"] or 288) // 2 * 2
    with av.open(str(other.folder / "clip.mp4")) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.average_rate, video.frames) == (fps, -(-33 * fps.numerator // 10))
        assert (video.width, video.height) == (side, side)
        lasts = [Fraction(stream.duration) * stream.time_base for stream in (video, sound)]
    assert lasts[0] == video.frames / fps
    assert abs(lasts[1] - lasts[0]) < 1 / fps
    assert 0 <= lasts[0] - Fraction(33, 10) < 1 / fps
    assert other.report.frames == sum(1 for _ in decode_frames(other.folder / "clip.mp4"))


def test_the_lips_follow_at_any_rate_and_size(other):
    mesh, weights = other.inputs["mesh"], other.inputs["weights"]
    report = verify_clip(other.folder / "clip.mp4", mesh, lip_gap(mesh, weights), fps=other.inputs["fps"])
    assert report.passed and report.judged_by == "correlation"
    assert report.lag_frames == 0


@pytest.mark.parametrize("kept", [0, 1])
def test_a_resumed_clip_equals_an_undisturbed_one_at_any_rate_and_size(other, kept, tmp_path):
    name = f"segment-{kept:05d}.mp4"
    checkpoints = FolderCheckpoints(tmp_path / "segments")
    with checkpoints.put(name) as path:
        path.write_bytes((other.folder / "segments" / name).read_bytes())
    report = render_clip(**other.inputs, out=tmp_path / "clip.mp4", checkpoints=checkpoints)
    assert (report.resumed_segments, report.segments) == (1, 2)
    assert sha256(tmp_path / "clip.mp4") == sha256(other.folder / "clip.mp4")


def test_every_rate_that_can_be_asked_for_is_exactly_that_of_the_file(tmp_path):
    import av

    from avatar_pipeline.media.encode import encode_segment, join_segments

    grey = np.full((96, 64), 128, np.uint8)
    for rate in range(10, 61):
        paths = [tmp_path / f"{rate}-{number}.mp4" for number in range(2)]
        for path in paths:
            encode_segment(path, [grey] * 3, width=64, height=64, fps=Fraction(rate))
        join_segments(paths, tmp_path / "clip.mp4")
        with av.open(str(tmp_path / "clip.mp4")) as container:
            video = container.streams.video[0]
            assert video.average_rate == rate
            assert Fraction(video.duration) * video.time_base == Fraction(6, rate)
