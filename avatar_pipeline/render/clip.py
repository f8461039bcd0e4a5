"""Talking clips: the plate re-driven by morph weights, in segments that survive a killed machine."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import InvalidInput, StoreCorrupt
from avatar_pipeline.media.background import in_background
from avatar_pipeline.media.types import Audio
from avatar_pipeline.mesh.types import AvatarMesh
from avatar_pipeline.progress import Boundary, Progress, go_on, silent
from avatar_pipeline.render.colour import scale_i420
from avatar_pipeline.render.loop import plate_indices
from avatar_pipeline.render.plate import FPS, Plate, mesh_digest
from avatar_pipeline.render.renderer import Compositor
from avatar_pipeline.render.warp import Warp, crop_boxes, moving_share
from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.store.checkpoints import Checkpoints

SEGMENT_SECONDS = 2
"""What a segment lasts: the most that a killed machine loses, and one group of pictures."""
SMALLEST_SIDE = 64

_QUEUED_FRAMES = 6


@dataclass(frozen=True, slots=True)
class ClipReport:
    """What was rendered. `realtime_factor` is seconds of new video per second of work, 0 where none was new."""

    frames: int
    seconds: float
    fps: Fraction
    width: int
    height: int
    renderer: str
    segments: int
    resumed_segments: int
    realtime_factor: float


def clip_frames(audio: Audio, fps: Fraction = FPS) -> int:
    """Return how many frames a clip needs to last as long as its sound."""
    return -(-len(audio.samples) * fps.numerator // (audio.rate * fps.denominator))


def segment_frames(fps: Fraction = FPS) -> int:
    """Return how many frames a segment has."""
    return max(1, round(SEGMENT_SECONDS * fps))


def clip_side(width: int, height: int, short_side: int | None) -> int | None:
    """Return the short side, even and not over `short_side`, of clips from a plate; None for the plate's own size.

    A picture is never enlarged: what is as large as the plate, or larger, is the plate's own size.

    Raises:
        InvalidInput: it is under 64 px.
    """
    if short_side is None or short_side >= min(width, height):
        return None
    if short_side < SMALLEST_SIDE:
        raise InvalidInput(
            f"A short side of {short_side} px was asked for; {SMALLEST_SIDE} is the least.", remedy="Ask for more."
        )
    return short_side // 2 * 2


def render_clip(
    *,
    mesh: AvatarMesh,
    plate: Plate,
    weights: NDArray[np.float32],
    audio: Audio,
    out: Path,
    checkpoints: Checkpoints,
    fps: Fraction = FPS,
    short_side: int | None = None,
    offset: int = 0,
    progress: Progress = silent,
    boundary: Boundary = go_on,
    metadata: Mapping[str, str] | None = None,
) -> ClipReport:
    """Render the clip in which the person's footage says `audio`, to `out` (MP4: H.264 and AAC).

    Segments of two seconds are checkpoints, each a function of the inputs alone: a resumed clip equals an undisturbed
    one to the byte. Nothing is drawn, and no OpenGL needed, where all segments are there.

    Args:
        mesh: the mesh that the plate was built with.
        plate: the person's footage.
        weights: (T, K) over `mesh.morph_names`, one row a frame; T as `clip_frames` says (one more or less is let
            pass: durations are rounded in more than one place).
        audio: the sound, muxed once, as long as the clip.
        out: the file, put in place when whole.
        checkpoints: where finished segments are kept.
        fps: frames a second, of the mouth and of the file; the plate is shown by the time, see `plate_indices`.
        short_side: reduce the picture to this short side, in pixels, see `clip_side`; None keeps the plate's size.
        offset: plate frame that the clip begins with, so that clips need not all begin alike.
        progress: told after every segment.
        boundary: called after every segment that was rendered.
        metadata: text for the container, such as the provenance.

    Raises:
        InvalidInput: the inputs do not fit each other.
        EnvironmentProblem: there is no OpenGL.
        StoreCorrupt: the plate or a segment is damaged.
    """
    from avatar_pipeline.media.encode import join_segments

    weights = _checked(mesh, plate, weights, audio, fps)
    size = _output_size(plate, short_side)
    job = _Job(mesh, plate.scaled(*size), weights, fps, offset)
    count = -(-len(weights) // segment_frames(fps))
    names = [f"segment-{number:05d}.mp4" for number in range(count)]
    missing = [number for number in range(count) if checkpoints.get(names[number]) is None]
    began = time.monotonic()
    steps = _Steps(progress, boundary, found=count - len(missing))
    renderer = _render_segments(job, missing, names=names, checkpoints=checkpoints, steps=steps) if missing else "none"
    paths = [_finished(checkpoints, name) for name in names]
    with atomic_file(out) as temporary:
        join_segments(paths, temporary, audio=audio, metadata=dict(metadata or {}))
    progress("clip", count, count)
    rendered = sum(len(job.frames(number)) for number in missing)
    return ClipReport(
        frames=len(weights),
        seconds=float(len(weights) / fps),
        fps=fps,
        width=size[0],
        height=size[1],
        renderer=renderer,
        segments=count,
        resumed_segments=count - len(missing),
        realtime_factor=float(rendered / fps) / max(time.monotonic() - began, 1e-9),
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """All that the frames of one clip depend on; `plate` is at the clip's size."""

    mesh: AvatarMesh
    plate: Plate
    weights: NDArray[np.float32]
    fps: Fraction
    offset: int

    def frames(self, segment: int) -> range:
        """Return the clip frames of a segment."""
        length = segment_frames(self.fps)
        return range(segment * length, min((segment + 1) * length, len(self.weights)))


