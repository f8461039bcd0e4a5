"""Do mouths fit the words: `python -m benchmarks.visemes [--video FILE ...] [--no-clips] [--json] [--sheets FOLDER]`.

1. Closure: at 25 fps, with loudness in play, at two speeds, are the lips together at every p, b and m?
2. Times: how near sounds are timed where only characters' times are known (see `benchmarks.viseme_times`).
3. Clips: an avatar of the project's own sample, and of each `--video` (with AVATAR_EVAL_DATA, of
   `video/hdtf_wda_k.mp4`), says a sentence. The face is tracked in the finished clip, and its lip gap compared

   - with the commanded one: lag and correlation, as every clip is checked;
   - with the sounds' own times: each sound's shape as long as it lasts, free of our curves, against what is seen;
   - at each p, b and m: how many ms after the closure's middle the gap is smallest, and how far the lips still part.

   Loudness is no measure of lips. How late the sound is in the file is measured too, against what was synthesized.

The targets are those of the project: closure at all of at least 100; at most 25 ms mean error; lag 0 ± 1 frame. Exit
status 1 says that one was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from avatar_pipeline.media.types import Audio
from avatar_pipeline.mesh.types import AvatarMesh
from avatar_pipeline.voice.emphasis import emphasise, intensity
from avatar_pipeline.voice.local import LocalVoiceProvider
from avatar_pipeline.voice.provider import say_one
from avatar_pipeline.voice.rest import with_rest
from avatar_pipeline.voice.types import Speech, Viseme, VoiceSettings
from avatar_pipeline.voice.visemes import VISEMES, to_visemes, viseme_curves
from benchmarks.viseme_times import Errors, bilabials, measure_times

FPS = Fraction(25)
TONGUE_TWISTERS = (
    "Peter Piper picked a peck of pickled peppers, while Bob bought a big blue boat.",
    "My mother makes a bumpy map, but Pam and Abby jump for more maple bread.",
    "Maybe a number of members improved the upper lamp by simply bumping its base.",
    "Comfort the empty tribe from the submarine, pamper puppies, bomb no lamb, and problems become impossible.",
    "Big brown bears pick plump plums, most people prefer a warm umbrella, and babies burp.",
)
SPEEDS = (1.0, 1.5)
SENTENCE = "Peter Piper picked a peck of pickled peppers, while my mother bought a big blue boat."
LEAST_CLOSURES, MOST_ERROR_MS, MOST_LAG = 100, 25.0, 1
CLOSED = 0.97
_SHEET_BYTES = 2_000_000
_LAGS = np.arange(-5, 6)


@dataclass(frozen=True, slots=True)
class Closures:
    """How many p, b and m there are, and at how many the curves are shut."""

    sounds: int
    closed: int


@dataclass(frozen=True, slots=True)
class ClipRow:
    """How the lips of one clip fit. Lags are positive where the picture is late; gaps in mm."""

    video: str
    frames: int
    seen: int
    lag_to_command: int | None
    r_to_command: float | None
    lag_to_sounds: int
    r_to_sounds: float
    bilabials: int
    bilabial_lag_ms: float
    bilabial_gap_mm: float
    vowel_gap_mm: float
    sound_late_ms: float

    @property
    def passed(self) -> bool:
        """Whether both lags are at most a frame."""
        return self.lag_to_command is not None and max(abs(self.lag_to_command), abs(self.lag_to_sounds)) <= MOST_LAG


def say(text: str, speed: float = 1.0) -> Speech:
    """Speak as clips do, with rest around."""
    provider = LocalVoiceProvider()
    voice = provider.create_voice(None, None, language="en")
    return with_rest(say_one(provider, voice, text, VoiceSettings(speed=speed)))


def shapes_of(speech: Speech) -> tuple[tuple[Viseme, ...], NDArray[np.float32]]:
    """Return the mouth shapes and their curves, as clips have them."""
    visemes = to_visemes(speech.phonemes, speech.audio.seconds)
    curves = viseme_curves(visemes, speech.audio.seconds, FPS)
    return visemes, emphasise(curves, intensity(speech.audio, len(curves), FPS))


def count_closures() -> Closures:
    """Look at every p, b and m: while it lasts, rounded out to whole frames, the lips are to be together once."""
    sounds = closed = 0
    for text, speed in product(TONGUE_TWISTERS, SPEEDS):
        speech = say(text, speed)
        _, curves = shapes_of(speech)
        together = curves[:, VISEMES.index("PP")]
        for sound in bilabials(speech.phonemes):
            first, last = int(np.floor(sound.start * float(FPS))), int(np.ceil(sound.end * float(FPS)))
            sounds += 1
            closed += bool(together[first : last + 1].max() >= CLOSED)
    return Closures(sounds, closed)


def measure_clip(video: Path, folder: Path, sheets: Path | None) -> ClipRow:
    """Make an avatar of `video`, render it saying `SENTENCE`, track the clip and measure."""
    from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
    from avatar_pipeline.face.tracking import track_video
    from avatar_pipeline.media.audio import read_audio
    from avatar_pipeline.media.probe import probe
    from avatar_pipeline.mesh.build import build_mesh
    from avatar_pipeline.render.clip import render_clip
    from avatar_pipeline.render.curves import lip_gap, morph_weights
    from avatar_pipeline.render.plate import build_plate
    from avatar_pipeline.render.verify import compare_gaps, measure_lip_gap
    from avatar_pipeline.store.checkpoints import FolderCheckpoints

    track = track_video(video, probe(video), FaceMeshDetector(), FolderCheckpoints(folder / "track"), workers=1)
    mesh, _ = build_mesh(track, video)
    plate = build_plate(video, track, mesh, folder, checkpoints=FolderCheckpoints(folder / "plate"))
    speech = say(SENTENCE)
    visemes, curves = shapes_of(speech)
    weights = morph_weights(curves, mesh)
    clip = folder / "clip.mp4"
    render_clip(
        mesh=mesh,
        plate=plate,
        weights=weights,
        audio=speech.audio,
        out=clip,
        checkpoints=FolderCheckpoints(folder / "segments"),
    )
    measured = measure_lip_gap(clip, mesh)
    commanded = lip_gap(mesh, weights)[: len(measured)]
    sync = compare_gaps(commanded, measured[: len(commanded)], fps=FPS)
    frames = np.arange(len(measured))
    seen = np.isfinite(measured)
    gap = np.interp(frames, frames[seen], measured[seen])
    lag, r = best_lag(sounded_gap(visemes, mesh, len(gap)), gap)
    late, least = at_closures(speech, gap)
    vowels = [v for v in visemes if v.name == "aa" and v.end - v.start > 0.08]
    if sheets is not None:
        draw_sheet(clip, speech, sheets / f"{video.stem}.jpg")
    return ClipRow(
        video=video.stem,
        frames=len(measured),
        seen=int(seen.sum()),
        lag_to_command=sync.lag_frames,
        r_to_command=None if sync.lag_correlation is None else round(sync.lag_correlation, 3),
        lag_to_sounds=lag,
        r_to_sounds=round(r, 3),
        bilabials=len(late),
        bilabial_lag_ms=round(float(np.median(late)) * 1000, 1),
        bilabial_gap_mm=round(float(np.median(least)), 2),
        vowel_gap_mm=round(float(np.median([gap[round((v.start + v.end) / 2 * float(FPS))] for v in vowels])), 2),
        sound_late_ms=round(sound_late(speech.audio, read_audio(clip, rate=speech.audio.rate)) * 1000, 2),
    )


def sounded_gap(visemes: Sequence[Viseme], mesh: AvatarMesh, count: int) -> NDArray[np.float64]:
    """Return the lip gap (T,) in mm of each sound's own shape while it sounds, averaged over each frame's time."""
    from avatar_pipeline.render.curves import lip_gap, morph_weights

    gaps = lip_gap(mesh, morph_weights(np.eye(len(VISEMES), dtype=np.float32), mesh))
    fine = np.zeros(count * 40)
    for viseme in visemes:
        start, end = (round(time * float(FPS) * 40) for time in (viseme.start, viseme.end))
        fine[start:end] = gaps[VISEMES.index(viseme.name)]
    # Frame i is at i / fps: what sounds around that instant belongs to it.
    centred = np.concatenate([np.zeros(20), fine])[: len(fine)]
    averaged: NDArray[np.float64] = centred.reshape(count, 40).mean(axis=1)
    return averaged


def best_lag(reference: NDArray[np.float64], seen: NDArray[np.float64]) -> tuple[int, float]:
    """Return by how many frames `seen` is later than `reference`, and the correlation at that lag."""
    inner = slice(len(_LAGS) // 2, len(reference) - len(_LAGS) // 2)
    values = [
        float(np.corrcoef(reference[inner], seen[inner.start + lag : inner.stop + lag])[0, 1]) for lag in _LAGS.tolist()
    ]
    best = int(np.argmax(values))
    return int(_LAGS[best]), values[best]


def at_closures(speech: Speech, gap: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Return for each p, b and m how late, in seconds, the smallest gap within ±0.12 s is, and that gap in mm.

    The closure's middle is that of the viseme: /p/ is shut for the first 60 % of its time.
    """
    times = np.arange(len(gap)) / float(FPS)
    late, least = [], []
    for viseme in to_visemes(speech.phonemes, speech.audio.seconds):
        if viseme.name != "PP":
            continue
        middle = (viseme.start + viseme.end) / 2
        near = np.flatnonzero(np.abs(times - middle) <= 0.12)
        shut = near[gap[near] <= gap[near].min() + 0.15]
        late.append(float(times[shut].mean() - middle))
        least.append(float(gap[near].min()))
    return late, least


