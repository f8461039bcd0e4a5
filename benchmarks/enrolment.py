"""What is heard in a recording beside the voice, and how surely: speech, speakers, music.

`python -m benchmarks.enrolment --data FOLDER [--speakers FOLDER] [--music FOLDER] [--json]`

FOLDER is that of the evaluation data (`audio/pairs`, `audio/librispeech`, `train/speech`, `train/noise`). `--speakers`
holds a folder for each speaker with recordings (16 kHz), none of them trained on; without it the four in
`audio/librispeech` are taken. `--music` holds recordings of music; without it only synthetic music is mixed in.
Silero's detector is measured beside our own where `silero-vad` is installed.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.activity import speech_frames
from avatar_pipeline.voice.music import MusicReport, detect_music
from avatar_pipeline.voice.pitch import RATE, resample
from avatar_pipeline.voice.second_speaker import find_second_speaker
from avatar_pipeline.voice.speaker_space import gather, speaker_space
from avatar_pipeline.voice.speakers import SAME_SPEAKER, VoicePrint, voice_print
from training.isolation import noise
from training.speakers.__main__ import recorded_elsewhere

Mask = np.ndarray
Detector = Callable[[np.ndarray], Mask]
COMPARABLE_FRAMES = 200
HIGH_VOICE_HZ = 160.0


def load(path: Path) -> np.ndarray:
    """Return a recording at 16 kHz, one channel."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(Audio(samples.mean(axis=1), rate), RATE)


def mixed(speech: np.ndarray, other: np.ndarray, snr_db: float) -> np.ndarray:
    """Lay a sound under speech, so many dB below it."""
    other = np.resize(other, len(speech))
    gain = np.sqrt(np.mean(speech**2) / np.mean(other**2) / 10 ** (snr_db / 10))
    return (speech + gain * other).astype(np.float32)


# Speech activity


def filled(mask: Mask, longest: int) -> Mask:
    """Fill gaps of at most `longest` frames."""
    out = mask.copy()
    edges = np.flatnonzero(np.diff(np.r_[1, mask.astype(int), 1]))
    for start, stop in edges.reshape(-1, 2):
        if stop - start <= longest:
            out[start:stop] = True
    return out


def spoken(clean: np.ndarray) -> Mask:
    """Tell from the clean recording when there is speech: within 40 dB of its loudest, pauses up to 0.3 s filled."""
    power = (np.lib.stride_tricks.sliding_window_view(clean, 640)[::160].astype(float) ** 2).mean(axis=1)
    level = 10 * np.log10(power + 1e-12)
    return ~filled(~filled(level > max(level.max() - 40, -70), 30), 5)


def our_activity(samples: np.ndarray) -> Mask:
    """Return what we take for speech."""
    return speech_frames(Audio(samples.astype(np.float32), RATE))[0]