@dataclass(frozen=True, slots=True)
class _Steps:
    """Whom to tell before and after each segment; `found` segments were there already."""

    before: Progress
    after: Boundary
    found: int


def _render_segments(
    job: _Job, missing: list[int], *, names: list[str], checkpoints: Checkpoints, steps: _Steps
) -> str:
    """Draw and encode the missing segments; return the renderer's name. Drawing runs in a thread of its own."""
    from avatar_pipeline.media.encode import encode_segment

    used: list[str] = []
    pictures = in_background(_draw(job, missing, used), depth=_QUEUED_FRAMES, name="draw")
    with closing(pictures):
        for made, number in enumerate(missing, start=1):
            steps.before("clip", number, len(names))
            with checkpoints.put(names[number]) as path:
                encode_segment(
                    path,
                    islice(pictures, len(job.frames(number))),
                    width=job.plate.width,
                    height=job.plate.height,
                    fps=job.fps,
                )
            steps.after(steps.found + made, len(names))
    return used[0]


def _draw(job: _Job, segments: list[int], used: list[str]) -> Generator[NDArray[np.uint8], None, None]:
    """Yield the pictures of `segments` in order; puts the renderer's name in `used`."""
    plate = job.plate
    warp = Warp(job.mesh, plate.photos)
    corners, crop = _crops(job)
    with Compositor(crop=crop, triangles=warp.triangles, vertices=warp.vertices, atlas=warp.atlas) as compositor:
        used.append(compositor.name)
        for segment in segments:
            frames = job.frames(segment)
            indices = plate_indices(frames.start, frames.stop, len(plate), offset=job.offset, fps=job.fps)
            for number, index, picture in _plate_pictures(plate, frames, indices):
                corner = (int(corners[index, 0]), int(corners[index, 1]))
                scene = warp.scene(
                    plate.tracked(index),
                    plate.pose(index),
                    np.tensordot(job.weights[number].astype(np.float64), job.mesh.morphs, axes=1),
                    corner=corner,
                    gain=float(plate.gain[index]),
                )
                yield compositor.draw(picture, corner, scene)


def _crops(job: _Job) -> tuple[NDArray[np.int64], tuple[int, int]]:
    plate = job.plate
    landmarks = plate.landmarks[:, :468].astype(np.float64)
    resting = plate.poses.project(job.mesh.vertices[:468])
    return crop_boxes(landmarks, resting, moving_share(job.mesh.vertices), (plate.width, plate.height))


def _plate_pictures(
    plate: Plate, frames: range, indices: NDArray[np.int64]
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Yield (clip frame, plate frame, I420 picture) in the clip's order; the plate is decoded forwards, once.

    Only the frames that are shown are kept, at the clip's size.
    """
    from avatar_pipeline.media.decode import decode_frames

    size = (plate.width, plate.height)
    shown = set(indices.tolist())
    low, high = min(shown), max(shown)
    decoded = decode_frames(plate.video, start=low / FPS, stop=(high + 1) / FPS, pixel_format="yuv420p")
    pictures = {
        index: scale_i420(frame.image, size) for index, frame in enumerate(decoded, start=low) if index in shown
    }
    if len(pictures) != len(shown):
        raise StoreCorrupt(
            f"{plate.video}: holds {len(pictures)} of {len(shown)} frames from {low} to {high}.",
            remedy="Build the plate again.",
        )
    for number, index in zip(frames, indices.tolist(), strict=True):
        yield number, index, pictures[index]


def _checked(
    mesh: AvatarMesh, plate: Plate, weights: NDArray[np.float32], audio: Audio, fps: Fraction
) -> NDArray[np.float32]:
    """Return the weights with exactly one row a frame."""
    if fps <= 0:
        raise InvalidInput(f"A clip of {fps} frames a second was asked for.", remedy=f"Ask for {FPS}, as plates have.")
    if mesh_digest(mesh) != plate.mesh_digest:
        raise InvalidInput("The plate was built with another mesh.", remedy="Build the plate again with this mesh.")
    frames = clip_frames(audio, fps)
    if frames < 1:
        raise InvalidInput("The audio holds no sample.", remedy="Give the sound that the clip is to speak.")
    if weights.ndim != 2 or weights.shape[1] != len(mesh.morph_names) or abs(len(weights) - frames) > 1:
        raise InvalidInput(
            f"Weights have shape {weights.shape}; ({frames}, {len(mesh.morph_names)}) fits the audio and the mesh.",
            remedy="Make the weights from the curves of this very audio, over this mesh.",
        )
    if not np.isfinite(weights).all():
        raise InvalidInput("Weights hold values that are no numbers.", remedy="Make the weights again.")
    fitted: NDArray[np.float32] = weights[np.minimum(np.arange(frames), len(weights) - 1)]
    return fitted


def _output_size(plate: Plate, short_side: int | None) -> tuple[int, int]:
    side = clip_side(plate.width, plate.height, short_side)
    if side is None:
        return plate.width, plate.height
    factor = side / min(plate.width, plate.height)
    return round(plate.width * factor / 2) * 2, round(plate.height * factor / 2) * 2


def _finished(checkpoints: Checkpoints, name: str) -> Path:
    path = checkpoints.get(name)
    if path is None:
        raise StoreCorrupt(f"Segment {name} is gone as soon as it was made.", remedy="Start the clip again.")
    return path
