"""The plate: a steady stretch of the person's own footage, ready to be re-driven, with the face tracked in it.

A plate is a folder with `plate.mp4` (25 fps, a keyframe every second or less, so that any part decodes at once) and
`plate.npz` (where the face is in each of its frames). Everything that depends on the footage alone is worked out here
once, so that clips only draw.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import NotFound, StoreCorrupt
from avatar_pipeline.face.pose import HeadPoses, fit_poses, to_camera
from avatar_pipeline.face.tracking import smooth
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh.topology import MOUTH
from avatar_pipeline.mesh.types import FACE_VERTICES, AvatarMesh
from avatar_pipeline.progress import Boundary, Progress, go_on, silent
from avatar_pipeline.render.colour import BLACK, atlas_to_ycbcr, scale_i420
from avatar_pipeline.render.curves import LOWER_LIP, UPPER_LIP
from avatar_pipeline.render.loop import PLATE_FPS
from avatar_pipeline.render.mouth import MouthPhotos, choose_photos, collect_photos, cut_photo
from avatar_pipeline.render.renderer import split_planes
from avatar_pipeline.render.warp import Tracked, lip_share, moving_share, own_expression
from avatar_pipeline.render.window import Window, choose_window
from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.store.checkpoints import Checkpoints

FPS = PLATE_FPS
LONGEST_SIDE = 1920
VIDEO_NAME = "plate.mp4"
TRACK_NAME = "plate.npz"

_CHUNK = 100
_GOP = 25
_CRF = 14
_GAIN_SIGMA = 12.0
_GAIN_LIMITS = (0.4, 2.0)


@dataclass(frozen=True, slots=True)
class Plate:
    """A plate of T frames of `width` × `height` pixels, 25 a second.

    `landmarks` (T, 478, 3) float32 camera coordinates in plate pixels; `poses` against the mesh; `own` (T, 468, 3)
    float32 mm, the plate's own expression; `gain` (T,) float32 brightness of the face over that of the mesh's texture;
    `lip_gap` (T,) float32 mm between the inner lips; `photos` of the open mouth; `mesh_digest` names the mesh that all
    this was measured with.
    """

    video: Path
    width: int
    height: int
    landmarks: NDArray[np.float32]
    poses: HeadPoses
    own: NDArray[np.float32]
    gain: NDArray[np.float32]
    lip_gap: NDArray[np.float32]
    photos: MouthPhotos
    mesh_digest: str

    def __len__(self) -> int:
        return len(self.gain)

    def tracked(self, index: int) -> Tracked:
        """Return the face of one frame."""
        landmarks = self.landmarks[index, :FACE_VERTICES].astype(np.float64)
        return Tracked(landmarks, self.pose(index).unproject(landmarks[None])[0], self.own[index].astype(np.float64))

    def pose(self, index: int) -> HeadPoses:
        """Return the head pose of one frame."""
        at = slice(index, index + 1)
        return HeadPoses(self.poses.scale[at], self.poses.rotation[at], self.poses.translation[at])

    def scaled(self, width: int, height: int) -> Plate:
        """Return the plate as it is when its frames are resampled to `width` × `height`.

        The sides are even, so that one of them may be half a pixel off the other's scale: the face is given the mean.
        """
        factor = (width / self.width + height / self.height) / 2
        poses = HeadPoses(self.poses.scale * factor, self.poses.rotation, self.poses.translation * factor)
        landmarks = self.landmarks * np.float32(factor)
        return replace(self, width=width, height=height, landmarks=landmarks, poses=poses)


def mesh_digest(mesh: AvatarMesh) -> str:
    """Return a SHA-256 that names the mesh's shape and motion."""
    digest = hashlib.sha256()
    for array in (mesh.vertices, mesh.morphs, mesh.uv):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def plate_size(width: int, height: int, *, longest: int = LONGEST_SIDE) -> tuple[int, int]:
    """Return the even size of a plate from footage of `width` × `height`: never larger, long side ≤ `longest`."""
    factor = min(1.0, longest / max(width, height))
    return max(2, round(width * factor) // 2 * 2), max(2, round(height * factor) // 2 * 2)


def build_plate(
    video: Path,
    track: LandmarkTrack,
    mesh: AvatarMesh,
    folder: Path,
    *,
    checkpoints: Checkpoints,
    progress: Progress = silent,
    boundary: Boundary = go_on,
) -> Plate:
    """Make the plate of a tracked video in `folder` (which exists) and return it.

    The footage is resampled to 25 fps by the nearest presentation time, and reduced to 1920 px where it is larger.
    Chunks of 4 s are checkpoints, and `boundary` is called after each; memory does not grow with the length of the
    video.

    Raises:
        FaceNotUsable: no second of the video shows the face all the time.
        InvalidMedia: the video cannot be decoded.
    """
    from avatar_pipeline.media.encode import join_segments

    window = choose_window(track)
    sources = resample(track.seconds, window)
    size = plate_size(track.width, track.height)
    chunks = [sources[start : start + _CHUNK] for start in range(0, len(sources), _CHUNK)]
    paths = []
    for number, chunk in enumerate(chunks):
        progress("plate", number, len(chunks) + 1)
        name = f"plate-{number:05d}.mp4"
        paths.append(_encode_chunk(video, track, chunk, size, name=name, checkpoints=checkpoints))
        boundary(number + 1, len(chunks))
    target = folder / VIDEO_NAME
    with atomic_file(target) as temporary:
        join_segments(paths, temporary)
    progress("plate", len(chunks), len(chunks) + 1)
    plate = _measure(target, _steadied(track, mesh)[sources], mesh, size)
    _write_track(folder / TRACK_NAME, plate)
    progress("plate", len(chunks) + 1, len(chunks) + 1)
    return plate


def resample(seconds: NDArray[np.float64], window: Window) -> NDArray[np.int64]:
    """Return the source frame nearest to each tick of a 25 fps clock that starts with the window's first frame."""
    start, stop = seconds[window.first], seconds[window.last]
    ticks = start + np.arange(int(np.floor((stop - start) * float(FPS) + 1e-6)) + 1) / float(FPS)
    after = np.clip(np.searchsorted(seconds, ticks), 1, len(seconds) - 1) if len(seconds) > 1 else np.zeros(1, np.int64)
    before = np.maximum(after - 1, 0)
    nearest = np.where(ticks - seconds[before] <= seconds[after] - ticks, before, after)
    return np.clip(nearest, window.first, window.last).astype(np.int64)


def _encode_chunk(
    video: Path,
    track: LandmarkTrack,
    sources: NDArray[np.int64],
    size: tuple[int, int],
    *,
    name: str,
    checkpoints: Checkpoints,
) -> Path:
    """Encode the frames `sources` of the footage as checkpoint `name`, or find it made."""
    from avatar_pipeline.media.encode import encode_segment

    if (done := checkpoints.get(name)) is not None:
        return done
    with checkpoints.put(name) as path:
        frames = _pick_frames(video, track, sources, size)
        encode_segment(path, frames, width=size[0], height=size[1], fps=FPS, crf=_CRF, gop=_GOP)
    made = checkpoints.get(name)
    if made is None:
        raise StoreCorrupt(f"Checkpoint {name} is gone as soon as it was made.", remedy="Start the work again.")
    return made


def _pick_frames(
    video: Path, track: LandmarkTrack, sources: NDArray[np.int64], size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    from avatar_pipeline.media.decode import decode_frames

    start = int(track.pts[sources[0]]) * track.time_base
    stop = (int(track.pts[sources[-1]]) * 2 + 1) * track.time_base / 2
    index_of = {int(pts): index for index, pts in enumerate(track.pts)}
    wanted = iter(sources.tolist())
    awaited = next(wanted, None)
    for frame in decode_frames(video, start=start, stop=stop, pixel_format="yuv420p"):
        index = index_of.get(frame.pts, -1)
        picture = None
        while awaited is not None and index == awaited:
            picture = scale_i420(frame.image, size) if picture is None else picture
            yield picture
            awaited = next(wanted, None)
    if awaited is not None:
        raise StoreCorrupt(
            f"{video.name}: frame {awaited} of its landmark track is not in the video.",
            remedy="Track the landmarks of this very file again.",
        )


def _steadied(track: LandmarkTrack, mesh: AvatarMesh) -> NDArray[np.float32]:
    """Return the landmarks (T, 478, 3) without jitter; those of the lips as tracked.

    Lips move so fast that smoothing them over time takes their edge off the picture's, by millimetres.
    """
    share = np.zeros((track.landmarks.shape[1], 1), np.float32)
    share[:FACE_VERTICES, 0] = lip_share(mesh.vertices)
    steady = smooth(track).landmarks
    steadied: NDArray[np.float32] = steady + share * (track.landmarks - steady)
    return steadied


def _measure(video: Path, landmarks: NDArray[np.float32], mesh: AvatarMesh, size: tuple[int, int]) -> Plate:
    """Work out where the face is in the finished plate, how bright, and what its open mouth looks like.

    `landmarks` (T, 478, 3) are those of the plate's frames, in image widths and heights.
    """
    camera = to_camera(landmarks, size[0], size[1]).astype(np.float32)
    poses = fit_poses(camera, mesh.vertices[:FACE_VERTICES])
    shape = poses.unproject(camera[:, :FACE_VERTICES])
    gap = np.maximum(shape[:, UPPER_LIP, 1] - shape[:, LOWER_LIP, 1], 0.0)
    corners = [MOUTH[0], MOUTH[len(MOUTH) // 2]]
    width, rest_width = (
        np.linalg.norm(np.diff(face[..., corners, :], axis=-2), axis=-1)[..., 0] for face in (shape, mesh.vertices)
    )
    chosen = choose_photos(gap, width, poses.angles[:, 0], float(rest_width))
    gain, photos = _look(video, camera, mesh, gap, chosen)
    return Plate(
        video=video,
        width=size[0],
        height=size[1],
        landmarks=camera,
        poses=poses,
        own=own_expression(mesh, shape),
        gain=gain,
        lip_gap=gap.astype(np.float32),
        photos=photos,
        mesh_digest=mesh_digest(mesh),
    )


def _look(
    video: Path, camera: NDArray[np.float32], mesh: AvatarMesh, gap: NDArray[np.float64], chosen: NDArray[np.int32]
) -> tuple[NDArray[np.float32], MouthPhotos]:
    """Return how bright the skin around the mouth is in each frame (T,), over the atlas, and photos of the mouth."""
    from scipy.ndimage import gaussian_filter1d

    from avatar_pipeline.media.decode import decode_frames

    around = np.flatnonzero((moving_share(mesh.vertices) > 0.9) & (lip_share(mesh.vertices) < 0.9))
    size = mesh.texture.shape[0]
    texel = np.clip((mesh.uv[around] * size).astype(int), 0, size - 1)
    reference = atlas_to_ycbcr(mesh.texture)[texel[:, 1], texel[:, 0], 0].astype(np.float64)
    ratios = np.ones(len(camera))
    cuts = {}
    for index, frame in enumerate(decode_frames(video, pixel_format="yuv420p")):
        planes = split_planes(frame.image)
        x = np.clip(camera[index, around, 0].astype(int), 0, planes[0].shape[1] - 1)
        y = np.clip(-camera[index, around, 1].astype(int), 0, planes[0].shape[0] - 1)
        ratios[index] = np.median((planes[0][y, x] - BLACK) / np.maximum(reference - BLACK, 1.0))
        if index in chosen:
            cuts[index] = cut_photo(planes, camera[index, list(MOUTH), :2].astype(np.float64) * [1.0, -1.0])
    gain = gaussian_filter1d(np.clip(ratios, *_GAIN_LIMITS), _GAIN_SIGMA, mode="nearest").astype(np.float32)
    return gain, collect_photos(cuts, gap, gain)


def _write_track(path: Path, plate: Plate) -> None:
    arrays: dict[str, Any] = {
        "size": np.array([plate.width, plate.height], np.int32),
        "landmarks": plate.landmarks,
        "scale": plate.poses.scale,
        "rotation": plate.poses.rotation,
        "translation": plate.poses.translation,
        "own": plate.own,
        "gain": plate.gain,
        "lip_gap": plate.lip_gap,
        "photo_frames": plate.photos.frames,
        "photo_gaps": plate.photos.gaps,
        "photo_loops": plate.photos.loops,
        "photo_pictures": plate.photos.pictures,
        "mesh_digest": np.array(plate.mesh_digest),
    }
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_plate(folder: Path) -> Plate:
    """Read the plate in `folder`.

    Raises:
        NotFound: there is none.
        StoreCorrupt: its files are damaged or incomplete.
    """
    video, path = folder / VIDEO_NAME, folder / TRACK_NAME
    for file in (video, path):
        if not file.is_file():
            raise NotFound(f"There is no plate in {folder}: {file.name} is missing.", remedy="Build the plate first.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            width, height = (int(side) for side in arrays["size"])
            return Plate(
                video=video,
                width=width,
                height=height,
                landmarks=arrays["landmarks"],
                poses=HeadPoses(arrays["scale"], arrays["rotation"], arrays["translation"]),
                own=arrays["own"],
                gain=arrays["gain"],
                lip_gap=arrays["lip_gap"],
                photos=MouthPhotos(
                    frames=arrays["photo_frames"],
                    gaps=arrays["photo_gaps"],
                    loops=arrays["photo_loops"],
                    pictures=arrays["photo_pictures"],
                ),
                mesh_digest=str(arrays["mesh_digest"]),
            )
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise StoreCorrupt(f"{path}: not a plate's track ({error}).", remedy="Build the plate again.") from error