def silero() -> Detector | None:
    """Return Silero's detector, or None where it is not installed."""
    try:
        import torch
        from silero_vad import get_speech_timestamps, load_silero_vad
    except ImportError:
        return None
    model = load_silero_vad()

    def detect(samples: np.ndarray) -> Mask:
        mask = np.zeros(len(samples) // 160 + 1, dtype=bool)
        for span in get_speech_timestamps(torch.from_numpy(samples.astype(np.float32)), model):
            mask[span["start"] // 160 : span["end"] // 160] = True
        return mask

    return detect


def activity_rows(data: Path) -> Iterator[dict[str, Any]]:
    """Compare detectors with the energy of the clean recording, on clean, noisy and isolated speech."""
    from avatar_pipeline.voice.isolation.dsp import DspIsolator

    pairs = [
        (load(path), load(data / "audio/pairs/noisy" / path.name))
        for path in sorted((data / "audio/pairs/clean").glob("*.wav"))
    ]
    read = [load(path) for path in sorted((data / "audio/librispeech").rglob("*.flac"))]
    rooms = [load(path) for path in sorted((data / "train/noise").glob("*.wav"))]
    led_in = [np.concatenate([np.zeros(2 * RATE, np.float32), speech]) for speech in read]
    sets = {
        "clean": [(speech, speech) for speech in read],
        "noisy pairs": pairs,
        "noisy pairs, isolated": [(clean, DspIsolator().isolate(Audio(noisy, RATE)).samples) for clean, noisy in pairs],
        "in rooms, 5 dB": [(s, mixed(s, rooms[i % len(rooms)], 5)) for i, s in enumerate(led_in)],
    }
    detectors = {"ours": our_activity} | ({"silero": other} if (other := silero()) else {})
    for (where, examples), (name, detect) in itertools.product(sets.items(), detectors.items()):
        truth, found = [], []
        for clean, heard in examples:
            one, two = spoken(clean), detect(heard)
            length = min(len(one), len(two))
            truth.append(one[:length])
            found.append(two[:length])
        there, said = np.concatenate(truth), np.concatenate(found)
        hits = float(np.mean(said[there]))
        yield {
            "what": "activity",
            "on": where,
            "method": name,
            "hits": hits,
            "false_alarms": float(np.mean(said[~there])),
            "f1": float(2 * (there & said).sum() / (there.sum() + said.sum())),
        }


# Speakers


def speakers_of(folder: Path) -> dict[str, list[np.ndarray]]:
    """Return the recordings of each speaker."""
    return {
        place.name: [load(path) for path in sorted(place.glob("*.flac"))]
        for place in sorted(folder.iterdir())
        if place.is_dir()
    }


def joined(prints: list[VoicePrint]) -> VoicePrint:
    """Put voice prints one after the other."""
    return VoicePrint(
        np.concatenate([one.frames for one in prints]),
        np.concatenate([one.f0 for one in prints]),
        np.arange(sum(len(one.frames) for one in prints)),
    )


def place(heard: VoicePrint) -> np.ndarray:
    """Return where a speaker lies."""
    return speaker_space().place(gather(speaker_space().mixture, heard.frames, heard.log_f0))


def equal_error(same: np.ndarray, different: np.ndarray) -> float:
    """Return the rate at which as many are refused wrongly as are let through wrongly."""
    thresholds = np.sort(np.concatenate([same, different]))
    refused = np.array([(same < t).mean() for t in thresholds])
    passed = np.array([(different >= t).mean() for t in thresholds])
    best = int(np.argmin(np.abs(refused - passed)))
    return float((refused[best] + passed[best]) / 2)


def match_rows(prints: dict[str, list[VoicePrint]], elsewhere: dict[str, list[VoicePrint]]) -> Iterator[dict[str, Any]]:
    """Compare half of a speaker's recordings with each recording of everybody, made alike or elsewhere."""
    high = {name: float(np.median(np.exp(joined(own).log_f0))) > HIGH_VOICE_HZ for name, own in prints.items()}
    for how, others in (("alike", prints), ("another microphone, room and noise", elsewhere)):
        same, different, alike = [], [], []
        for name, own in prints.items():
            for half in (0, 1):
                chosen = range(half * len(own) // 2, (half + 1) * len(own) // 2)
                home = place(joined([own[i] for i in chosen]))
                for other, theirs in others.items():
                    for number, heard in enumerate(theirs):
                        if len(heard.frames) < COMPARABLE_FRAMES or (other == name and number in chosen):
                            continue
                        ratio = speaker_space().likelihood_ratio(home, place(heard))
                        if other == name:
                            same.append(ratio)
                        else:
                            different.append(ratio)
                            if high[other] == high[name]:
                                alike.append(ratio)
        yes, no, near = np.array(same), np.array(different), np.array(alike)
        yield {
            "what": "same speaker",
            "on": how,
            "comparisons": len(yes) + len(no),
            "equal_error": equal_error(yes, no),
            "refused_wrongly": float((yes < SAME_SPEAKER).mean()),
            "passed_wrongly": float((no >= SAME_SPEAKER).mean()),
            "passed_wrongly_same_sex": float((near >= SAME_SPEAKER).mean()),
        }


def second_rows(prints: dict[str, list[VoicePrint]], single: list[VoicePrint]) -> Iterator[dict[str, Any]]:
    """Look for a second speaker where there is one, and where there is none."""
    high = {name: float(np.median(np.exp(joined(own).log_f0))) > HIGH_VOICE_HZ for name, own in prints.items()}
    alone = {
        "one speaker, one recording (trained on)": single,
        "one speaker, half of the recordings": [
            joined(own[half * len(own) // 2 : (half + 1) * len(own) // 2]) for own in prints.values() for half in (0, 1)
        ],
        "one speaker, all recordings": [joined(own) for own in prints.values()],
    }
    for where, recordings in alone.items():
        found = [find_second_speaker(heard) for heard in recordings]
        yield {"what": "second speaker", "on": where, "recordings": len(found), "found": mean(f.present for f in found)}
    for name, first_share, second_share in (("half and half", 0.5, 0.5), ("4:1", 0.8, 0.2), ("8:1", 0.8, 0.1)):
        kinds: dict[str, list[Any]] = {"same sex": [], "both sexes": []}
        for a, b in itertools.permutations(prints, 2):
            if name == "half and half" and a > b:
                continue
            first = prints[a][: max(1, round(first_share * len(prints[a])))]
            second = prints[b][: max(1, round(second_share * len(prints[b])))]
            middle = len(first) // 2
            heard = joined(first[:middle] + second + first[middle:])
            kinds["same sex" if high[a] == high[b] else "both sexes"].append(find_second_speaker(heard))
        for kind, found in kinds.items():
            where = f"two speakers {name}, {kind}"
            yield {
                "what": "second speaker",
                "on": where,
                "recordings": len(found),
                "found": mean(f.present for f in found),
            }


def mean(values: Iterator[bool]) -> float:
    """Return the share that is true."""
    return float(np.mean(list(values)))


# Music


def music_rows(voices: list[np.ndarray], folder: Path | None, rooms: list[np.ndarray]) -> Iterator[dict[str, Any]]:
    """Look for music under speech, at several levels, and for what is taken for music and is none."""
    seconds = 40 * RATE
    voices = [np.resize(voice, seconds) for voice in voices]
    pieces = {"synthetic": [noise.music(np.random.default_rng([9, i]), seconds) for i in range(8)]}
    if folder is not None:
        pieces["recorded"] = [
            load(path)[:seconds] for path in sorted(folder.iterdir()) if path.suffix in {".ogg", ".wav"}
        ]
    others = [
        make(np.random.default_rng([5, i]), seconds)
        for name, make in noise.KINDS.items()
        if name != "music"
        for i in range(2)
    ]
    cases = [("no music", voices), ("no music, noise at 10 dB", under(voices, others + rooms, 10))]
    for kind, music in pieces.items():
        cases += [(f"{kind} music at {snr} dB", under(voices, music, snr)) for snr in (0, 10, 15, 20)]
    for where, recordings in cases:
        found: list[MusicReport] = [detect_music(Audio(heard, RATE)) for heard in recordings]
        shares = float(np.mean([report.share for report in found]))
        present = mean(report.present for report in found)
        yield {"what": "music", "on": where, "recordings": len(found), "share": shares, "found": present}


def under(voices: list[np.ndarray], sounds: list[np.ndarray], snr_db: float) -> list[np.ndarray]:
    """Lay each sound under one of the voices."""
    return [mixed(voices[i % len(voices)], sound, snr_db) for i, sound in enumerate(sounds)]


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield all rows."""
    yield from activity_rows(options.data)
    recordings = speakers_of(options.speakers or options.data / "audio/librispeech")
    prints = {name: [voice_print(Audio(one, RATE)) for one in own] for name, own in recordings.items()}
    chance = np.random.default_rng(7)
    elsewhere = {
        name: [voice_print(Audio(recorded_elsewhere(one.astype(float), chance), RATE)) for one in own]
        for name, own in recordings.items()
    }
    yield from match_rows(prints, elsewhere)
    trained = sorted((options.data / "train/speech").glob("*.flac"))[:: options.every]
    yield from second_rows(prints, [voice_print(Audio(load(path), RATE)) for path in trained])
    rooms = [load(path) for path in sorted((options.data / "train/noise").glob("*.wav"))]
    yield from music_rows([np.concatenate(own) for own in recordings.values()], options.music, rooms)


def main() -> None:
    """Measure, and print a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--speakers", type=Path)
    parser.add_argument("--music", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every n-th of the single recordings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for row in rows(options):
        if options.json:
            print(json.dumps(row))
        else:
            figures = [
                f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            ]
            print("; ".join(figures[:3]), *figures[3:], sep="  ", flush=True)


if __name__ == "__main__":
    main()
