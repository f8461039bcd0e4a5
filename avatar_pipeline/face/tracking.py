"""Landmarks of a whole video: in chunks that are checkpointed, run side by side, and do not depend on each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.face.measure import face_box, sharpness
from avatar_pipeline.face.pose import fit_poses, robust_neutral, to_camera
from avatar_pipeline.face.track_file import read_track, write_track
from avatar_pipeline.face.types import LANDMARKS, LandmarkTrack
from avatar_pipeline.progress import Boundary, Progress, go_on, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.face.types import Detection, LandmarkDetector
    from avatar_pipeline.media.types import Frame, MediaInfo
    from avatar_pipeline.store.checkpoints import Checkpoints

__all__ = ["Chunk", "plan_chunks", "read_track", "smooth", "track_video", "write_track"]

_CHUNK_FRAMES = 100
_CHUNK_RUN_INS = 8
"""A chunk is at least this many run-ins long, so that running in costs an eighth at most."""
_POSE_FRAMES = 1000
_NEUTRAL_FRAMES = 100
"""Frames that the neutral for head angles is made of: its front is that of a median, and more do not move it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of the video: the frames with `start` <= time < `stop`, decoding from `lead` on (seconds).

    None means from the first, and to the last frame.
    """

    name: str
    lead: Fraction | None
    start: Fraction | None
    stop: Fraction | None


def track_video(
    path: Path,
    info: MediaInfo,
    detector: LandmarkDetector,
    checkpoints: Checkpoints,
    *,
    progress: Progress = silent,
    workers: int = 2,
    boundary: Boundary = go_on,
) -> LandmarkTrack:
    """Find the face in every frame of a video.

    Every chunk is a pure function of the video and the detector, kept as a checkpoint when done: a run that was killed
    goes on where it was, and the result is byte for byte that of an undisturbed run, with any number of `workers`
    (threads: decoding and detection both leave Python's global lock). `boundary` is called after each chunk; if it
    raises, every worker finishes the chunk in hand first.

    Head angles are of the pose against the person's own neutral (`pose.robust_neutral`), which is frontalised by the
    face's symmetry: zero is looking straight into the camera, not the person's habit.

    Raises:
        InvalidMedia: the video cannot be decoded, or holds no frame.
        EnvironmentProblem: the detector cannot run here.
    """
    chunks = plan_chunks(info, detector.run_in)
    todo = [chunk for chunk in chunks if checkpoints.get(chunk.name) is None]
    finished = len(chunks) - len(todo)
    progress("landmarks", info.seconds * finished / len(chunks), info.seconds)
    workers = max(1, workers)
    waiting, running = iter(todo), set[Future[None]]()
    with ThreadPoolExecutor(workers, thread_name_prefix="landmarks") as pool:
        while True:
            # No more than one each: none is begun before the boundary after another has said that we may go on.
            for chunk in islice(waiting, workers - len(running)):
                running.add(pool.submit(_track_chunk, path, info, detector, chunk, checkpoints))
            if not running:
                break
            over, running = wait(running, return_when=FIRST_COMPLETED)
            for job in over:
                job.result()
                finished += 1
                progress("landmarks", info.seconds * finished / len(chunks), info.seconds)
                boundary(finished, len(chunks))
    track = _join([_finished(checkpoints, chunk) for chunk in chunks], path, info, detector)
    _fill_angles(track)
    return track


def plan_chunks(info: MediaInfo, run_in: int) -> list[Chunk]:
    """Cut a video of `info` into chunks, by time and by nothing else, for a detector that needs `run_in` frames.

    A chunk is about 100 frames, or 8 run-ins where that is more. Their number is even where there is more than one, and
    they are equally long with their run-in (the first has none), so that two workers end together; boundaries lie on
    whole milliseconds. `lead` is `run_in` frames before `start`, twice that where the frame rate varies. The last chunk
    is open, as containers lie about their length.
    """
    length = max(_CHUNK_FRAMES, _CHUNK_RUN_INS * run_in)
    frames = info.seconds * float(info.fps)
    count = 1 if frames < length else 2 * max(1, round(frames / length / 2))
    lead = run_in / info.fps * (2 if info.variable_frame_rate else 1)
    step = Fraction(round((info.seconds - float(lead)) * 1000 / count), 1000)
    edges = [Fraction(0), *(Fraction(round(lead * 1000), 1000) + step * index for index in range(1, count))]
    return [
        Chunk(
            name=f"landmarks-{index:04d}-of-{count:04d}.npz",
            lead=max(Fraction(0), edges[index] - lead) if index else None,
            start=edges[index] if index else None,
            stop=edges[index + 1] if index + 1 < count else None,
        )
        for index in range(count)
    ]


def smooth(track: LandmarkTrack, sigma: float = 0.6) -> LandmarkTrack:
    """Take the jitter out of a track: a Gaussian of `sigma` frames along time, which shifts nothing in time.

    Landmarks, angles and blendshapes are smoothed within each run of frames that have a face, never across a gap; at
    the ends of a run the last value is repeated. `sigma` 0.6 lowers Face Mesh's jitter to that of a steady composite
    and leaves blinks and lip closures in place.
    """
    from scipy.ndimage import gaussian_filter1d

    def along_time(values: NDArray[np.float32]) -> NDArray[np.float32]:
        out = values.copy()
        for run in _runs(track.found):
            out[run] = gaussian_filter1d(values[run], sigma, axis=0, mode="nearest")
        return out

    return replace(
        track,
        landmarks=along_time(track.landmarks),
        angles=along_time(track.angles),
        blendshapes=None if track.blendshapes is None else along_time(track.blendshapes),
    )


def _runs(found: NDArray[np.bool_]) -> Iterator[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], found, [False]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield slice(int(start), int(stop))


def _track_chunk(
    path: Path, info: MediaInfo, detector: LandmarkDetector, chunk: Chunk, checkpoints: Checkpoints
) -> None:
    rows = _Rows(len(detector.blendshape_names))
    pending: deque[Frame] = deque()

    def remembered(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            pending.append(frame)
            yield frame

    with closing(_rgb_frames(path, info, chunk)) as frames:
        for detection in detector.detect(remembered(frames)):
            frame = pending.popleft()
            if chunk.start is None or frame.time >= chunk.start:
                rows.add(frame, detection)
    with checkpoints.put(chunk.name) as temporary, temporary.open("wb") as file:
        np.savez(file, **rows.arrays())


def _rgb_frames(path: Path, info: MediaInfo, chunk: Chunk) -> Generator[Frame]:
    """Return a chunk's frames for a detector, as cheap as they come.

    Colours that are a shade off at the edges move landmarks by less than their jitter.
    """
    from avatar_pipeline.media.decode import decode_frames

    return decode_frames(path, start=chunk.lead, stop=chunk.stop, prefetch=0, exact_colour=False, threads=1)


class _Rows:
    """What is known of the frames of one chunk, growing frame by frame."""

    def __init__(self, scores: int) -> None:
        self.scores = scores
        self.time_base = Fraction(0)
        self.pts: list[int] = []
        self.found: list[bool] = []
        self.landmarks: list[NDArray[np.float32]] = []
        self.blur: list[float] = []
        self.face_size: list[float] = []
        self.blendshapes: list[NDArray[np.float32]] = []

    def add(self, frame: Frame, detection: Detection | None) -> None:
        self.time_base = frame.time_base
        self.pts.append(frame.pts)
        self.found.append(detection is not None)
        blendshapes = np.full(self.scores, np.nan, np.float32)
        if detection is None:
            self.landmarks.append(np.full((LANDMARKS, 3), np.nan, np.float32))
            self.blur.append(np.nan)
            self.face_size.append(np.nan)
        else:
            box = face_box(detection.landmarks)
            self.landmarks.append(detection.landmarks)
            self.blur.append(sharpness(frame.image, box))
            self.face_size.append(box.bottom - box.top)
            if detection.blendshapes is not None:
                blendshapes = detection.blendshapes
        self.blendshapes.append(blendshapes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        count = len(self.pts)
        return {
            "time_base": np.array(self.time_base.as_integer_ratio(), np.int64),
            "pts": np.array(self.pts, np.int64),
            "found": np.array(self.found, np.bool_),
            "landmarks": np.array(self.landmarks, np.float32).reshape(count, LANDMARKS, 3),
            "blur": np.array(self.blur, np.float32),
            "face_size": np.array(self.face_size, np.float32),
            "blendshapes": np.array(self.blendshapes, np.float32).reshape(count, self.scores),
        }


def _finished(checkpoints: Checkpoints, chunk: Chunk) -> Path:
    path = checkpoints.get(chunk.name)
    if path is None:
        raise FileNotFoundError(f"checkpoint {chunk.name} was put in place and is gone")
    return path


def _join(files: Sequence[Path], path: Path, info: MediaInfo, detector: LandmarkDetector) -> LandmarkTrack:
    """Put chunks one after the other, holding one chunk in memory besides the track."""
    counts = [_load(file, "pts").size for file in files]
    bases = [_load(file, "time_base") for file, count in zip(files, counts, strict=True) if count]
    if not bases:
        raise InvalidMedia(f"{path.name}: holds no frame.", remedy="Check that it plays, then upload it again.")
    rows, scores = sum(counts), len(detector.blendshape_names)
    arrays: Mapping[str, NDArray[Any]] = {
        "pts": np.empty(rows, np.int64),
        "found": np.empty(rows, np.bool_),
        "landmarks": np.empty((rows, LANDMARKS, 3), np.float32),
        "blur": np.empty(rows, np.float32),
        "face_size": np.empty(rows, np.float32),
        "blendshapes": np.empty((rows, scores), np.float32),
    }
    start = 0
    for file, count in zip(files, counts, strict=True):
        for name, values in arrays.items():
            values[start : start + count] = _load(file, name)
        start += count
    return LandmarkTrack(
        width=info.width,
        height=info.height,
        time_base=Fraction(int(bases[0][0]), int(bases[0][1])),
        pts=arrays["pts"],
        found=arrays["found"],
        landmarks=arrays["landmarks"],
        angles=np.full((rows, 3), np.nan, np.float32),
        blur=arrays["blur"],
        face_size=arrays["face_size"],
        blendshapes=arrays["blendshapes"] if scores else None,
        blendshape_names=detector.blendshape_names,
        detector=f"{detector.name} {detector.version}",
    )


def _load(file: Path, name: str) -> NDArray[Any]:
    with np.load(file, allow_pickle=False) as arrays:
        loaded: NDArray[Any] = arrays[name]
    return loaded


def _fill_angles(track: LandmarkTrack) -> None:
    """Set the head's angles, a thousand frames at a time: poses take a track's memory in double precision."""
    found = np.flatnonzero(track.found)
    if not len(found):
        return
    chosen = found[np.unique(np.linspace(0, len(found) - 1, min(len(found), _NEUTRAL_FRAMES)).round().astype(int))]
    neutral, _ = robust_neutral(to_camera(track.landmarks[chosen], track.width, track.height))
    for start in range(0, len(track), _POSE_FRAMES):
        rows = slice(start, start + _POSE_FRAMES)
        track.angles[rows] = fit_poses(to_camera(track.landmarks[rows], track.width, track.height), neutral).angles
