"""The demo's report: one HTML page with pictures inside, to see at a glance whether everything is right."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import Artifact, Slot
from avatar_pipeline.store.atomic import atomic_file

_SECTIONS = (
    ("source_video", "The upload", "What came in, as it was probed."),
    ("landmarks", "Landmarks", "478 points a frame. They should sit on eyes, brows, lips and the outline of the face."),
    ("isolated_voice", "Isolated voice", "Before and after. The floor between words should be darker below."),
    ("mesh", "3D head", "Neutral from three sides, blink, closed lips (PP), open (aa), rounded (O), smile."),
    ("plate", "Plate", "The stretch of footage that clips re-drive."),
    ("greeting_clip", "Greeting", "Twelve frames of the finished clip."),
)


def write_report(line: Line, avatar_id: str, clips: list[Artifact], out: Path) -> Path:
    """Write `report.html` into `out`, which holds greeting.mp4 and clip-N.mp4, and return its path."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("avatar_pipeline.cli", "templates"), autoescape=True)
    sections = [
        _section(line, line.store.require_current(Slot.avatar(avatar_id, asset)), title, told)
        for asset, title, told in _SECTIONS
    ]
    sections[-1]["video"] = "greeting.mp4"
    for number, clip in enumerate(clips, 1):
        sections.append(_section(line, clip, f"Clip {number}", "") | {"video": f"clip-{number}.mp4"})
    avatar = line.ledger.avatar(avatar_id)
    page = environment.get_template("report.html.j2").render(avatar=avatar, sections=sections)
    target = out / "report.html"
    with atomic_file(target) as temporary:
        temporary.write_text(page)
    return target


def _section(line: Line, artifact: Artifact, title: str, told: str) -> dict[str, Any]:
    picture = None
    if "preview.jpg" in artifact.files:
        picture = base64.b64encode(line.store.local(artifact, "preview.jpg").read_bytes()).decode()
    return {"title": title, "told": told, "picture": picture, "facts": dict(artifact.facts), "video": None}
