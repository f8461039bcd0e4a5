"""Pairs of recordings, and what takes the voice out of the noisy side."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from math import gcd
from pathlib import Path

import numpy as np
import soundfile

from avatar_pipeline.media.types import Audio
from benchmarks.speech_metrics import RATE, Samples, Scores, scores_of

TOLERATED_SECONDS = 0.1
"""By how much the sides of a pair may differ in length: a codec's padding, not another recording."""
SOUNDS = (".wav", ".flac")
_RNNOISE_RATE, _RNNOISE_FRAME, _RNNOISE_DELAY = 48_000, 480, 960
"""RNNoise works on 10 ms at 48 kHz, and its output is 20 ms late."""

Method = Callable[[Audio], Audio]


@dataclass(frozen=True, slots=True)
class Pair:
    """One recording with and without its noise."""

    name: str
    noisy: Audio
    clean: Audio


def read_pairs(folder: Path) -> list[Pair]:
    """Read all pairs of a folder, in the order of their names.

    Raises:
        ValueError: there are none, or the sides of one do not belong together.
    """
    clean = {path.stem: path for path in (folder / "clean").glob("*") if path.suffix.lower() in SOUNDS}
    noisy = {path.stem: path for path in (folder / "noisy").glob("*") if path.suffix.lower() in SOUNDS}
    names = sorted(clean.keys() & noisy.keys())
    if not names:
        raise ValueError(f"{folder} holds no pairs: clean/ and noisy/ with .wav or .flac files of the same names.")
    pairs = []
    for name in names:
        pair = Pair(name, read(noisy[name]), read(clean[name]))
        if abs(pair.noisy.seconds - pair.clean.seconds) > TOLERATED_SECONDS:
            raise ValueError(
                f"{name}: {pair.noisy.seconds:.2f} s noisy and {pair.clean.seconds:.2f} s clean are no pair."
            )
        pairs.append(pair)
    return pairs


def read(path: Path) -> Audio:
    """Read a recording; several channels are averaged."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Audio(samples.mean(axis=1, dtype=np.float32), int(rate))


def at_rate(audio: Audio, rate: int) -> Samples:
    """Return the samples at another rate, without delay."""
    if audio.rate == rate:
        return audio.samples
    from scipy.signal import resample_poly

    divisor = gcd(audio.rate, rate)
    made = resample_poly(audio.samples, rate // divisor, audio.rate // divisor)
    return np.asarray(made, np.float32)


def measure_all(
    pairs: list[Pair], extras: dict[str, Path], say: Callable[[str], None]
) -> tuple[dict[str, dict[str, Scores]], dict[str, str]]:
    """Return scores by method and pair, and why methods were left out."""
    import torch

    torch.set_num_threads(1)
    found = {"noisy": {pair.name: score(pair, pair.noisy, None) for pair in pairs}}
    methods, skipped = our_methods()
    for name, method in methods.items():
        say(f"{name} ...")
        method(pairs[0].noisy)  # what is loaded or planned on the first call is not what is timed
        found[name] = {pair.name: timed(pair, method) for pair in pairs}
    for name, folder in extras.items():
        outputs = {path.stem: path for path in folder.glob("*") if path.suffix.lower() in SOUNDS}
        there = {pair.name: score(pair, read(outputs[pair.name]), None) for pair in pairs if pair.name in outputs}
        if there:
            found[name] = there
        else:
            skipped[name] = f"for {folder} holds no file named as a pair is"
    return found, skipped


def our_methods() -> tuple[dict[str, Method], dict[str, str]]:
    """Return the methods that can run here, and why others cannot."""
    from avatar_pipeline.voice.isolation.dsp import DspIsolator
    from avatar_pipeline.voice.isolation.neural import NeuralIsolator

    methods: dict[str, Method] = {}
    skipped = {}
    try:
        methods["rnnoise"] = Rnnoise()
    except OSError as error:
        skipped["rnnoise"] = str(error)
    methods["dsp"] = DspIsolator().isolate
    methods["neural"] = NeuralIsolator(device="cpu").isolate
    return methods, skipped


def timed(pair: Pair, method: Method) -> Scores:
    """Run a method on the noisy side, and score what comes out."""
    began = time.process_time()
    out = method(pair.noisy)
    return score(pair, out, time.process_time() - began)


def score(pair: Pair, estimate: Audio, seconds: float | None) -> Scores:
    """Score an estimate of the clean side, both at 16 kHz."""
    return scores_of(at_rate(estimate, RATE), at_rate(pair.clean, RATE), seconds=seconds)


class Rnnoise:
    """RNNoise (Valin 2018), from the library inside the `pyrnnoise` wheel, its delay taken off.

    Raises:
        OSError: it is not installed, or its library cannot be loaded.
    """

    def __init__(self) -> None:
        spec = find_spec("pyrnnoise")
        if spec is None or not spec.submodule_search_locations:
            raise OSError("for pyrnnoise is not installed: pip install 'avatar-pipeline[bench]'")
        library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / "librnnoise.so"))
        library.rnnoise_create.restype = ctypes.c_void_p
        library.rnnoise_create.argtypes = [ctypes.c_void_p]
        library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        library.rnnoise_process_frame.restype = ctypes.c_float
        library.rnnoise_process_frame.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        self._library = library

    def __call__(self, audio: Audio) -> Audio:
        """Return the voice at the input's rate."""
        samples = at_rate(audio, _RNNOISE_RATE) * 32768.0
        count = len(samples)
        frames = -(-(count + _RNNOISE_DELAY) // _RNNOISE_FRAME)
        work = np.zeros(frames * _RNNOISE_FRAME, np.float32)
        work[:count] = samples
        state = self._library.rnnoise_create(None)
        for frame in work.reshape(frames, _RNNOISE_FRAME):
            self._library.rnnoise_process_frame(state, frame.ctypes.data, frame.ctypes.data)
        self._library.rnnoise_destroy(state)
        voice = Audio(work[_RNNOISE_DELAY : _RNNOISE_DELAY + count] / 32768.0, _RNNOISE_RATE)
        return Audio(at_rate(voice, audio.rate)[: len(audio.samples)], audio.rate)
