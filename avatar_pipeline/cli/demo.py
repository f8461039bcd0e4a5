"""`avatar demo`: everything once, on an upload that the project makes itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from avatar_pipeline.cli import work
from avatar_pipeline.cli.report import write_report
from avatar_pipeline.consent import read_consent
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import Slot
from avatar_pipeline.voice.types import DEFAULT_GREETING, DEFAULT_VOICE

AVATAR_ID = "demo"
SCRIPTS = (
    "Welcome back. Your meeting begins in five minutes, and the room has been prepared.",
    "People often ask whether I am real. My voice and my lips are made, my smile was borrowed.",
    "Before we part: please bring both bags, five maps, and a very big umbrella.",
)


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo left: rows for the table, the report, and how long this call took."""

    made: list[work.Made]
    report: Path
    seconds: float

    @property
    def all_reused(self) -> bool:
        """Whether nothing had to be computed."""
        return all(item.reused for item in self.made)


def run_demo(line: Line, out: Path) -> Demo:
    """Make the sample upload, the avatar `demo` and three clips; put them and a report into `out`."""
    start = line.stopwatch()
    upload = out / "upload"
    video, consent = upload / "sample.mp4", upload / "consent.json"
    if not all(path.is_file() for path in (video, consent, upload / "truth.json")):
        from avatar_pipeline.sample.upload import make_sample_upload

        make_sample_upload(upload, progress=line.progress)
    work.create(line, AVATAR_ID, video, read_consent(consent), voice=DEFAULT_VOICE, greeting=DEFAULT_GREETING)
    take = _take(line)
    requests = [
        ClipRequest(request_id=f"demo-{take}-clip-{number}", avatar_id=AVATAR_ID, text=text)
        for number, text in enumerate(SCRIPTS, 1)
    ]
    clips = work.run_batch(line, f"demo-{take}", requests)
    exported = {}
    for asset, name, target in (
        ("landmarks", "landmarks.parquet", "landmarks.parquet"),
        ("isolated_voice", "voice.wav", "voice.wav"),
        ("mesh", "avatar.glb", "avatar.glb"),
        ("greeting_clip", "clip.mp4", "greeting.mp4"),
    ):
        artifact = line.store.require_current(Slot.avatar(AVATAR_ID, asset))
        exported[artifact.key] = work.export(line, artifact, name, out / target)
    for number, clip in enumerate(clips, 1):
        exported[clip.key] = work.export(line, clip, "clip.mp4", out / f"clip-{number}.mp4")
    report = write_report(line, AVATAR_ID, clips, out)
    made = [
        replace(item, path=str(exported[key]) if (key := Path(item.path).name) in exported else item.path)
        for item in work.inventory(line, AVATAR_ID)
    ]
    # What this call took: nothing, for what was there.
    made = [replace(item, seconds=0.0, cost=Decimal(0)) if item.reused else item for item in made]
    return Demo(made, report, line.stopwatch() - start)


def _take(line: Line) -> int:
    """Return the number of the take: the same again, but a new one after one that failed, for a failure is final."""
    take = 1
    while line.requests.list(batch_id=f"demo-{take}", states=("failed",)):
        take += 1
    return take
