"""Long-term spectra: distances, formant shifts and filters do what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.matching import play_faster
from avatar_pipeline.voice.spectrum import (
    apply_filter,
    average_spectrum,
    equalizer,
    shift_formants,
    spectral_distance,
)
from tests.voice.conftest import say


def test_distance_ignores_level_and_is_zero_for_the_same_voice(speech: Audio) -> None:
    spectrum = average_spectrum(speech)
    louder = average_spectrum(Audio(speech.samples * np.float32(0.1), speech.rate))
    assert spectral_distance(spectrum, louder) < 0.05
    assert spectral_distance(spectrum, spectrum + 7) == pytest.approx(0, abs=1e-9)


def test_the_spectrum_does_not_depend_on_the_rate_of_the_recording(speech: Audio) -> None:
    from scipy.signal import resample_poly

    doubled = Audio(resample_poly(speech.samples, 2, 1).astype(np.float32), speech.rate * 2)
    assert spectral_distance(average_spectrum(speech), average_spectrum(doubled)) < 0.1


def test_an_equalizer_gives_one_voice_the_spectrum_of_another(speech: Audio) -> None:
    target = average_spectrum(say("A rather different sentence, spoken by another voice.", voice="roa/fr+f3"))
    source = average_spectrum(speech)
    filtered = apply_filter(speech.samples.astype(np.float64), equalizer(source, target, speech.rate))
    reached = average_spectrum(Audio(filtered.astype(np.float32), speech.rate))
    assert spectral_distance(reached, target) < 0.4 * spectral_distance(source, target)


def test_playing_faster_is_a_shift_of_formants(speech: Audio) -> None:
    faster = play_faster(speech, 1.1)
    assert len(faster.samples) == pytest.approx(len(speech.samples) / 1.1, abs=1)
    predicted = shift_formants(average_spectrum(speech), 1.1)
    assert spectral_distance(average_spectrum(faster), predicted) < 0.8


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3_000))
def test_short_and_silent_audio_has_a_flat_spectrum(samples: int) -> None:
    assert np.isfinite(average_spectrum(Audio(np.zeros(samples, np.float32), 16_000))).all()


def test_a_flat_equalizer_changes_nothing(speech: Audio) -> None:
    flat = equalizer(np.zeros(513), np.zeros(513), speech.rate)
    np.testing.assert_allclose(apply_filter(speech.samples.astype(np.float64), flat), speech.samples, atol=1e-3)
