"""How good speech is: against the clean voice, and by itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Samples = NDArray[np.float32]
_DNSMOS_SECONDS = 9.01


@dataclass(frozen=True, slots=True)
class Scores:
    """One recording of one method. `seconds` of work on `length` seconds of sound; None where it was not timed."""

    pesq: float
    estoi: float
    sisdr: float
    length: float
    seconds: float | None = None
    dnsmos_sig: float | None = None
    dnsmos_bak: float | None = None
    dnsmos_ovrl: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Return the figures, rounded."""
        return {key: None if value is None else round(value, 4) for key, value in asdict(self).items()}


def scores_of(estimate: Samples, clean: Samples, *, seconds: float | None) -> Scores:
    """Score samples at 16 kHz against the clean voice."""
    from pesq import pesq
    from pystoi import stoi

    count = min(len(estimate), len(clean))
    estimate, clean = estimate[:count], clean[:count]
    mos = dnsmos(estimate)
    return Scores(
        pesq=float(pesq(RATE, clean, estimate, "wb")),
        estoi=float(stoi(clean, estimate, RATE, extended=True)),
        sisdr=si_sdr(estimate, clean),
        length=count / RATE,
        seconds=seconds,
        **({} if mos is None else dict(zip(("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"), mos, strict=True))),
    )


def si_sdr(estimate: Samples, clean: Samples) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB, means removed."""
    wide, target = (side.astype(np.float64) - side.mean(dtype=np.float64) for side in (estimate, clean))
    target *= (wide @ target) / (target @ target)
    rest = wide - target
    return float(10 * np.log10((target @ target) / max(rest @ rest, 1e-20)))


def dnsmos(samples: Samples) -> tuple[float, float, float] | None:
    """Return DNSMOS P.835 (signal, background, overall), or None where its model is not installed."""
    session = _session()
    if session is None:
        return None
    size = int(_DNSMOS_SECONDS * RATE)
    while len(samples) < size:
        samples = np.concatenate([samples, samples])
    samples = samples.clip(-1.0, 1.0).astype(np.float32)
    starts = range(0, len(samples) - size + 1, RATE)
    raw = np.array([session.run(None, {"input_1": samples[None, at : at + size]})[0][0] for at in starts])
    # The polynomials that map the model's outputs to opinions, as in speechmos.
    fits = (
        (-0.08397278, 1.22083953, 0.0052439),
        (-0.13166888, 1.60915514, -0.39604546),
        (-0.06766283, 1.11546468, 0.04602535),
    )
    signal, background, overall = (float(np.polyval(fit, raw[:, n]).mean()) for n, fit in enumerate(fits))
    return signal, background, overall


@cache
def _session() -> Any:
    spec = find_spec("speechmos")
    if spec is None or not spec.submodule_search_locations or find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(spec.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
