"""The parts of the hosted voice that are pure: splitting, pauses, limits, times, the cache, the work list."""

import io
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.voice.elevenlabs import cache
from avatar_pipeline.voice.elevenlabs.answers import Alignment
from avatar_pipeline.voice.elevenlabs.backoff import Backoff, Refusals, lowered, raised
from avatar_pipeline.voice.elevenlabs.cache import SpeechCache, Take, address_of
from avatar_pipeline.voice.elevenlabs.failures import ProviderFailure
from avatar_pipeline.voice.elevenlabs.reading import as_pcm
from avatar_pipeline.voice.elevenlabs.split import CONTEXT, split
from avatar_pipeline.voice.elevenlabs.times import characters_of, fault_of, joined
from avatar_pipeline.voice.elevenlabs.worklist import Again, Worklist

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = "One is here. Two, is it there? Three!"


def evenly(text: str, seconds: float) -> Alignment:
    step = seconds / len(text)
    return Alignment(
        tuple(text),
        tuple(i * step for i in range(len(text))),
        tuple((i + 1) * step for i in range(len(text))),
    )


# Splitting


def test_a_short_text_is_one_part_without_context() -> None:
    (part,) = split(TEXT, 1000)
    assert (part.text, part.start, part.before, part.after) == (TEXT, 0, "", "")


def test_it_is_cut_after_sentences_then_clauses_then_words_then_anywhere() -> None:
    assert [part.text for part in split(TEXT, 20)] == ["One is here.", "Two, is it there?", "Three!"]
    assert [part.text for part in split(TEXT, 13)] == ["One is here.", "Two,", "is it there?", "Three!"]
    assert [part.text for part in split("abcdefghij klm", 4)] == ["abcd", "efgh", "ij", "klm"]


def test_parts_know_what_is_around_them() -> None:
    first, second, third = split(TEXT, 20)
    assert (first.before, first.after) == ("", "Two, is it there? Three!")
    assert (second.before, second.after) == ("One is here.", "Three!")
    assert third.before == "One is here. Two, is it there?"


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300), st.integers(1, 60)
)
def test_nothing_but_space_is_lost_and_no_part_is_too_long(text: str, limit: int) -> None:
    parts = split(text, limit)
    place = 0
    for part in parts:
        assert part.text and len(part.text) <= limit and not part.text[0].isspace()
        assert text[part.start : part.start + len(part.text)] == part.text
        assert not text[place : part.start].strip()
        assert len(part.before) <= CONTEXT and len(part.after) <= CONTEXT
        place = part.start + len(part.text)
    assert not text[place:].strip()


# Pauses and limits


@given(st.integers(1, 60), st.floats(0, 1), st.none() | st.floats(0, 1e6))
def test_pauses_double_and_end(attempt: int, chance: float, asked: float | None) -> None:
    backoff = Backoff(first=1.0, longest=60.0)
    pause = backoff.pause(attempt, chance, asked)
    assert 0.5 <= pause <= 60.0
    assert pause >= min(60.0, 2.0 ** (attempt - 1)) / 2
    if asked is not None:
        assert pause >= min(asked, 60.0)


@given(st.integers(1, 40), st.none() | st.integers(0, 40), st.integers(0, 8), st.integers(0, 300))
def test_limits_are_at_least_one_and_never_above_what_is_allowed(
    learnt: int, maximum: int | None, count: int, ago: int
) -> None:
    refusals = Refusals(count, NOW - timedelta(seconds=ago)) if count else Refusals()
    less, more = lowered(learnt, maximum), raised(learnt, maximum, refusals, NOW)
    assert 1 <= less <= max(1, learnt - 1)
    assert more >= 1
    if maximum is not None:
        assert more <= max(1, maximum)
    else:
        assert more == learnt


