"""mesh and plate: the person's head as a 3D model, and the footage that talking clips re-drive."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from avatar_pipeline.preview.images import contact_sheet, frames_at, jpeg, spread
from avatar_pipeline.stages.intake import upload_of
from avatar_pipeline.stages.landmarks import read_landmarks
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Artifact, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

if TYPE_CHECKING:
    from avatar_pipeline.mesh.types import AvatarMesh
    from avatar_pipeline.render.plate import Plate

MESH_VERSION = "1"
PLATE_VERSION = "1"


def make_mesh(line: Line, avatar_id: str) -> StageResult:
    """Build the person's textured mesh with its morph targets from the track, and write it as GLB."""
    from avatar_pipeline.face.tracking import smooth
    from avatar_pipeline.mesh.build import build_mesh
    from avatar_pipeline.mesh.glb import glb_bytes
    from avatar_pipeline.mesh.io import write_mesh
    from avatar_pipeline.render.views import morph_sheet

    landmarks, track = read_landmarks(line, avatar_id)
    _, video = upload_of(line, line.ledger.avatar(avatar_id))

    def make(draft: Draft, _: Checkpoints) -> None:
        mesh, report = build_mesh(smooth(track), video, progress=line.progress)
        write_mesh(draft.folder / "mesh.npz", mesh)
        (draft.folder / "avatar.glb").write_bytes(glb_bytes(mesh))
        (draft.folder / "preview.jpg").write_bytes(jpeg(morph_sheet(mesh)))
        draft.facts |= {
            name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(report).items()
        }
        draft.facts["sane"] = report.sane

    recipe = Recipe(Slot.avatar(avatar_id, "mesh"), MESH_VERSION, {"landmarks": landmarks.key}, {})
    return produce(line, recipe, make)


def read_mesh_in(line: Line, artifact: Artifact) -> AvatarMesh:
    """Return the mesh in an artifact."""
    from avatar_pipeline.mesh.io import read_mesh

    return read_mesh(line.store.local(artifact, "mesh.npz"))


def make_plate(line: Line, avatar_id: str) -> StageResult:
    """Choose the steadiest stretch of the footage and prepare it for re-driving: 25 fps, cheap to seek, tracked.

    Raises:
        Preempted: the machine is taken away; the finished chunks are kept.
    """
    from avatar_pipeline.render.plate import build_plate

    mesh_artifact = line.store.require_current(Slot.avatar(avatar_id, "mesh"))
    mesh = read_mesh_in(line, mesh_artifact)
    landmarks, track = read_landmarks(line, avatar_id)
    _, video = upload_of(line, line.ledger.avatar(avatar_id))

    def make(draft: Draft, checkpoints: Checkpoints) -> None:
        plate = build_plate(
            video,
            track,
            mesh,
            draft.folder,
            checkpoints=checkpoints,
            progress=line.progress,
            boundary=line.guard.boundary,
        )
        sheet = contact_sheet(frames_at(draft.folder / "plate.mp4", spread(len(plate) / 25, 8)))
        (draft.folder / "preview.jpg").write_bytes(jpeg(sheet))
        draft.facts |= {"frames": len(plate), "width": plate.width, "height": plate.height}

    recipe = Recipe(
        Slot.avatar(avatar_id, "plate"), PLATE_VERSION, {"landmarks": landmarks.key, "mesh": mesh_artifact.key}, {}
    )
    return produce(line, recipe, make)


def read_plate_in(line: Line, artifact: Artifact) -> Plate:
    """Return the plate in an artifact."""
    from avatar_pipeline.render.plate import read_plate

    folder = {line.store.local(artifact, name).parent for name in artifact.files}
    return read_plate(folder.pop())
