"""How near the embedded voice comes to a person: its pitch and its long-term spectrum, beside plain eSpeak NG.

    AVATAR_EVAL_DATA=DIR python -m benchmarks.local_voice [--folder DIR] [--every] [--json]

`DIR/audio/librispeech` (or `--folder`) holds a folder of recordings for each speaker. The longest recording of each is
held out, for short ones say little of a voice; with `--every`, each is held out once. The voice is made from the others
and reads four sentences, and so does plain eSpeak NG. What is measured, as the mean over the recordings held out:

- the error of the median pitch, in per cent, against what was enrolled, and against the recording held out;
- the distance of the long-term spectra, in dB, to what was enrolled and to the recording held out.

`person` is the enrolment beside the recording held out: as near as the same person comes to themself. The targets are
those of the project: pitch at most 3 % from the enrolment's, spectrum at most 2.0 dB from the recording held out, and
both nearer than plain eSpeak NG. Exit status 1 says that one was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.local import LocalVoiceProvider
from avatar_pipeline.voice.pitch import track_pitch
from avatar_pipeline.voice.provider import say_one
from avatar_pipeline.voice.spectrum import average_spectrum, spectral_distance
from avatar_pipeline.voice.types import VoiceModel

SENTENCES = (
    "My voice model was built from a short video and now it can read anything you type.",
    "Imagine buying dozens or even hundreds of investments with a single click.",
    "Peter Piper picked a peck of pickled peppers while Bob bought a big blue boat.",
    "How are you today? I hope that the weather treats you well over there.",
)
MEASURES = ("pitch_error", "pitch_error_held_out", "spectrum_enrolled_db", "spectrum_db")
MOST_PITCH_ERROR = 3.0
MOST_DISTANCE = 2.0
CONSENT = ConsentRecord(
    consent_id="benchmark",
    subject="A reader of LibriSpeech",
    statement="Public recordings, used to measure and for nothing else.",
    statement_version="1",
    scope=frozenset({"voice"}),
    given_at=datetime(2025, 1, 1, tzinfo=UTC),
)


@dataclass(frozen=True, slots=True)
class Row:
    """How near one kind of voice comes to one speaker: mean over the recordings held out."""

    speaker: str
    voice: str
    pitch_error: float
    pitch_error_held_out: float
    spectrum_enrolled_db: float
    spectrum_db: float
    held_out: int


def main() -> None:
    """Measure and print; exit with 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("AVATAR_EVAL_DATA")
    parser.add_argument("--folder", type=Path, default=Path(data) / "audio" / "librispeech" if data else None)
    parser.add_argument("--every", action="store_true", help="hold out every recording once, not only the longest")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("give --folder, or set AVATAR_EVAL_DATA")
    folders = [folder for folder in sorted(arguments.folder.iterdir()) if folder.is_dir()]
    rows = [row for folder in folders for row in of_speaker(folder, every=arguments.every)]
    if not rows:
        parser.error(f"{arguments.folder} holds no folder with two recordings or more")
    rows += [mean_of(rows, voice) for voice in ("ours", "espeak", "person")]
    missed = targets_missed(rows)
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "missed": missed}, indent=1))
    else:
        show(rows, missed)
    sys.exit(1 if missed else 0)


def of_speaker(folder: Path, *, every: bool) -> Iterator[Row]:
    """Hold out recordings of a speaker, and return the means of our voice, plain eSpeak NG, and the person."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav"))
    if len(files) < 2:
        return
    provider = LocalVoiceProvider()
    plain = read_aloud(provider, provider.create_voice(None, None, language="en"))
    chosen = files if every else [max(files, key=lambda path: soundfile.info(path).duration)]
    found: dict[str, list[tuple[float, ...]]] = {"ours": [], "espeak": [], "person": []}
    for held_out in chosen:
        enrolment = join(*(load(path) for path in files if path != held_out))
        ours = read_aloud(provider, provider.create_voice(enrolment, CONSENT, language="en"))
        wanted = load(held_out)
        for name, audio in (("ours", ours), ("espeak", plain), ("person", enrolment)):
            pairs = [(audio, other) for other in (enrolment, wanted)]
            found[name].append((*(pitch_error(*pair) for pair in pairs), *(distance(*pair) for pair in pairs)))
    for name, values in found.items():
        yield Row(folder.name, name, *(float(value) for value in np.mean(values, axis=0)), held_out=len(values))


def pitch_error(audio: Audio, wanted: Audio) -> float:
    """Return by how many per cent the median pitches differ."""
    one, other = (track_pitch(sound).median_and_spread()[0] for sound in (audio, wanted))
    return 100 * abs(one / other - 1)


def distance(audio: Audio, wanted: Audio) -> float:
    """Return how far apart the long-term spectra are, in dB."""
    return spectral_distance(average_spectrum(audio), average_spectrum(wanted))


def read_aloud(provider: LocalVoiceProvider, voice: VoiceModel) -> Audio:
    """Return the sentences, spoken one after the other."""
    return join(*(say_one(provider, voice, sentence).audio for sentence in SENTENCES))


def mean_of(rows: list[Row], voice: str) -> Row:
    """Return the mean over the speakers."""
    mine = [row for row in rows if row.voice == voice]
    means = (float(np.mean([getattr(row, name) for row in mine])) for name in MEASURES)
    return Row("mean", voice, *means, held_out=sum(row.held_out for row in mine))


def targets_missed(rows: list[Row]) -> list[str]:
    """Say which targets were missed, by the mean over the speakers."""
    ours, plain = (
        next(row for row in rows if (row.speaker, row.voice) == ("mean", voice)) for voice in ("ours", "espeak")
    )
    checks = {
        f"pitch error {ours.pitch_error:.1f} % > {MOST_PITCH_ERROR} %": ours.pitch_error <= MOST_PITCH_ERROR,
        f"spectrum {ours.spectrum_db:.2f} dB > {MOST_DISTANCE} dB": ours.spectrum_db <= MOST_DISTANCE,
        "pitch no nearer than plain eSpeak NG": ours.pitch_error < plain.pitch_error,
        "spectrum no nearer than plain eSpeak NG": ours.spectrum_db < plain.spectrum_db,
    }
    return [told for told, met in checks.items() if not met]


def show(rows: list[Row], missed: list[str]) -> None:
    """Print the table."""
    table = Table(
        "speaker", "voice", "pitch error %", "to held out", "spectrum dB to enrolled", "to held out", "recordings"
    )
    for row in rows:
        figures = (f"{getattr(row, name):.2f}" for name in MEASURES)
        table.add_row(row.speaker, row.voice, *figures, str(row.held_out), end_section=row.voice == "person")
    console = Console()
    console.print(table)
    console.print("missed: " + "; ".join(missed) if missed else "All targets met.")


def load(path: Path) -> Audio:
    """Read a recording."""
    samples, rate = soundfile.read(path, dtype="float32")
    return Audio(samples, rate)


def join(*parts: Audio) -> Audio:
    """Return recordings one after the other."""
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].rate)


if __name__ == "__main__":
    main()
