from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
from avatar_pipeline.face.tracking import plan_chunks, smooth, track_video
from avatar_pipeline.face.types import Detection, LandmarkTrack
from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.media.probe import probe
from avatar_pipeline.media.types import Frame, MediaInfo
from avatar_pipeline.store.checkpoints import FolderCheckpoints
from tests.face.samples import SIDE, blank, moving_face, write_video

ARRAYS = ("pts", "found", "landmarks", "angles", "blur", "face_size")


def same(one: LandmarkTrack, other: LandmarkTrack) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in ARRAYS)


def info(seconds: float, fps: Fraction, variable: bool = False) -> MediaInfo:
    return MediaInfo("mp4", "h264", 640, 480, 0, fps, seconds, variable, 1, None)


@given(st.floats(0.5, 600), st.fractions(10, 121, max_denominator=1001), st.integers(0, 60), st.booleans())
def test_chunks_cover_all_time_once_and_lead_in_by_the_detectors_run_in(
    seconds: float, fps: Fraction, run_in: int, variable: bool
) -> None:
    chunks = plan_chunks(info(seconds, fps, variable), run_in)
    assert chunks[0].start is None and chunks[0].lead is None and chunks[-1].stop is None
    assert len({chunk.name for chunk in chunks}) == len(chunks)
    for before, after in pairwise(chunks):
        assert before.stop == after.start
        assert (after.start - after.lead) * fps >= run_in or after.lead == 0
    work = [chunk.stop - (chunk.lead or 0) for chunk in chunks[:-1]]
    assert not work or max(work) - min(work) <= Fraction(1, 500), "workers that take one chunk each end together"
    assert all(50 <= length * fps <= max(100, 8 * run_in) * 1.8 + 1 for length in work)


def test_the_graph_of_our_own_executor_gives_the_bits_of_mediapipes_own(face_video: Path) -> None:
    """MediaPipe's FaceMesh hands every frame between threads; ours runs in the caller's, and must change nothing."""
    import mediapipe

    frames = list(decode_frames(face_video, stop=Fraction(1)))
    theirs = []
    with mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True, max_num_faces=1) as mesh:
        for frame in frames:
            points = mesh.process(frame.image).multi_face_landmarks[0].landmark
            theirs.append(np.array([(point.x, point.y, point.z) for point in points], np.float32))
    ours = [detection.landmarks for detection in FaceMeshDetector().detect(iter(frames)) if detection]
    assert np.array_equal(ours, theirs)


def test_the_face_is_found_where_it_is_in_every_frame(face_track: LandmarkTrack) -> None:
    assert len(face_track) == 125 and face_track.found.all()
    assert face_track.landmarks.shape == (125, 478, 3) and face_track.landmarks.dtype == np.float32
    np.testing.assert_allclose(face_track.seconds, np.arange(125) / 25)
    t = np.arange(125) / 25
    centre = face_track.landmarks[:, :468, :2].mean(axis=1) * SIDE
    assert np.corrcoef(centre[:, 0], 10 * np.sin(1.5 * t))[0, 1] > 0.9
    assert np.corrcoef(face_track.face_size, np.sin(3 * t))[0, 1] > 0.9
    assert (face_track.blur > 0).all()
    # The picture turns counter-clockwise by 4° sin 2t: towards the subject's right shoulder.
    assert np.corrcoef(face_track.angles[:, 2], np.sin(2 * t))[0, 1] > 0.9


def test_the_track_does_not_depend_on_the_number_of_workers(
    face_video: Path, face_track: LandmarkTrack, tmp_path: Path
) -> None:
    track = track_video(face_video, probe(face_video), FaceMeshDetector(), FolderCheckpoints(tmp_path), workers=2)
    assert same(track, face_track)


def test_landmarks_across_a_chunk_border_are_those_of_an_unbroken_track(
    face_video: Path, face_track: LandmarkTrack
) -> None:
    unbroken = [detection.landmarks for detection in FaceMeshDetector().detect(decode_frames(face_video)) if detection]
    distance = np.linalg.norm((np.array(unbroken) - face_track.landmarks)[..., :2] * SIDE, axis=2)
    assert distance.mean(axis=1).max() < 0.2


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
from avatar_pipeline.face.tracking import track_video
from avatar_pipeline.media.probe import probe
from avatar_pipeline.store.checkpoints import FolderCheckpoints

class Dying(FolderCheckpoints):
    @contextmanager
    def put(self, name):
        with super().put(name) as path:
            yield path
        os.kill(os.getpid(), signal.SIGKILL)

