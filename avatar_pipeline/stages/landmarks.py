"""landmarks: the face in every frame of the source video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avatar_pipeline.preview.images import contact_sheet, draw_landmarks, frames_at, jpeg
from avatar_pipeline.stages.intake import upload_of
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Artifact, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

if TYPE_CHECKING:
    from avatar_pipeline.face.types import LandmarkDetector, LandmarkTrack
    from avatar_pipeline.settings import Settings

CODE_VERSION = "1"


def configured_detector(settings: Settings) -> LandmarkDetector:
    """Return the detector that the settings name: the `.task` bundle where there is one, else the wheel's face mesh.

    Raises:
        EnvironmentProblem: the bundle is absent or has another hash.
    """
    if settings.face_landmarker_model is not None:
        from avatar_pipeline.face.mediapipe_tasks import FaceLandmarkerDetector

        return FaceLandmarkerDetector(settings.face_landmarker_model, settings.face_landmarker_sha256)
    from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector

    return FaceMeshDetector()


def make_landmarks(line: Line, avatar_id: str) -> StageResult:
    """Track the face through the source video, in checkpointed chunks, and judge whether it will do.

    Raises:
        FaceNotUsable: no face, several people, too small, too short; nothing is published.
        Preempted: the machine is taken away; the finished chunks are kept.
    """
    import numpy as np

    from avatar_pipeline.face.people import count_faces
    from avatar_pipeline.face.quality import require_one_person, require_usable
    from avatar_pipeline.face.track_file import write_track
    from avatar_pipeline.face.tracking import track_video
    from avatar_pipeline.media.probe import probe

    avatar = line.ledger.avatar(avatar_id)
    source = line.store.require_current(Slot.avatar(avatar_id, "source_video"))
    _, video = upload_of(line, avatar)
    detector = configured_detector(line.settings)

    def make(draft: Draft, checkpoints: Checkpoints) -> None:
        info = probe(video, line.settings.limits)
        people = count_faces(video, info)
        require_one_person(people, avatar.source_name)
        track = track_video(
            video,
            info,
            detector,
            checkpoints,
            progress=line.progress,
            workers=line.settings.workers,
            boundary=line.guard.boundary,
        )
        advice = require_usable(track, avatar.source_name, people)
        write_track(draft.folder / "landmarks.parquet", track)
        shown = np.flatnonzero(track.found)
        picked = shown[np.linspace(0, len(shown) - 1, 8).round().astype(int)]
        images = frames_at(video, [float(track.seconds[frame]) for frame in picked])
        overlays = [draw_landmarks(image, track.landmarks[f]) for image, f in zip(images, picked, strict=True)]
        (draft.folder / "preview.jpg").write_bytes(jpeg(contact_sheet(overlays)))
        draft.facts |= _facts(track) | {"advice": advice, "detector": track.detector}

    recipe = Recipe(
        Slot.avatar(avatar_id, "landmarks"), CODE_VERSION, {"source": source.key}, {"detector": detector.version}
    )
    return produce(line, recipe, make)


def read_landmarks(line: Line, avatar_id: str) -> tuple[Artifact, LandmarkTrack]:
    """Return an avatar's current landmarks artifact and the track in it."""
    from avatar_pipeline.face.track_file import read_track

    artifact = line.store.require_current(Slot.avatar(avatar_id, "landmarks"))
    return artifact, read_track(line.store.local(artifact, "landmarks.parquet"))


def _facts(track: LandmarkTrack) -> dict[str, Any]:
    import numpy as np

    yaw = track.angles[track.found, 0]
    return {
        "frames": len(track),
        "found_share": round(float(track.found.mean()), 4),
        "yaw_min": round(float(yaw.min()), 1),
        "yaw_max": round(float(yaw.max()), 1),
        "face_size": round(float(np.median(track.face_size[track.found])), 3),
        "blendshapes": len(track.blendshape_names),
    }
