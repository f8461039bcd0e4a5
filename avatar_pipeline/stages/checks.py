"""Verdicts on finished artifacts: pure functions from the facts of an artifact to passed or not, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avatar_pipeline.render.limits import MAX_LAG_FRAMES, MIN_SYNC

MIN_FACE_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check of one artifact: its name, whether it passed, one sentence why, and the figures.

    Where `warns` is true, not to pass is to be looked at, but stops nothing.
    """

    name: str
    passed: bool
    description: str
    figures: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    warns: bool = False


def source_valid(facts: Mapping[str, Any]) -> Verdict:
    """The source is one upright video that was probed and decoded."""
    return Verdict(
        "source_valid",
        facts["seconds"] > 0 and facts["width"] > 0,
        f"{facts['codec']} in {facts['container']}, {facts['width']}×{facts['height']}, {facts['seconds']} s.",
        {"seconds": facts["seconds"], "fps": facts["fps"]},
    )


def face_coverage(facts: Mapping[str, Any]) -> Verdict:
    """The face is found in enough of the frames."""
    share = facts["found_share"]
    return Verdict(
        "face_coverage",
        share >= MIN_FACE_SHARE,
        f"A face was found in {share:.1%} of {facts['frames']} frames; at least {MIN_FACE_SHARE:.0%} are needed.",
        {"found_share": share, "frames": facts["frames"]},
    )


def speech_present(facts: Mapping[str, Any]) -> Verdict:
    """There is speech to make the voice from, or none is needed."""
    if not facts["enrolment"]:
        return Verdict("speech_present", True, "Not needed: the avatar has a stock voice.")
    seconds = facts["speech_seconds"]
    return Verdict(
        "speech_present",
        seconds > 0,
        f"{seconds} s of speech in {facts['seconds']} s of audio.",
        {"speech_seconds": seconds, "snr_db_before": facts["snr_db_before"], "snr_db_after": facts["snr_db_after"]},
    )


def one_speaker(facts: Mapping[str, Any]) -> Verdict:
    """Nobody else speaks in the recording; where somebody does, only the one who speaks more is used."""
    if not facts["enrolment"]:
        return Verdict("one_speaker", True, "Not needed: the avatar has a stock voice.", warns=True)
    share, confidence = facts["second_speaker_share"], facts["second_speaker_confidence"]
    figures = {"second_speaker_share": share, "second_speaker_confidence": confidence}
    if not facts["second_speaker"]:
        return Verdict("one_speaker", True, "One person speaks.", figures, warns=True)
    times = ", ".join(facts["second_speaker_times"])
    told = f"Somebody else seems to speak in {share:.0%} of the speech ({times}); the voice is made without it."
    return Verdict("one_speaker", False, told, figures, warns=True)


def no_music(facts: Mapping[str, Any]) -> Verdict:
    """There is no music under the voice: isolation takes it out badly, and a clone learns what is left of it."""
    if not facts["enrolment"]:
        return Verdict("no_music", True, "Not needed: the avatar has a stock voice.", warns=True)
    share = facts["music_share"]
    told = f"Music, or tones as steady, in {share:.0%} of the recording"
    told += f" ({', '.join(facts['music_times'])}); record without it." if facts["music"] else "."
    return Verdict("no_music", not facts["music"], told, {"music_share": share}, warns=True)


def mesh_sane(facts: Mapping[str, Any]) -> Verdict:
    """No triangle of the mesh is degenerate or flipped."""
    names = ("degenerate_triangles", "flipped_uv_triangles", "flipped_normals")
    bad = {name: facts[name] for name in names}
    listed = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in bad.items())
    return Verdict("mesh_sane", not any(bad.values()), f"{listed} of {facts['triangles']}.", bad)


def clip_duration(facts: Mapping[str, Any]) -> Verdict:
    """The picture is as long as the sound, to a frame."""
    difference = facts["seconds"] - facts["audio_seconds"]
    frame = facts["seconds"] / facts["frames"]
    return Verdict(
        "clip_duration",
        abs(difference) <= frame + 1e-6,
        f"{facts['frames']} frames are {facts['seconds']} s for {facts['audio_seconds']} s of audio.",
        {"difference_seconds": round(difference, 4)},
    )


def mouth_follows(facts: Mapping[str, Any]) -> Verdict:
    """The mouth seen in the finished clip does what it was told, when it was told."""
    r, lag = facts["sync_r"], facts["sync_lag_frames"]
    if r is None:
        told = "The clip moves its mouth too little, or too briefly, to correlate"
        return Verdict("mouth_follows", facts["sync_passed"], f"{told}; judged by {facts['sync_judged_by']}.")
    return Verdict(
        "mouth_follows",
        facts["sync_passed"] and r >= MIN_SYNC and abs(lag) <= MAX_LAG_FRAMES,
        f"Lip gap commanded and seen: r = {r:.3f} (at least {MIN_SYNC}), lag {lag} frames (at most {MAX_LAG_FRAMES}).",
        {"sync_r": r, "sync_lag_frames": lag},
    )


def clip_verdicts(facts: Mapping[str, Any]) -> list[Verdict]:
    """All checks of a clip."""
    return [clip_duration(facts), mouth_follows(facts)]