def sound_late(synthesized: Audio, muxed: Audio) -> float:
    """Return by how many seconds the sound in the file is later than what was synthesized."""
    length = min(len(synthesized.samples), len(muxed.samples))
    size = 2 * length
    spectrum = np.fft.rfft(muxed.samples[:length].astype(np.float64), size)
    spectrum *= np.conj(np.fft.rfft(synthesized.samples[:length].astype(np.float64), size))
    shift = int(np.argmax(np.fft.irfft(spectrum, size)))
    return (shift if shift < length else shift - size) / synthesized.rate


def draw_sheet(clip: Path, speech: Speech, target: Path) -> None:
    """Show the frames at the middles of the closures and of the open vowels, for eyes to judge."""
    from avatar_pipeline.preview.images import contact_sheet, frames_at, jpeg

    visemes = to_visemes(speech.phonemes, speech.audio.seconds)
    shown = [v for v in visemes if v.name in ("PP", "aa", "I", "O", "U", "FF") and v.end - v.start > 0.04][:24]
    frames = frames_at(clip, [round((v.start + v.end) / 2 * float(FPS)) / float(FPS) + 0.001 for v in shown])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(jpeg(contact_sheet(frames, columns=6, cell=320), max_bytes=_SHEET_BYTES))
    target.with_suffix(".txt").write_text(" ".join(v.name for v in shown) + "\n")


