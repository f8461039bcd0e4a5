from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from avatar_pipeline.errors import InvalidMedia, SpeechNotUsable
from avatar_pipeline.media.audio import read_audio, read_wav, resample, write_wav
from avatar_pipeline.media.types import Audio
from tests.media.samples import tone, write_video


def _clicks(seconds: float, rate: int) -> NDArray[np.float32]:
    """Bursts of smooth noise, one every half second: their places can be measured to a sample."""
    rng = np.random.default_rng(5)
    samples = np.zeros(round(seconds * rate), np.float32)
    burst = np.convolve(rng.standard_normal(rate // 50), np.hanning(9) / 4, "same").astype(np.float32)
    for begin in range(rate // 4, len(samples) - rate // 10, rate // 2):
        samples[begin : begin + len(burst)] = 0.25 * burst
    return samples


def _lag(found: NDArray[np.float32], expected: NDArray[np.float32]) -> int:
    """By how many samples `found` comes after `expected`."""
    size = 1 << (len(found) + len(expected)).bit_length()
    spectrum = np.fft.rfft(found, size) * np.conj(np.fft.rfft(expected, size))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    return lag if lag < size // 2 else lag - size


@pytest.mark.parametrize(
    ("suffix", "codec", "sound_codec", "rate"),
    [
        ("mp4", "libx264", "aac", 48_000),
        ("mp4", "libx264", "aac", 16_000),
        ("mp4", "libx264", "libmp3lame", 44_100),
        ("mkv", "libx264", "aac", 44_100),
        ("webm", "libvpx", "libopus", 48_000),
        ("mkv", "libx264", "flac", 48_000),
        ("mov", "libx264", "pcm_s16le", 48_000),
    ],
)
def test_sample_zero_is_presentation_time_zero_whatever_the_encoder_puts_before_it(
    tmp_path: Path, suffix: str, codec: str, sound_codec: str, rate: int
) -> None:
    clicks = _clicks(2.0, rate)
    path = write_video(
        tmp_path / f"v.{suffix}", frames=50, codec=codec, sound=clicks, sound_codec=sound_codec, sound_rate=rate
    )
    audio = read_audio(path)
    assert audio.rate == rate
    assert audio.samples.dtype == np.float32
    assert abs(_lag(audio.samples, clicks)) <= 1
    # MP3 in MP4 keeps its padding; all others end where the sound ended.
    assert audio.seconds == pytest.approx(2.0, abs=0.06 if "mp3" in sound_codec else 0.025)
    assert np.abs(audio.samples).max() <= 1.0


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
def test_resampling_moves_nothing_in_time(tmp_path: Path, rate: int) -> None:
    path = write_video(tmp_path / "v.mov", frames=50, sound=_clicks(2.0, 48_000), sound_codec="pcm_s16le")
    native, resampled = read_audio(path), read_audio(path, rate=rate)
    assert resampled.rate == rate
    assert abs(resampled.seconds - 2.0) <= 2 / rate
    assert abs(_lag(resample(resampled, 48_000).samples, native.samples)) <= 1
    assert np.abs(tone(1.0, rate)[500:-500] - resample(Audio(tone(1.0), 48_000), rate).samples[500:-500]).max() < 0.01


def _shift_sound(source_path: Path, path: Path, shift: int, *, drop: range = range(0)) -> Path:
    """Copy a video with its sound moved by `shift` samples, less the audio packets numbered in `drop`."""
    with av.open(str(source_path)) as source, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        heard = 0
        for packet in source.demux():
            if not packet.size or packet.pts is None or packet.dts is None:
                continue
            if packet.stream.type == "audio":
                heard += 1
                if heard - 1 in drop:
                    continue
                packet.pts += shift
                packet.dts += shift
            packet.stream = streams[packet.stream_index]
            out.mux(packet)
    return path


@pytest.mark.parametrize("shift", [24_000, -12_000])
def test_a_stream_that_starts_late_or_early_keeps_its_place(tmp_path: Path, shift: int) -> None:
    clicks = _clicks(2.0, 48_000)
    source = write_video(tmp_path / "v.mov", frames=50, sound=clicks, sound_codec="pcm_s16le")
    moved = read_audio(_shift_sound(source, tmp_path / "moved.mov", shift)).samples
    expected = np.concatenate([np.zeros(shift, np.float32), clicks]) if shift > 0 else clicks[-shift:]
    assert len(moved) == pytest.approx(len(expected), abs=1)
    assert np.abs(moved[: len(expected)] - expected[: len(moved)]).max() < 1e-3


def test_a_gap_is_silence_and_what_follows_keeps_its_time(tmp_path: Path) -> None:
    clicks = _clicks(2.0, 48_000)
    source = write_video(tmp_path / "v.mkv", frames=50, sound=clicks, sound_codec="pcm_s16le")
    found = read_audio(_shift_sound(source, tmp_path / "gap.mkv", 0, drop=range(30, 50))).samples
    assert abs(_lag(found, clicks)) <= 24
    assert not found[30 * 1024 + 48 : 50 * 1024 - 48].any()
    assert found[60 * 1024 :].any()


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("flac", rate=48_000, layout="stereo")
        stereo = np.stack([np.full(4096, 8000, np.int16), np.full(4096, 2000, np.int16)], axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(stereo, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert read_audio(path).samples == pytest.approx(np.full(4096, 5000 / 32768), abs=1e-4)


def test_a_video_without_sound_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpeechNotUsable, match=r"silent\.mp4: has no audio stream"):
        read_audio(write_video(tmp_path / "silent.mp4", frames=2))


def test_damaged_sound_is_an_error(tmp_path: Path, talking: Path) -> None:
    with av.open(str(talking)) as source:
        packets = [p for p in source.demux(audio=0) if p.size]
    content = bytearray(talking.read_bytes())
    for packet in packets[20:40]:
        assert packet.pos is not None
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(InvalidMedia, match=r"bad\.mp4"):
        read_audio(tmp_path / "bad.mp4")


@settings(max_examples=30, deadline=None)
@given(samples=arrays(np.float32, st.integers(0, 300), elements=st.floats(-1.5, 1.5, width=32)))
def test_wav_files_keep_samples_to_sixteen_bits_and_clip(
    tmp_path_factory: pytest.TempPathFactory, samples: NDArray[np.float32]
) -> None:
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    write_wav(path, Audio(samples, 22_050))
    back = read_wav(path)
    assert back.rate == 22_050
    assert len(back.samples) == len(samples)
    assert np.all(np.abs(back.samples - np.clip(samples, -1, 32767 / 32768)) <= 0.5 / 32768 + 1e-7)


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", Audio(tone(0.2, 16_000), 16_000))
    write_wav(tmp_path / "b.wav", read_wav(tmp_path / "a.wav"))
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"


def test_what_is_no_wav_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not sound")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "flac.wav", tone(0.1), 48_000, format="FLAC")
    for name in ("text.wav", "empty.wav", "flac.wav", "absent.wav"):
        with pytest.raises(InvalidMedia, match=name):
            read_wav(tmp_path / name)


def test_samples_of_a_wav_file_are_numbers_within_full_scale(tmp_path: Path) -> None:
    samples = np.array([0.25, np.nan, np.inf, -np.inf, 1e38, -3.0], np.float32)
    soundfile.write(tmp_path / "odd.wav", samples, 16_000, subtype="FLOAT")
    assert read_wav(tmp_path / "odd.wav").samples.tolist() == [0.25, 0.0, 1.0, -1.0, 1.0, -1.0]
