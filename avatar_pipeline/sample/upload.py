"""Writes the sample upload: a video, a consent, and the truth about both."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.face.pose import HeadPoses
from avatar_pipeline.media.audio import write_wav
from avatar_pipeline.media.encode import encode_segment, join_segments, rgb_to_i420
from avatar_pipeline.progress import Progress, silent
from avatar_pipeline.sample.draw import Stage
from avatar_pipeline.sample.head import Head, build_head, lip_gap
from avatar_pipeline.sample.motion import Motion, make_motion
from avatar_pipeline.sample.portrait import Portrait, load_portrait
from avatar_pipeline.sample.sound import Take, record
from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.voice.visemes import VISEMES, viseme_curves

SIZES = (128, 1080)
SECONDS = (2.0, 12.0)
FPS = (10, 60)
_FILES = ("sample.mp4", "clean_speech.wav", "truth.json", "consent.json")
_BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
_ARTICULATION = 0.78
"""Visemes are shown at their fullest; a person who chats moves less."""
_BATCH = 25
"""Frames between two reports of progress."""

CONSENT = ConsentRecord(
    consent_id="sample-portrait",
    subject="Sample portrait (NASA, public domain), synthetic voice",
    statement=(
        "The portrait is a NASA photograph in the public domain, bundled with scikit-image; the voice is synthetic. "
        "They are animated only to test and demonstrate this software. Nobody shown endorses it or said these words."
    ),
    statement_version="1",
    scope=frozenset({"likeness", "voice"}),
    given_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@dataclass(frozen=True, slots=True)
class SampleUpload:
    """Where the sample is."""

    video: Path
    clean_speech: Path
    truth: Path
    consent: Path


class Truth(BaseModel):
    """What is known about the sample's T frames and its sound.

    `yaw`, `pitch`, `roll` (T) degrees as in `face.types.LandmarkTrack.angles`; `lip_gap` (T) mm between the middles of
    the inner lips; `blink` (T) how far the lids are shut, 0 to 1; `viseme` (T) the strongest one; `text` what is said;
    `snr_db` the level of the speech, without its pauses, over the noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fps: int
    size: int
    seed: int
    text: str
    snr_db: float
    yaw: tuple[float, ...]
    pitch: tuple[float, ...]
    roll: tuple[float, ...]
    lip_gap: tuple[float, ...]
    blink: tuple[float, ...]
    viseme: tuple[str, ...]


def read_truth(path: Path) -> Truth:
    """Read the `truth.json` of a sample."""
    return Truth.model_validate_json(path.read_bytes())


def make_sample_upload(
    folder: Path,
    *,
    seconds: float = 8.0,
    size: int = 640,
    fps: int = 25,
    snr_db: float = 12.0,
    seed: int = 7,
    progress: Progress = silent,
) -> SampleUpload:
    """Make a talking-head upload whose truth is known: a public-domain portrait that turns its head and talks.

    Writes `sample.mp4` (H.264 and AAC), `clean_speech.wav` (the speech before the room's noise), `truth.json` (see
    `read_truth`), and `consent.json` into `folder`, each at once. The same arguments give the same bytes.

    Args:
        folder: made if absent.
        seconds: length; the text is cut to what can be said in it.
        size: side of the square picture in pixels, even.
        fps: frames per second.
        snr_db: level of the speech (without its pauses) over the noise, in decibels.
        seed: of head motion, blinks and noise.
        progress: told 'sample' and the frames done.

    Raises:
        InvalidInput: an argument is out of its range.
        EnvironmentProblem: OpenGL, eSpeak NG or a package is missing.
    """
    _check(seconds, size, fps)
    frames = round(seconds * fps)
    take = record(frames / fps, snr_db, seed)
    portrait = load_portrait(size)
    head = build_head(portrait)
    motion = make_motion(frames, fps, seed)
    curves = viseme_curves(take.visemes, frames / fps, fps)[:frames]
    shapes = np.stack([head.shape(w) for w in _weights(head, motion, curves)])
    folder.mkdir(parents=True, exist_ok=True)
    upload = SampleUpload(*(folder / name for name in _FILES))
    with atomic_file(upload.video) as path:
        _write_video(path, _frames(portrait, head, motion, shapes, progress), take, size=size, fps=fps)
    with atomic_file(upload.clean_speech) as path:
        write_wav(path, take.clean)
    yaw, pitch, roll = map(_rounded, motion.poses(head.pose).angles.T)
    truth = Truth(
        fps=fps,
        size=size,
        seed=seed,
        snr_db=snr_db,
        text=take.text,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        lip_gap=_rounded(np.array([lip_gap(shape) for shape in shapes])),
        blink=_rounded(motion.blink),
        viseme=tuple(VISEMES[k] for k in curves.argmax(axis=1)),
    )
    _write_json(upload.truth, truth.model_dump())
    _write_json(upload.consent, CONSENT.model_dump(mode="json") | {"scope": sorted(CONSENT.scope)})
    return upload


def _check(seconds: float, size: int, fps: int) -> None:
    for name, value, (least, most) in (("seconds", seconds, SECONDS), ("size", size, SIZES), ("fps", fps, FPS)):
        if not least <= value <= most:
            raise InvalidInput(
                f"The sample's {name} is {value:g}; it must be from {least:g} to {most:g}.",
                remedy=f"Choose {name} within these limits.",
            )
    if size % 2:
        raise InvalidInput(f"The sample's size is {size}, an odd number.", remedy="Choose an even size.")


def _weights(head: Head, motion: Motion, curves: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the morph weights (T, K): visemes from the speech, blinks and brows from the motion."""
    weights = np.zeros((len(motion.blink), len(head.morph_names)))
    for k, name in enumerate(head.morph_names):
        if name in VISEMES:
            weights[:, k] = _ARTICULATION * curves[:, VISEMES.index(name)]
        elif name in _BLINKS:
            weights[:, k] = motion.blink
        else:
            weights[:, k] = motion.brows
    return weights


def _frames(
    portrait: Portrait, head: Head, motion: Motion, shapes: NDArray[np.float64], progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames, as I420."""
    poses = motion.poses(head.pose)
    with Stage(portrait, head) as stage:
        for i, shape in enumerate(shapes):
            pose = HeadPoses(poses.scale[i : i + 1], poses.rotation[i : i + 1], poses.translation[i : i + 1])
            yield rgb_to_i420(stage.draw(shape, pose))
            if (i + 1) % _BATCH == 0 or i + 1 == len(shapes):
                progress("sample", i + 1, len(shapes))


def _write_video(path: Path, frames: Iterator[NDArray[np.uint8]], take: Take, *, size: int, fps: int) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".sample-") as scratch:
        picture = Path(scratch) / "picture.mp4"
        encode_segment(picture, frames, width=size, height=size, fps=Fraction(fps))
        join_segments([picture], path, audio=take.noisy)


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)


def _write_json(target: Path, value: dict[str, Any]) -> None:
    with atomic_file(target) as path:
        path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