video = Path(sys.argv[1])
track_video(video, probe(video), FaceMeshDetector(), Dying(Path(sys.argv[2])), workers=1)
"""


class Counting(FaceMeshDetector):
    """Face Mesh that counts how often it starts afresh."""

    starts = 0

    def detect(self, frames: Iterable[Frame]) -> Iterator[Detection | None]:
        self.starts += 1
        return super().detect(frames)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_run_resumes_where_it_was_and_ends_with_the_same_bytes(
    face_video: Path, face_track: LandmarkTrack, tmp_path: Path
) -> None:
    from avatar_pipeline.face.tracking import write_track

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(face_video), str(tmp_path / "chunks")],
        check=False,
        capture_output=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(list((tmp_path / "chunks").glob("*.npz"))) == 1
    detector = Counting()
    resumed = track_video(face_video, probe(face_video), detector, FolderCheckpoints(tmp_path / "chunks"))
    assert detector.starts == 1
    write_track(tmp_path / "resumed.parquet", resumed)
    write_track(tmp_path / "unbroken.parquet", face_track)
    assert (tmp_path / "resumed.parquet").read_bytes() == (tmp_path / "unbroken.parquet").read_bytes()


class Leaving(Exception):
    """Raised at a boundary."""


def test_work_that_is_stopped_at_a_boundary_begins_no_more_and_goes_on_there_to_the_same_bytes(
    face_video: Path, face_track: LandmarkTrack, tmp_path: Path
) -> None:
    video, checkpoints = probe(face_video), FolderCheckpoints(tmp_path)

    def leave(done: float, total: float) -> None:
        assert (done, total) == (1, 2)
        raise Leaving

    detector = Counting()
    with pytest.raises(Leaving):
        track_video(face_video, video, detector, checkpoints, workers=1, boundary=leave)
    assert detector.starts == 1 and len(list(tmp_path.glob("*.npz"))) == 1
    reached: list[tuple[float, float]] = []
    resumed = track_video(
        face_video, video, detector, checkpoints, workers=1, boundary=lambda *step: reached.append(step)
    )
    assert detector.starts == 2 and reached == [(2, 2)]
    assert same(resumed, face_track)


def test_a_finished_run_detects_nothing_again_and_tells_its_progress(
    face_video: Path, face_track: LandmarkTrack, tmp_path: Path
) -> None:
    told: list[tuple[str, float, float | None]] = []
    video = probe(face_video)
    for detector in (FaceMeshDetector(), again := Counting()):
        told.clear()
        track = track_video(
            face_video, video, detector, FolderCheckpoints(tmp_path), progress=lambda *step: told.append(step)
        )
    assert again.starts == 0 and same(track, face_track)
    assert told == [("landmarks", video.seconds, video.seconds)]


def test_frames_without_a_face_are_rows_of_nan(tmp_path: Path) -> None:
    path = write_video(tmp_path / "gap.mp4", chain(moving_face(25), blank(15), moving_face(15)))
    track = track_video(path, probe(path), FaceMeshDetector(), FolderCheckpoints(tmp_path / "chunks"))
    assert track.found[:25].all() and not track.found[27:40].any() and track.found[42:].all()
    for name in ("landmarks", "angles", "blur", "face_size"):
        values = getattr(track, name)
        assert np.isnan(values[~track.found]).all() and np.isfinite(values[track.found]).all()


def test_a_video_without_any_face_still_has_a_track(tmp_path: Path) -> None:
    path = write_video(tmp_path / "wall.mp4", blank(50))
    track = track_video(path, probe(path), FaceMeshDetector(), FolderCheckpoints(tmp_path / "chunks"))
    assert len(track) == 50 and not track.found.any() and np.isnan(track.angles).all()


def test_smoothing_takes_jitter_out_and_leaves_slow_motion_in_place(face_track: LandmarkTrack) -> None:
    smoothed = smooth(face_track)

    def jitter(track: LandmarkTrack) -> float:
        return float(np.abs(np.diff(track.landmarks, 2, axis=0)).mean())

    assert jitter(smoothed) < 0.75 * jitter(face_track)
    assert np.abs((smoothed.landmarks - face_track.landmarks)[..., :2]).mean() * SIDE < 0.2
    assert smoothed.blur is face_track.blur


@given(st.lists(st.booleans(), min_size=4, max_size=30))
def test_smoothing_never_reaches_across_a_gap(found: list[bool]) -> None:
    track = constant_runs(np.array(found))
    smoothed = smooth(track, sigma=2.0)
    np.testing.assert_allclose(smoothed.landmarks, track.landmarks, rtol=1e-6)
    np.testing.assert_allclose(smoothed.angles, track.angles, rtol=1e-6)


def test_smoothing_shifts_nothing_in_time() -> None:
    track = constant_runs(np.ones(21, bool))
    track.landmarks[:] = 0
    track.landmarks[10] = 1
    smoothed = smooth(track, sigma=1.5).landmarks
    np.testing.assert_allclose(smoothed, smoothed[::-1], atol=1e-7)
    assert smoothed[:, 0, 0].argmax() == 10


def constant_runs(found: np.ndarray) -> LandmarkTrack:
    """A track whose every run of found frames holds one value of its own."""
    rows = len(found)
    values = np.where(found, np.cumsum(np.diff(found, prepend=False)), np.nan).astype(np.float32)
    return LandmarkTrack(
        width=640,
        height=480,
        time_base=Fraction(1, 25),
        pts=np.arange(rows),
        found=found,
        landmarks=np.broadcast_to(values[:, None, None], (rows, 478, 3)).copy(),
        angles=np.repeat(values[:, None], 3, axis=1),
        blur=values,
        face_size=values,
        blendshapes=None,
        blendshape_names=(),
        detector="none",
    )


def test_smoothing_smooths_blendshapes_too() -> None:
    track = replace(
        constant_runs(np.ones(9, bool)), blendshapes=np.eye(9, 1, -4, np.float32), blendshape_names=("jawOpen",)
    )
    assert 0 < smooth(track).blendshapes[3, 0] < smooth(track).blendshapes[4, 0] < 1