def test_the_first_answer_sets_the_limit_and_a_refusal_lowers_it_for_a_moment() -> None:
    assert raised(2, 5, Refusals(), NOW) == 5
    once = Refusals().another(NOW)
    assert once.another(NOW + timedelta(milliseconds=300)) is once, "refused together is refused once"
    assert lowered(5, None) == 4
    assert raised(4, 5, once, NOW + timedelta(milliseconds=900)) == 4
    assert raised(4, 5, once, NOW + timedelta(seconds=1)) == 5
    often = once
    for seconds in (2, 4, 6):
        often = often.another(NOW + timedelta(seconds=seconds))
    assert raised(2, 5, often, NOW + timedelta(seconds=13)) == 2
    assert raised(2, 5, often, NOW + timedelta(seconds=14)) == 3
    assert raised(2, 5, often, NOW + timedelta(seconds=200)) == 5


# Times


def test_true_times_have_no_fault_and_are_kept() -> None:
    times = evenly(TEXT, 3.0)
    assert fault_of(times, 3.2) is None
    found = characters_of(TEXT, times, 3.2)
    assert found is not None
    assert "".join(one.character for one in found) == TEXT
    assert [one.start for one in found] == pytest.approx(list(times.starts))


@pytest.mark.parametrize(
    ("alignment", "fault"),
    [
        (None, "missing"),
        (Alignment((), (), ()), "missing"),
        (Alignment(("a", "b"), (0.0,), (0.1, 0.2)), "not a time for each"),
        (evenly(TEXT, 3.4), "0.40 s after"),
        (evenly(TEXT, 2.6), "0.40 s before"),
        (Alignment(("a", "b"), (0.5, 0.1), (2.9, 3.0)), "go back"),
        (Alignment(("a", "b"), (0.5, 2.0), (0.1, 3.0)), "ends before it starts"),
        (Alignment(("a", "b"), (0.0, math.nan), (1.0, 3.0)), "time that is none"),
    ],
)
def test_false_times_are_found(alignment: Alignment | None, fault: str) -> None:
    found = fault_of(alignment, 3.0)
    assert found is not None and fault in found


def test_characters_that_the_aligner_leaves_out_get_times_from_their_neighbours() -> None:
    found = characters_of("Hi, you.", evenly("hi you", 6.0), 6.0)
    assert found is not None
    assert "".join(one.character for one in found) == "Hi, you."
    assert [one.start for one in found] == sorted(one.start for one in found)
    assert found[4].start == pytest.approx(3.0), "the y of 'you'"


def test_times_of_another_text_are_refused() -> None:
    assert characters_of("Good morning.", evenly("12345 67890", 2.0), 2.0) is None


@given(st.text("abc .,", min_size=1, max_size=80).filter(lambda text: text.strip()), st.integers(2, 20))
def test_parts_join_into_the_whole_text_with_times_that_never_go_back(text: str, limit: int) -> None:
    parts = split(text, limit)
    lengths = [0.1 * len(part.text) for part in parts]
    times = [
        characters_of(part.text, evenly(part.text, length), length) for part, length in zip(parts, lengths, strict=True)
    ]
    whole = joined(text, parts, [one for one in times if one is not None], lengths)
    assert "".join(one.character for one in whole) == text
    assert [one.start for one in whole] == sorted(one.start for one in whole)
    assert whole[-1].end == pytest.approx(sum(lengths))


# The cache


def take(pcm: bytes = b"\1\0\2\0") -> Take:
    return Take(pcm, evenly("ab", 0.5), Decimal("1.5"), "req-1")


def test_what_is_kept_is_found_and_what_is_damaged_is_not(tmp_path: Path) -> None:
    cache = SpeechCache(tmp_path)
    address = address_of(text="a", seed=1)
    assert address != address_of(text="a", seed=2)
    assert address == address_of(seed=1, text="a")
    assert cache.get("ada", address) is None
    cache.put("ada", address, take())
    assert SpeechCache(tmp_path).get("ada", address) == take()
    assert cache.get("bob", address) is None
    (file,) = tmp_path.glob("ada/*")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert cache.get("ada", address) is None