def tell(console: Console, closures: Closures, times: Sequence[Errors], clips: Sequence[ClipRow]) -> None:
    """Print the figures as tables."""
    console.print(f"closure at 25 fps: {closures.closed} of {closures.sounds} p, b and m")
    table = Table(title="Borders of sounds inside words, from characters' times")
    for column in ("characters", "borders", "mean ms", "p90 ms"):
        table.add_column(column, justify="left" if column == "characters" else "right")
    for row in times:
        table.add_row(row.case, str(len(row.milliseconds)), f"{row.mean:.1f}", f"{row.p90:.1f}")
    console.print(table)
    for clip in clips:
        table = Table(title=f"{clip.video}: {clip.frames} frames, {clip.seen} with a face", show_header=False)
        for name, value in list(asdict(clip).items())[3:]:
            table.add_row(name.replace("_", " "), str(value))
        console.print(table)


def main() -> int:
    """Measure, print, and say by the exit status whether the targets are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visemes", description=__doc__)
    parser.add_argument("--video", type=Path, action="append", default=[], help="footage for one more avatar")
    parser.add_argument("--no-clips", action="store_true", help="leave rendering out")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="write pictures of the closures and vowels")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    closures, times = count_closures(), measure_times()
    clips: list[ClipRow] = []
    if not options.no_clips:
        with tempfile.TemporaryDirectory(prefix="avatar-bench-") as scratch:
            clips = [
                measure_clip(video, Path(scratch) / str(number), options.sheets)
                for number, video in enumerate(videos(options.video, Path(scratch)))
            ]
    result: dict[str, Any] = {
        "closures": asdict(closures),
        "times": [{"case": r.case, "borders": len(r.milliseconds), "mean_ms": round(r.mean, 2),
                   "p90_ms": round(r.p90, 2)} for r in times],
        "clips": [asdict(clip) for clip in clips],
    }  # fmt: skip
    if options.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        tell(Console(), closures, times, clips)
    met = closures.closed == closures.sounds >= LEAST_CLOSURES and all(row.mean <= MOST_ERROR_MS for row in times)
    return 0 if met and all(clip.passed for clip in clips) else 1


def videos(more: Sequence[Path], scratch: Path) -> list[Path]:
    """Return the footage to make avatars of: the project's sample, the evaluation data's where it is at hand, more."""
    from avatar_pipeline.sample.upload import make_sample_upload

    data = os.environ.get("AVATAR_EVAL_DATA")
    real = [Path(data) / "video" / "hdtf_wda_k.mp4"] if data else []
    return [make_sample_upload(scratch / "sample", seconds=6.0, size=480).video, *real, *more]


if __name__ == "__main__":
    sys.exit(main())
