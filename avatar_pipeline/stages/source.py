"""source_video: the upload, probed and looked at."""

from __future__ import annotations

from dataclasses import asdict

from avatar_pipeline.preview.images import contact_sheet, frames_at, jpeg, spread
from avatar_pipeline.stages.avatar_requests import take_in_uploads
from avatar_pipeline.stages.intake import upload_of
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

CODE_VERSION = "1"


def make_source_video(line: Line, avatar_id: str) -> StageResult:
    """Take in what waiting requests bring; probe the upload where it is kept, and publish what it is with a picture.

    Raises:
        InvalidInput: the avatar's request brought nothing that can be used.
        InvalidMedia: the kept file is not what was taken in, or the limits have become tighter.
    """
    from avatar_pipeline.media.probe import probe

    take_in_uploads(line, avatar_id)
    upload, video = upload_of(line, line.ledger.avatar(avatar_id))
    limits = line.settings.limits

    def make(draft: Draft, _: Checkpoints) -> None:
        info = probe(video, limits)
        sheet = contact_sheet(frames_at(video, spread(info.seconds, 8)))
        (draft.folder / "preview.jpg").write_bytes(jpeg(sheet))
        draft.facts |= {
            "container": info.container,
            "codec": info.codec,
            "width": info.width,
            "height": info.height,
            "rotation": info.rotation,
            "fps": round(float(info.fps), 3),
            "seconds": round(info.seconds, 3),
            "variable_frame_rate": info.variable_frame_rate,
            "size_bytes": info.size_bytes,
            "audio": None if info.audio is None else f"{info.audio.codec} {info.audio.rate} Hz",
        }

    recipe = Recipe(Slot.avatar(avatar_id, "source_video"), CODE_VERSION, {"upload": upload.key}, asdict(limits))
    return produce(line, recipe, make)
