"""Rest around speech: the mouth begins and ends closed, and nothing else moves against the sound."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.rest import with_rest
from avatar_pipeline.voice.types import Phoneme, Speech, Word
from avatar_pipeline.voice.visemes import VISEMES, to_visemes, viseme_curves

RATE = 22_050


def speech() -> Speech:
    samples = np.sin(np.arange(RATE) / 9).astype(np.float32)
    phonemes = (Phoneme("m", 0.0, 0.2), Phoneme("ɑː", 0.2, 1.0))
    return Speech(Audio(samples, RATE), phonemes, (Word("ma", 0.0, 1.0),), Decimal(0))


@given(st.floats(0, 2), st.floats(0, 2))
def test_sound_and_times_move_together_and_the_rest_is_silent(before: float, after: float) -> None:
    plain, rested = speech(), with_rest(speech(), before=before, after=after)
    lead = round(before * RATE)
    np.testing.assert_array_equal(rested.audio.samples[lead : lead + RATE], plain.audio.samples)
    assert not rested.audio.samples[:lead].any()
    assert not rested.audio.samples[lead + RATE :].any()
    first, *sounds, last = rested.phonemes
    assert (first.symbol, last.symbol) == ("", "")
    assert last.end == rested.audio.seconds
    assert [round((p.start - lead / RATE) * 1e6) for p in sounds] == [0, 200_000]
    assert rested.words[0].start == lead / RATE


def test_the_mouth_is_shut_in_the_first_and_in_the_last_frame() -> None:
    rested = with_rest(speech())
    visemes = to_visemes(rested.phonemes, rested.audio.seconds)
    curves = viseme_curves(visemes, rested.audio.seconds, Fraction(25))
    silence = curves[:, VISEMES.index("sil")]
    assert silence[0] == 1.0
    assert silence[-1] == 1.0
    assert silence[len(silence) // 2] < 0.5
