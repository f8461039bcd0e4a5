"""Noise of twenty kinds, made from nothing: what a room, a street, a kitchen and an office do beside a voice.

Real noise that may be used for shipped weights is minutes long; a network that has only heard those minutes takes
everything else for speech. Each kind here draws its own parameters, so that no two recordings are alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter

RATE = 16_000
Samples = NDArray[np.float32]
Chance = np.random.Generator
Maker = Callable[[Chance, int], NDArray[np.float64]]


def shaped(chance: Chance, count: int, curve: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Samples:
    """Return Gaussian noise whose amplitude spectrum follows `curve` of frequency in Hz."""
    spectrum = np.fft.rfft(chance.standard_normal(count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    return np.fft.irfft(spectrum * curve(np.maximum(frequencies, 20.0)), count)


def bands(chance: Chance, frequencies: NDArray[np.float64], spread_db: float = 10.0) -> NDArray[np.float64]:
    """Return a smooth random amplitude curve: a random gain at each of ten points on a logarithmic scale."""
    points = np.geomspace(40, 8000, 10)
    gains = chance.normal(0.0, spread_db, len(points))
    return 10 ** (np.interp(np.log(frequencies), np.log(points), gains) / 20)


def movement(chance: Chance, count: int, hertz: float, depth_db: float) -> NDArray[np.float64]:
    """Return a slowly moving gain: smooth random decibels, about `hertz` turns a second."""
    points = max(4, int(count / RATE * hertz * 2))
    gains = chance.normal(0.0, depth_db, points)
    return 10 ** (np.interp(np.linspace(0, points - 1, count), np.arange(points), gains) / 20)


def coloured(chance: Chance, count: int) -> NDArray[np.float64]:
    """Air and electronics: a random tilt and a random curve on top."""
    tilt = chance.uniform(-0.3, 1.3)
    noise = shaped(chance, count, lambda f: f**-tilt * bands(chance, f, chance.uniform(0, 8)))
    return noise * movement(chance, count, chance.uniform(0.1, 2), chance.uniform(0, 3))


def hum(chance: Chance, count: int) -> NDArray[np.float64]:
    """Mains hum with its harmonics, over some hiss."""
    base = chance.choice([50.0, 60.0, 100.0, 120.0])
    time = np.arange(count) / RATE
    orders = np.arange(1, int(chance.integers(4, 40)))
    weights = chance.exponential(1.0, len(orders)) / orders ** chance.uniform(0.2, 1.2)
    phases = chance.uniform(0, 2 * np.pi, len(orders))
    tone = sum(w * np.sin(2 * np.pi * base * k * time + p) for k, w, p in zip(orders, weights, phases, strict=True))
    return tone / np.std(tone) + chance.uniform(0.05, 0.5) * coloured_unit(chance, count)


def coloured_unit(chance: Chance, count: int) -> NDArray[np.float64]:
    """Return coloured noise of variance one."""
    noise = coloured(chance, count)
    return noise / np.std(noise)


def glide(chance: Chance, count: int, low: float, high: float, hertz: float) -> NDArray[np.float64]:
    """Return the phase of a pitch that wanders between `low` and `high` Hz."""
    points = max(2, int(count / RATE * hertz) + 2)
    pitch = np.exp(
        np.interp(
            np.linspace(0, points - 1, count), np.arange(points), chance.uniform(np.log(low), np.log(high), points)
        )
    )
    return 2 * np.pi * np.cumsum(pitch) / RATE


def engine(chance: Chance, count: int) -> NDArray[np.float64]:
    """Engines, drills, vacuum cleaners: harmonics of a wandering rotation, roughened, over broadband noise."""
    low = chance.uniform(18, 300)
    phase = glide(chance, count, low, low * chance.uniform(1.01, 1.6), chance.uniform(0.1, 1.0))
    orders = range(1, min(40, int(7000 / low)))
    weights = chance.exponential(1.0, 64)
    decay = chance.uniform(0.3, 1.2)
    tone = sum(weights[k] / k**decay * np.sin(k * phase + weights[-k]) for k in orders)
    rough = 1 + chance.uniform(0, 0.6) * np.sin(phase / 2)
    return tone / np.std(tone) * rough + chance.uniform(0.2, 2.0) * coloured_unit(chance, count)


def fan(chance: Chance, count: int) -> NDArray[np.float64]:
    """Fans and air conditioning: noise with resonances, fluttering at the pace of the blades."""
    noise = coloured_unit(chance, count)
    for _ in range(int(chance.integers(1, 5))):
        noise = noise + resonance(chance.standard_normal(count), chance.uniform(80, 4000), chance.uniform(5, 60))
    time = np.arange(count) / RATE
    return noise * (1 + chance.uniform(0, 0.5) * np.sin(2 * np.pi * chance.uniform(6, 60) * time))


def resonance(samples: NDArray[np.float64], hertz: float, width: float) -> NDArray[np.float64]:
    """Pass `samples` through one two-pole resonance and bring them to variance one."""
    radius = np.exp(-np.pi * width / RATE)
    rung = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2], samples)
    return rung / (np.std(rung) + 1e-9)


def scatter(
    chance: Chance, count: int, per_second: float, event: Callable[[], NDArray[np.float64]], spread: float = 1.0
) -> NDArray[np.float64]:
    """Place events at random moments, in bursts and pauses, with levels that differ by about 10 dB."""
    out = np.zeros(count)
    rate = movement(chance, count, chance.uniform(0.2, 1.5), 6 * spread)
    moments = np.flatnonzero(chance.random(count) < per_second / RATE * rate)
    for moment in moments[: int(80 * count / RATE)]:
        sound = event()[: count - moment]
        out[moment : moment + len(sound)] += sound * 10 ** (chance.normal(0, 6) / 20)
    return out


def struck(chance: Chance, low: float, high: float, shortest: float, longest: float) -> NDArray[np.float64]:
    """Return the ring of something struck: a few damped modes and a click."""
    length = int(RATE * longest * 4)
    time = np.arange(length) / RATE
    sound = np.zeros(length)
    for _ in range(int(chance.integers(2, 9))):
        pitch, decay = np.exp(chance.uniform(np.log(low), np.log(high))), chance.uniform(shortest, longest)
        wave = np.sin(2 * np.pi * pitch * time + chance.uniform(0, 6.28))
        sound += chance.exponential(1.0) * wave * np.exp(-time / decay)
    click = min(length, int(RATE * chance.uniform(0.001, 0.01)))
    sound[:click] += chance.standard_normal(click) * chance.uniform(0, 2)
    return sound


def clatter(chance: Chance, count: int) -> NDArray[np.float64]:
    """Dishes, cutlery, tools."""
    low = chance.uniform(400, 2500)
    return scatter(chance, count, chance.uniform(0.7, 12), lambda: struck(chance, low, min(7800, low * 6), 0.004, 0.15))


def knocks(chance: Chance, count: int) -> NDArray[np.float64]:
    """Steps, doors, things put down."""
    low = chance.uniform(40, 250)
    return scatter(chance, count, chance.uniform(0.5, 5), lambda: struck(chance, low, low * 8, 0.008, 0.08))


def typing(chance: Chance, count: int) -> NDArray[np.float64]:
    """Keyboards and mice: short clicks of similar make."""
    low = chance.uniform(700, 2500)
    return scatter(
        chance, count, chance.uniform(4, 14), lambda: struck(chance, low, low * 3, 0.001, 0.008)
    ) + 0.02 * coloured_unit(chance, count)


def rain(chance: Chance, count: int) -> NDArray[np.float64]:
    """Rain, showers, taps, frying: dense tiny impulses."""
    density = 10 ** chance.uniform(2, 3.7)
    impulses = (chance.random(count) < density / RATE) * chance.normal(0, 1, count)
    curve = np.fft.rfft(impulses) * bands(chance, np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20.0), 8)
    drops = np.fft.irfft(curve, count)
    return drops / (np.std(drops) + 1e-9) + chance.uniform(0, 0.6) * coloured_unit(chance, count)


def bubbles(chance: Chance, count: int) -> NDArray[np.float64]:
    """Water poured and running: rising, dying chirps."""

    def bubble() -> NDArray[np.float64]:
        time = np.arange(int(RATE * 0.12)) / RATE
        pitch = np.exp(chance.uniform(np.log(300), np.log(3000)))
        phase = 2 * np.pi * pitch * (time + chance.uniform(0, 6) * time**2)
        return np.sin(phase) * np.exp(-time / chance.uniform(0.004, 0.03))

    return scatter(chance, count, chance.uniform(10, 60), bubble, 0.5) + 0.1 * coloured_unit(chance, count)


def wind(chance: Chance, count: int) -> NDArray[np.float64]:
    """Wind in a microphone: low rumble in gusts."""
    edge = chance.uniform(60, 600)
    noise = shaped(chance, count, lambda f: 1 / (1 + (f / edge) ** chance.uniform(1, 2.5)))
    return noise * movement(chance, count, chance.uniform(0.3, 4), chance.uniform(3, 9))


def music(chance: Chance, count: int) -> NDArray[np.float64]:
    """Notes and chords with harmonics, and perhaps drums."""
    out = np.zeros(count)
    scale = 55 * 2 ** (np.cumsum(chance.choice([2, 2, 1, 2, 3], 25)) / 12)
    beat = chance.uniform(0.12, 0.7)
    rolloff, attack, decay = chance.uniform(0.6, 2.0), chance.uniform(0.003, 0.1), chance.uniform(0.1, 1.5)
    for start in np.arange(0, count / RATE, beat):
        for _ in range(int(chance.integers(0, 4))):
            first = int(start * RATE)
            time = np.arange(min(count - first, int(RATE * min(3.0, decay * 3)))) / RATE
            pitch = float(chance.choice(scale))
            vibrato = chance.uniform(0, 0.006) * np.sin(2 * np.pi * chance.uniform(4, 7) * time) / 5
            envelope = np.minimum(time / attack, 1) * np.exp(-time / decay) * chance.uniform(0.3, 1)
            for order in range(1, min(16, int(7500 / pitch) + 1)):
                wave = np.sin(2 * np.pi * pitch * order * (time + vibrato))
                out[first : first + len(time)] += envelope * wave / order**rolloff
    if chance.random() < 0.5:
        every = int(RATE * beat * chance.integers(1, 4))
        for first in range(0, count, max(every, 800)):
            hit = struck(chance, 60, chance.choice([200.0, 6000.0]), 0.01, 0.06)[: count - first]
            out[first : first + len(hit)] += hit * chance.uniform(0.2, 1.0)
    return out


def alarms(chance: Chance, count: int) -> NDArray[np.float64]:
    """Telephones, alarms, reversing lorries: tones that come and go."""
    time = np.arange(count) / RATE
    pitch = np.exp(chance.uniform(np.log(400), np.log(3500)))
    warble = 1 + chance.uniform(0, 0.3) * np.sign(np.sin(2 * np.pi * chance.uniform(1, 20) * time))
    phase = 2 * np.pi * np.cumsum(pitch * warble) / RATE
    tone = np.sin(phase) + chance.uniform(0, 0.7) * np.sin(3 * phase) + chance.uniform(0, 0.5) * np.sin(2.01 * phase)
    gate = np.sin(2 * np.pi * chance.uniform(0.3, 6) * time) > chance.uniform(-0.6, 0.8)
    return tone * np.convolve(gate, np.ones(80) / 80, "same") + 0.02 * chance.standard_normal(count)


def sirens(chance: Chance, count: int) -> NDArray[np.float64]:
    """Sirens and squeaks: a tone with harmonics that sweeps."""
    low = chance.uniform(300, 1500)
    phase = glide(chance, count, low, low * chance.uniform(1.3, 2.5), chance.uniform(0.5, 8))
    tone = sum(np.sin(k * phase) / k ** chance.uniform(0.7, 2) for k in range(1, 4))
    return tone * movement(chance, count, 0.5, 6) + 0.05 * coloured_unit(chance, count)


def rustle(chance: Chance, count: int) -> NDArray[np.float64]:
    """Paper, clothes, bags, crackle: high noise in quick random bursts."""
    edge = chance.uniform(500, 4000)
    noise = shaped(chance, count, lambda f: (f / edge) ** 2 / (1 + (f / edge) ** 2) * bands(chance, f, 5))
    return noise * movement(chance, count, chance.uniform(5, 60), chance.uniform(6, 12)) * movement(chance, count, 1, 8)


def animals(chance: Chance, count: int) -> NDArray[np.float64]:
    """Barks, cries and calls: short glides with harmonics through a couple of resonances."""
    low = np.exp(chance.uniform(np.log(200), np.log(2500)))
    longest = chance.uniform(0.1, 0.9)

    def call() -> NDArray[np.float64]:
        length = int(RATE * chance.uniform(0.06, longest))
        phase = glide(chance, length, low, low * chance.uniform(1.1, 2.2), chance.uniform(3, 10))
        orders = range(1, max(2, min(12, int(7500 / low))))
        tone = sum(np.sin(k * phase) / k ** chance.uniform(0.2, 1.2) for k in orders)
        tone = tone + chance.uniform(0, 1.2) * chance.standard_normal(length)
        return tone * np.hanning(length) ** chance.uniform(0.3, 1.5)

    calls = scatter(chance, count, chance.uniform(0.5, 3), call)
    return resonance(calls, chance.uniform(400, 3000), chance.uniform(80, 800)) + 0.02 * coloured_unit(chance, count)


def munching(chance: Chance, count: int) -> NDArray[np.float64]:
    """Breath, chewing, scratching: bands of noise a few times a second."""

    def bite() -> NDArray[np.float64]:
        length = int(RATE * chance.uniform(0.03, 0.35))
        noise = resonance(chance.standard_normal(length), chance.uniform(300, 5000), chance.uniform(200, 2500))
        crackle = movement(chance, length, chance.uniform(20, 120), chance.uniform(0, 9))
        return noise * crackle * np.hanning(length)

    return scatter(chance, count, chance.uniform(1, 6), bite) + 0.03 * coloured_unit(chance, count)


def traffic(chance: Chance, count: int) -> NDArray[np.float64]:
    """Streets and trains: rumble and tyres that pass by."""
    rumble = shaped(chance, count, lambda f: f**-1.0 * bands(chance, f, 3))
    tyres = shaped(chance, count, lambda f: 1 / (1 + ((f - 900) / 700) ** 2))
    passing = movement(chance, count, chance.uniform(0.1, 0.6), 8)
    return rumble / np.std(rumble) + chance.uniform(0.2, 1.2) * tyres / np.std(tyres) * passing


def electronics(chance: Chance, count: int) -> NDArray[np.float64]:
    """Static, GSM buzz and bad plugs: periodic pulses and random crackle."""
    every = int(RATE / chance.uniform(20, 300))
    pulses = np.zeros(count)
    pulses[::every] = 1.0
    gate = movement(chance, count, chance.uniform(1, 8), 12)
    buzz = fftconvolve(pulses, struck(chance, 200, 5000, 0.0005, 0.004), "full")[:count] * gate
    crackle = (chance.random(count) < chance.uniform(1, 80) / RATE) * chance.normal(0, 1, count)
    return buzz / (np.std(buzz) + 1e-9) + chance.uniform(0, 1.5) * crackle / (np.std(crackle) + 1e-9)


def crowd(chance: Chance, count: int) -> NDArray[np.float64]:
    """A far crowd without words: noise with formants that come and go at the pace of syllables."""
    out = 0.3 * shaped(chance, count, lambda f: 1 / (1 + (f / 500) ** 1.2))
    for _ in range(int(chance.integers(3, 9))):
        voice = resonance(chance.standard_normal(count), chance.uniform(250, 3200), chance.uniform(60, 400))
        out = out + voice * movement(chance, count, chance.uniform(2, 7), 8) * chance.uniform(0.1, 1.0)
    return out


KINDS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        coloured, hum, engine, fan, clatter, knocks, typing, rain, bubbles, wind, music, alarms, sirens, rustle,
        animals, munching, traffic, electronics, crowd,
    )
}  # fmt: skip


def noise_bank(seed: int, clips: int, seconds: float) -> dict[str, list[NDArray[np.float16]]]:
    """Return `clips` recordings of each kind, RMS 0.1, in half precision to save memory. The same seed, the same bank.

    A third of them are heard through a room, for noise is seldom beside the microphone.
    """
    bank: dict[str, list[NDArray[np.float16]]] = {}
    count = int(seconds * RATE)
    for number, (name, make) in enumerate(KINDS.items()):
        bank[name] = []
        for clip in range(clips):
            chance = np.random.default_rng([seed, number, clip])
            noise = make(chance, count)
            if chance.random() < 1 / 3:
                noise = fftconvolve(noise, room(chance), "full")[:count]
            bank[name].append((0.1 * noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).clip(-8, 8).astype(np.float16))
    return bank


def room(chance: Chance, longest: float = 0.9) -> NDArray[np.float64]:
    """Return the impulse response of a room: the direct sound, early reflections, and exponentially decaying noise.

    The statistical model of late reverberation is that of Polack (1988), as given in Habets (2007), "Single- and
    multi-microphone speech dereverberation using spectral enhancement", section 2.3.
    """
    reverberation_time = chance.uniform(0.12, longest)
    time = np.arange(int(RATE * reverberation_time)) / RATE
    late = chance.standard_normal(len(time)) * np.exp(-6.9 * time / reverberation_time)
    late[: int(0.002 * RATE)] = 0.0
    for _ in range(int(chance.integers(2, 8))):
        late[int(RATE * chance.uniform(0.002, 0.03))] += chance.choice([-1, 1]) * chance.uniform(2, 8)
    damping = chance.uniform(0.0, 0.7)
    late = lfilter([1 - damping], [1, -damping], late)
    response = late / np.sqrt(np.sum(late**2)) * 10 ** (-chance.uniform(0, 15) / 20)
    response[0] = 1.0
    return response