def test_a_voice_goes_with_all_that_it_spoke_and_old_takes_go_by_themselves(tmp_path: Path) -> None:
    cache = SpeechCache(tmp_path)
    for voice_key in ("ada", "bob", "../../evil"):
        cache.put(voice_key, address_of(text="a"), take())
    assert not list(tmp_path.parent.parent.glob("evil*"))
    cache.remove_voice("ada")
    assert cache.get("ada", address_of(text="a")) is None
    assert cache.get("bob", address_of(text="a")) is not None
    assert cache.prune(1.0) == 0
    assert cache.prune(1.0, now=time.time() + 90_000) == 2


def test_a_voice_that_is_deleted_while_a_take_is_written_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeches, first = SpeechCache(tmp_path), iter([True])

    @contextmanager
    def deleted_meanwhile(path: Path) -> Iterator[Path]:
        with atomic_file(path) as temporary:
            for _ in first:
                speeches.remove_voice("ada")
            yield temporary

    monkeypatch.setattr(cache, "atomic_file", deleted_meanwhile)
    take = Take(b"\0\0", None, Decimal(1), "r")
    speeches.put("ada", "abc", take)
    assert speeches.get("ada", "abc") == take


def test_an_address_is_worked_on_by_one_at_a_time(tmp_path: Path) -> None:
    address = address_of(text="a")
    with SpeechCache(tmp_path).at_work(address) as mine:
        assert mine
        with SpeechCache(tmp_path).at_work(address) as theirs:
            assert not theirs
    with SpeechCache(tmp_path).at_work(address) as mine:
        assert mine


# The history's audio


@pytest.mark.parametrize(
    ("form", "rate", "content_type"),
    [("WAV", 24_000, "audio/wav"), ("WAV", 44_100, ""), ("MP3", 44_100, "audio/mpeg"), ("FLAC", 24_000, "audio/flac")],
)
def test_whatever_format_the_history_has_becomes_samples_at_our_rate(form: str, rate: int, content_type: str) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone, tone], 1), rate, format=form)
    samples = np.frombuffer(as_pcm(file.getvalue(), content_type), "<i2") / 32768
    assert len(samples) == pytest.approx(24_000, abs=1800)
    spectrum = np.abs(np.fft.rfft(samples[2_000:22_000]))
    assert np.argmax(spectrum) * 24_000 / 20_000 == pytest.approx(440, abs=2)


def test_raw_samples_stay_as_they_are_and_what_is_no_audio_is_found() -> None:
    assert as_pcm(b"\1\0\2\0\3", "audio/pcm") == b"\1\0\2\0"
    with pytest.raises(ProviderFailure):
        as_pcm(b"RIFF of nothing", "audio/wav")


# The work list


def test_each_task_comes_out_once_and_those_that_wait_come_again() -> None:
    tries: dict[int, int] = {}

    def step(task: int) -> int | Again:
        tries[task] = tries.get(task, 0) + 1
        return Again(0.001) if task % 3 == 0 and tries[task] < 4 else task

    assert sorted(Worklist(list(range(30)), step, threads=5).run()) == list(range(30))
    assert all(tries[task] == (4 if task % 3 == 0 else 1) for task in range(30))


def test_no_tasks_are_done_at_once() -> None:
    assert list(Worklist([], lambda task: task, threads=5).run()) == []


def test_an_error_that_nobody_expects_reaches_whoever_reads() -> None:
    def step(task: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Worklist([1, 2, 3], step, threads=2).run())


def test_closing_starts_no_more_and_waits_for_what_runs() -> None:
    begun: list[int] = []
    ended: list[int] = []
    go = threading.Event()

    def step(task: int) -> int:
        begun.append(task)
        if task:
            go.wait(5)
        ended.append(task)
        return task

    work = Worklist(list(range(50)), step, threads=2)
    results = work.run()
    assert next(results) == 0

    def end_what_runs() -> None:
        while not work.closed:
            time.sleep(0.001)
        go.set()

    threading.Thread(target=end_what_runs, daemon=True).start()
    results.close()
    assert sorted(begun) == sorted(ended) and len(begun) <= 3
    assert work.closed
