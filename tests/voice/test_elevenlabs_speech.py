"""Speech from ElevenLabs, against the stand-in and with the real SDK: what fails, what it costs, what is paid twice."""

import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from avatar_pipeline.errors import (
    InvalidInput,
    InvalidText,
    ProviderBusy,
    ProviderDenied,
    QualityTooLow,
    QuotaExhausted,
)
from avatar_pipeline.ledger.charges import Charge
from avatar_pipeline.settings import Settings
from avatar_pipeline.voice.elevenlabs import open_elevenlabs
from avatar_pipeline.voice.elevenlabs.answers import HistoryItem
from avatar_pipeline.voice.elevenlabs.backoff import Backoff
from avatar_pipeline.voice.elevenlabs.cache import SpeechCache
from avatar_pipeline.voice.elevenlabs.door import Door, Residency
from avatar_pipeline.voice.elevenlabs.failures import Kind, ProviderFailure
from avatar_pipeline.voice.elevenlabs.provider import ElevenLabsProvider
from avatar_pipeline.voice.provider import Utterance
from avatar_pipeline.voice.types import VOICE_PATTERN, VoiceModel, VoiceSettings, account_voice_id, voice_language
from tests.elevenlabs.rules import SPEECH
from tests.voice.hosted import NAME, STOCK, Desk, error, speak, speech, stock_voice

OpenDesk = Callable[..., Desk]
TEXT = "It is here."


def credits_in_ledger(desk: Desk) -> Decimal:
    assert desk.charges.open_credits(NAME) == 0
    return desk.charges.spent(NAME, desk.clock().replace(year=2000))


class Killed(BaseException):
    """The worker dies here."""


def test_a_text_is_spoken_as_it_is_read_and_what_it_cost_is_in_the_ledger(open_desk: OpenDesk) -> None:
    desk = open_desk()
    said = speech(speak(desk.worker(), "At 5 o'clock.")[0])
    assert "".join(one.character for one in said.characters) == "At five o'clock."
    assert said.audio.rate == 24_000
    assert said.characters[-1].end == pytest.approx(said.audio.seconds, abs=0.05)
    assert said.credits == 8 and said.cost == Decimal("0.0016"), "16 characters of a model at half price"
    assert not said.exact and said.phonemes and said.words
    assert credits_in_ledger(desk) == 8
    (billed,) = desk.standin.report().billed
    assert (billed.text, billed.times) == ("At five o'clock.", 1)
    assert desk.leases.in_flight(NAME, "turbo") == 0


@pytest.mark.parametrize("fault", ["system_busy", "internal_error", "unavailable"])
def test_what_is_busy_is_tried_again(open_desk: OpenDesk, fault: str) -> None:
    desk = open_desk(faults=[fault, fault])
    speech(speak(desk.worker(), TEXT)[0])
    assert desk.standin.report().calls[SPEECH] == 3
    assert credits_in_ledger(desk) == 6


def test_what_is_busy_for_too_long_fails_alone_and_costs_nothing(open_desk: OpenDesk) -> None:
    desk = open_desk(faults=["system_busy"] * 5)
    assert isinstance(error(speak(desk.worker(), TEXT)[0]), ProviderBusy)
    assert credits_in_ledger(desk) == 0
    speech(speak(desk.worker(), TEXT)[0])


@pytest.mark.parametrize("shape", ["status", "code"])
def test_too_many_at_once_lowers_the_limit_and_counts_as_no_attempt(open_desk: OpenDesk, shape: str) -> None:
    desk = open_desk(faults=["too_many_concurrent"] * 7, error_shape=shape)
    desk.leases.learn_limit(NAME, "turbo", 6)
    limits: list[int | None] = []
    learn = desk.leases.learn_limit

    def noted(provider: str, group: str, limit: int) -> None:
        limits.append(limit)
        learn(provider, group, limit)

    desk.leases.learn_limit = noted  # type: ignore[method-assign]
    speech(speak(desk.worker(backoff=Backoff(0.005, 0.02, 2)), TEXT)[0])
    assert limits[0] == 5
    assert credits_in_ledger(desk) == 6


def test_the_limit_of_the_header_is_followed(open_desk: OpenDesk) -> None:
    desk = open_desk(tier="starter")
    worker = desk.worker()
    assert worker.limits().in_flight == 2
    speech(speak(worker, TEXT)[0])
    assert worker.limits().in_flight == 6
    desk.standin.change(limits={"turbo": 3})
    speech(speak(worker, "And here.")[0])
    assert desk.leases.limit(NAME, "turbo") == 3


def test_workers_together_keep_to_the_limit(open_desk: OpenDesk) -> None:
    desk = open_desk(limits={"turbo": 3}, base_seconds=0.02)
    workers = [desk.worker(cache=f"cache-{i}") for i in range(2)]
    batches = [[Utterance(f"{i}-{j}", stock_voice(), f"Text {i} of {j}.") for j in range(8)] for i in range(2)]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda pair: list(pair[0].synthesize(pair[1])), zip(workers, batches, strict=True)))
    assert all(spoken.error is None for batch in done for spoken in batch)
    report = desk.standin.report()
    assert report.most_in_flight["turbo"] <= 3 and not report.over_limit
    assert len(report.billed) == 16 and not report.billed_twice


def test_a_quota_that_is_used_up_pauses_all_workers_until_it_is_renewed(open_desk: OpenDesk) -> None:
    resets_at = time.time() + 3600
    desk = open_desk(quota=20, quota_resets_at=resets_at)
    desk.standin.change(credits_used=0)
    worker = desk.worker(threads=1)
    worker.limits()  # what is left is known from before somebody else used it up
    desk.standin.change(credits_used=13)
    done = speak(worker, TEXT, "Two of it.", "Three of it.", "Four of it.")
    assert [spoken.error is None for spoken in done] == [True, False, False, False]
    for spoken in done[1:]:
        refused = error(spoken)
        assert isinstance(refused, QuotaExhausted)
        assert refused.resets_at is not None and refused.resets_at.timestamp() == pytest.approx(resets_at, abs=1)
    assert desk.standin.report().answers["401"] == 1, "the others were not sent"
    calls = desk.standin.report().calls[SPEECH]
    assert isinstance(error(speak(desk.worker(), "Five of it.")[0]), QuotaExhausted)
    assert desk.standin.report().calls[SPEECH] == calls
    assert credits_in_ledger(desk) == 6

    desk.offset = 3601
    desk.standin.change(credits_used=0)
    speech(speak(desk.worker(), "Two of it.")[0])


def test_credits_that_are_bought_before_they_are_renewed_are_seen_within_the_hour(open_desk: OpenDesk) -> None:
    desk = open_desk(quota=20, quota_resets_at=time.time() + 20 * 86_400)
    worker = desk.worker()
    worker.limits()
    desk.standin.change(credits_used=19)
    assert isinstance(error(speak(worker, TEXT)[0]), QuotaExhausted)
    assert desk.standin.report().answers["401"] == 1
    desk.standin.change(quota=10_000)
    desk.offset = 3601
    speech(speak(worker, TEXT)[0])


def test_a_quota_without_a_known_reset_is_tried_again_in_an_hour(open_desk: OpenDesk) -> None:
    desk = open_desk(quota=20)
    worker = desk.worker(threads=1)
    worker.limits()
    desk.standin.change(credits_used=20)
    refused = error(speak(worker, TEXT)[0])
    assert isinstance(refused, QuotaExhausted) and refused.resets_at is None
    pause = desk.leases.paused(NAME, "turbo")
    assert pause is not None and pause.reason == "quota_exceeded"
    assert 3500 < (pause.until - desk.clock()).total_seconds() <= 3600


def test_what_would_not_fit_is_not_sent_at_all(open_desk: OpenDesk) -> None:
    desk = open_desk(quota=7)
    long, short = speak(desk.worker(), "It is a long text, this one.", TEXT)
    assert isinstance(error(long), QuotaExhausted)
    speech(short)
    assert desk.standin.report().calls[SPEECH] == 1


def test_a_key_that_is_refused_stops_everything_and_is_nowhere_to_be_read(
    open_desk: OpenDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk = open_desk()
    key = "sk_very-secret-0123456789"
    worker = desk.worker(key=key)
    with caplog.at_level(logging.DEBUG):
        done = speak(worker, TEXT, "And here.")
        for spoken in done:
            assert isinstance(error(spoken), ProviderDenied)
        with pytest.raises(ProviderDenied) as denied:
            worker.limits()
    assert "invalid_api_key" in denied.value.message and "AVATAR_ELEVENLABS_API_KEY" in denied.value.remedy
    seen = [caplog.text, repr(worker), repr(vars(worker)), repr(vars(worker._door)), str(denied.value)]
    seen += [str(spoken.error) + repr(spoken.error) for spoken in done]
    assert not any(key in text for text in seen)


def test_a_key_that_is_refused_midway_stops_the_rest(open_desk: OpenDesk) -> None:
    desk = open_desk()
    worker = desk.worker(threads=1)
    worker.limits()
    desk.standin.account.rules = desk.standin.account.rules.changed({"api_key": "another"})
    first, second = speak(worker, TEXT, "And here.")
    assert isinstance(error(first), ProviderDenied) and error(second) is error(first)


@pytest.mark.parametrize("key", [None, "", "  ", "schlüssel", "a\nb"])
def test_what_is_no_key_is_found_before_anything_is_sent(
    open_desk: OpenDesk, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ELEVENLABS_API_KEY", "AVATAR_ELEVENLABS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    desk = open_desk()
    with pytest.raises(ProviderDenied) as denied:
        open_elevenlabs(
            Settings() if key is None else Settings(AVATAR_ELEVENLABS_API_KEY=key),
            desk.leases,
            desk.charges,
            desk.voices,
            cache_folder=desk.folder,
            enrolments=lambda _: None,
        )
    assert not key or not key.strip() or key not in str(denied.value)


def test_the_key_is_read_by_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVATAR_ELEVENLABS_API_KEY", raising=False)
    monkeypatch.setenv("ELEVENLABS_API_KEY", "sk_one")
    assert Settings().elevenlabs_api_key == SecretStr("sk_one")
    monkeypatch.setenv("AVATAR_ELEVENLABS_API_KEY", "sk_two")
    assert Settings().elevenlabs_api_key == SecretStr("sk_two")
    assert "sk_" not in repr(Settings())


@pytest.mark.parametrize(
    ("residency", "host"),
    [
        ("global", "https://api.elevenlabs.io"),
        ("us", "https://api.us.elevenlabs.io"),
        ("eu", "https://api.eu.residency.elevenlabs.io"),
        ("in", "https://api.in.residency.elevenlabs.io"),
        ("sg", "https://api.sg.residency.elevenlabs.io"),
    ],
)
def test_data_stay_where_the_settings_say(residency: Residency, host: str) -> None:
    door = Door(SecretStr("k"), residency=residency, timeout=1.0)
    assert door._sdk._client_wrapper.get_base_url() == host


@pytest.mark.parametrize("fault", ["hang", "cut_connection", "cut_json", "empty_audio"])
def test_what_was_cut_off_is_found_in_the_history_and_billed_once(open_desk: OpenDesk, fault: str) -> None:
    desk = open_desk(faults=[fault], history_lag_seconds=0.05)
    said = speech(speak(desk.worker(elevenlabs_timeout_seconds=0.3), TEXT, "And here.")[0])
    report = desk.standin.report()
    assert not report.billed_twice and report.times_billed(TEXT) == 1
    assert report.calls[SPEECH] == 2
    assert "".join(one.character for one in said.characters) == TEXT
    assert said.characters[-1].end == pytest.approx(said.audio.seconds, abs=0.1)
    assert said.credits == 6 and said.request_ids
    assert credits_in_ledger(desk) == report.credits_billed


def test_the_same_text_twice_at_once_is_one_piece_of_work(open_desk: OpenDesk) -> None:
    desk = open_desk(base_seconds=0.05)
    first, second = speak(desk.worker(), TEXT, TEXT)
    assert np.array_equal(speech(first).audio.samples, speech(second).audio.samples)
    assert desk.standin.report().times_billed(TEXT) == 1


def test_two_machines_with_the_same_text_at_once_pay_once(open_desk: OpenDesk) -> None:
    desk = open_desk(base_seconds=0.1)
    reserve, both, calls = desk.charges.reserve, threading.Barrier(2), itertools.count()

    def together(*work: Any, **more: Any) -> Charge:
        charge = reserve(*work, **more)
        if next(calls) < 2:
            both.wait(5)
        return charge

    desk.charges.reserve = together  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda i: speak(desk.worker(cache=f"cache-{i}"), TEXT)[0], range(2)))
    assert [speech(spoken).credits for spoken in done] == [6, 6]
    assert credits_in_ledger(desk) == 6
    (billed,) = desk.standin.report().billed
    assert billed.times == 1


def test_whoever_is_overtaken_by_another_machine_takes_what_that_one_spoke(open_desk: OpenDesk) -> None:
    desk = open_desk()
    reserve, others = desk.charges.reserve, iter([desk.worker(cache="cache-2")])

    def overtaken(*work: Any, **more: Any) -> Charge:
        charge = reserve(*work, **more)
        for other in others:
            speech(speak(other, TEXT)[0])
        return charge

    desk.charges.reserve = overtaken  # type: ignore[method-assign]
    speech(speak(desk.worker(), TEXT)[0])
    assert credits_in_ledger(desk) == 6
    assert len(desk.standin.report().billed) == 1


def test_one_item_of_the_history_answers_for_one_call_only(open_desk: OpenDesk) -> None:
    """Two voices of one sound, both cut off: each finds its own."""
    desk = open_desk(faults=["cut_json", "cut_json"])
    done = speak(desk.worker(), TEXT, TEXT, settings=VoiceSettings(speed=1.0))
    other = speak(desk.worker(), TEXT, settings=VoiceSettings(speed=1.1))
    names = {speech(spoken).request_ids for spoken in (*done, *other)}
    assert len(names) == 2
    assert credits_in_ledger(desk) == desk.standin.report().credits_billed == 12


def test_a_call_that_came_to_nothing_is_made_again_after_a_while(open_desk: OpenDesk) -> None:
    desk = open_desk()
    worker = desk.worker(elevenlabs_timeout_seconds=0.2, grace=0.1)
    charge = order_of(worker, TEXT)
    desk.charges.reserve(NAME, charge, Decimal(6), tenant="default", available=None)
    desk.charges.sent(NAME, charge)
    began = time.monotonic()
    speech(speak(worker, TEXT)[0])
    assert time.monotonic() - began > 0.25, "whoever sent it may have been waiting for the answer"
    assert desk.standin.report().calls["history"] >= 2
    assert credits_in_ledger(desk) == 6


def order_of(worker: ElevenLabsProvider, text: str, voice: VoiceModel | None = None) -> str:
    """The address of a text of one part."""
    from avatar_pipeline.voice.elevenlabs.orders import job_of

    utterance = Utterance("x", voice or stock_voice(), text)
    return job_of(utterance, worker._model(), seed=1).orders[0].address


def test_what_comes_into_the_history_while_it_is_read_is_not_missed(open_desk: OpenDesk) -> None:
    """It came to nothing if the history, read after the time for it was over, does not hold it."""
    desk = open_desk(faults={"script": {SPEECH: ["hang"]}}, hang_seconds=2.0, history_lag_seconds=60)
    worker = desk.worker(elevenlabs_timeout_seconds=0.3, grace=5.0)
    history, first = worker._door.history, iter([True])

    def slowly(*, since: datetime | None = None) -> Iterator[HistoryItem]:
        found = list(history(since=since))
        for _ in first:
            assert not found
            desk.offset += 30
            desk.standin.change(history_lag_seconds=0)
        yield from found

    worker._door.history = slowly  # type: ignore[method-assign]
    speech(speak(worker, TEXT)[0])
    assert desk.standin.report().times_billed(TEXT) == 1


def test_a_history_that_cannot_be_read_is_no_reason_to_stop(open_desk: OpenDesk) -> None:
    desk = open_desk(faults={"script": {SPEECH: ["cut_json"], "history": ["system_busy"] * 2}})
    speech(speak(desk.worker(), TEXT)[0])
    assert desk.standin.report().times_billed(TEXT) == 1


def test_a_ledger_that_fails_after_the_answer_does_not_lose_what_was_paid_for(open_desk: OpenDesk) -> None:
    desk = open_desk()
    learn, release = desk.leases.learn_limit, desk.leases.release

    def locked(*_: object, **__: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    desk.leases.release = locked  # type: ignore[method-assign]
    speech(speak(desk.worker(), TEXT)[0])
    desk.leases.release = release  # type: ignore[method-assign]
    desk.leases.learn_limit = locked  # type: ignore[method-assign]
    desk.standin.change(limits={"turbo": 3})
    with pytest.raises(OperationalError):
        speak(desk.worker(), "And here.")
    desk.leases.learn_limit = learn  # type: ignore[method-assign]
    desk.standin.account.history.clear()
    speech(speak(desk.worker(), "And here.")[0])
    assert not desk.standin.report().billed_twice


def test_an_answer_that_holds_something_else_is_a_failure_of_its_own() -> None:
    """The SDK checks nothing: a field that is missing is None, and so may be anything."""
    import httpx

    bodies: list[object] = [
        None,
        [],
        {},
        [None],
        {"history": [None], "voices": [None]},
        "text",
        {"voice_limit": "many"},
    ]
    door = Door(SecretStr("k" * 32), url="http://stand-in", timeout=1.0)
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json=bodies[0]))
    door._sdk._client_wrapper.httpx_client.httpx_client = httpx.Client(transport=answer)
    sent: dict[str, Any] = {"model": "m", "language": "en", "seed": 1, "speed": 1.0, "before": "", "after": ""}
    asked: list[Callable[[], object]] = [
        door.subscription,
        door.models,
        lambda: list(door.history()),
        lambda: door.voice("v"),
        lambda: door.voices_named("v"),
        lambda: door.add_voice("v", b"", description="", labels={}),
        lambda: door.speak("v", TEXT, **sent),
        lambda: door.align(b"", TEXT),
    ]
    while bodies:
        for ask in asked:
            try:
                ask()
            except ProviderFailure as failed:
                assert failed.failure.kind is Kind.UNCLEAR
        bodies.pop(0)


# Killed workers


def test_a_worker_killed_between_the_audio_and_the_bill_is_followed_by_one_that_pays_nothing(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(desk.charges, "settle", _die)
        speak(desk.worker(threads=1), TEXT)
    calls = desk.standin.report().calls[SPEECH]
    assert calls == 1
    assert desk.charges.open_credits(NAME) == 6
    said = speech(speak(desk.worker(), TEXT)[0])
    assert said.credits == 6
    assert desk.standin.report().calls[SPEECH] == 1
    assert credits_in_ledger(desk) == 6


def test_a_worker_killed_after_sending_is_followed_by_one_that_looks_into_the_history(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SpeechCache, "put", _die)
        speak(desk.worker(threads=1), TEXT)
    said = speech(speak(desk.worker(cache="of another machine"), TEXT)[0])
    report = desk.standin.report()
    assert report.times_billed(TEXT) == 1 and report.calls["history_audio"] == 1
    assert "".join(one.character for one in said.characters) == TEXT
    assert credits_in_ledger(desk) == 6


def test_a_worker_killed_before_sending_leaves_nothing_to_pay(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(desk.charges, "sent", _die)
        patch.setattr(desk.charges, "release", lambda *_, **__: None)
        speak(desk.worker(threads=1), TEXT)
    speech(speak(desk.worker(), TEXT)[0])
    assert desk.standin.report().times_billed(TEXT) == 1
    assert credits_in_ledger(desk) == 6


def test_what_was_paid_for_on_another_machine_is_fetched_from_the_history(open_desk: OpenDesk) -> None:
    desk = open_desk()
    first = speech(speak(desk.worker(cache="here"), TEXT)[0])
    again = speech(speak(desk.worker(cache="there"), TEXT)[0])
    assert np.array_equal(first.audio.samples, again.audio.samples)
    assert again.request_ids == first.request_ids
    assert desk.standin.report().times_billed(TEXT) == 1
    assert credits_in_ledger(desk) == 6


def test_what_was_paid_for_and_is_lost_everywhere_is_paid_for_under_another_name(open_desk: OpenDesk) -> None:
    desk = open_desk()
    speech(speak(desk.worker(cache="here"), TEXT)[0])
    desk.standin.account.history.clear()
    speech(speak(desk.worker(cache="there"), TEXT)[0])
    assert desk.standin.report().times_billed(TEXT) == 2
    assert credits_in_ledger(desk) == desk.standin.report().credits_billed == 12


def _die(*_: object, **__: object) -> Charge:
    raise Killed


# Times


@pytest.mark.parametrize("fault", ["drifted_alignment", "missing_alignment"])
def test_times_that_are_wrong_are_worked_out_anew_once(open_desk: OpenDesk, fault: str) -> None:
    desk = open_desk(faults=[fault])
    said = speech(speak(desk.worker(), TEXT)[0])
    assert said.characters[-1].end == pytest.approx(said.audio.seconds, abs=0.1)
    assert desk.standin.report().calls["alignment"] == 1
    again = speech(speak(desk.worker(), TEXT)[0])
    assert again.characters == said.characters
    assert desk.standin.report().calls["alignment"] == 1


def test_times_that_cannot_be_had_are_an_error_that_says_so(open_desk: OpenDesk) -> None:
    desk = open_desk(faults={"script": {SPEECH: ["drifted_alignment"], "alignment": ["internal_error"] * 5}})
    failed = error(speak(desk.worker(), TEXT)[0])
    assert isinstance(failed, QualityTooLow) and "after the audio" in failed.message
    assert "internal_server_error" in failed.message
    speech(speak(desk.worker(), TEXT)[0])
    assert desk.standin.report().times_billed(TEXT) == 1, "the audio was kept"


# Long texts, settings, items at fault


def test_a_long_text_is_sent_in_parts_that_know_each_other(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    worker = desk.worker()
    model = worker._model()
    worker._known_model = type(model)(model.model_id, model.group, 30, model.multiplier, model.languages)
    sent: list[tuple[str, str, str]] = []
    call = worker._door.speak

    def noted(voice_id: str, text: str, **options: str) -> object:
        sent.append((options["before"], text, options["after"]))
        return call(voice_id, text, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(worker._door, "speak", noted)
    text = "This is the first sentence. Here is the second one!\n\nAnd this is the last."
    said = speech(speak(worker, text)[0])
    assert sorted(sent) == sorted(
        [
            ("", "This is the first sentence.", "Here is the second one!\n\nAnd this is the last."),
            ("This is the first sentence.", "Here is the second one!", "And this is the last."),
            ("This is the first sentence. Here is the second one!", "And this is the last.", ""),
        ]
    )
    assert "".join(one.character for one in said.characters) == text
    starts = [one.start for one in said.characters]
    assert starts == sorted(starts)
    second = text.index("Here")
    assert said.characters[second].start == pytest.approx(27 * 0.06, abs=0.01)
    assert said.audio.seconds == pytest.approx(71 * 0.06, abs=0.02)
    assert said.credits == 14 + 12 + 11 and len(said.request_ids) == 3


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_speeds_beyond_what_it_takes_are_reached_here(open_desk: OpenDesk, speed: float) -> None:
    desk = open_desk()
    said = speech(speak(desk.worker(), TEXT, settings=VoiceSettings(speed=speed))[0])
    assert said.audio.seconds == pytest.approx(len(TEXT) * 0.06 / speed, rel=0.02)
    assert said.characters[-1].end == pytest.approx(said.audio.seconds, abs=0.02)


def test_only_the_item_at_fault_fails(open_desk: OpenDesk) -> None:
    desk = open_desk()
    gone = stock_voice().model_copy(update={"parameters": {"voice_id": "nobody"}})
    other = stock_voice().model_copy(update={"provider": "local"})
    batch = [
        Utterance("gone", gone, TEXT),
        Utterance("empty", stock_voice(), "   "),
        Utterance("other", other, TEXT),
        Utterance("good", stock_voice(), TEXT),
    ]
    done = {spoken.utterance.key: spoken for spoken in desk.worker().synthesize(batch)}
    assert isinstance(error(done["gone"]), ProviderDenied) and "voice_not_found" in error(done["gone"]).message
    assert isinstance(error(done["empty"]), InvalidText)
    assert isinstance(error(done["other"]), InvalidInput)
    speech(done["good"])
    assert credits_in_ledger(desk) == 6


def test_an_unknown_model_is_said_with_those_that_there_are(open_desk: OpenDesk) -> None:
    desk = open_desk()
    (done,) = speak(desk.worker(elevenlabs_model="eleven_nothing"), TEXT)
    assert isinstance(error(done), ProviderDenied)
    assert "eleven_multilingual_v2" in error(done).remedy


def test_closing_sends_no_more_and_keeps_what_was_paid_for(open_desk: OpenDesk) -> None:
    desk = open_desk(base_seconds=0.05, limits={"turbo": 2})
    results = desk.worker(threads=4).synthesize([Utterance(str(i), stock_voice(), f"Number {i}.") for i in range(20)])
    next(results)
    results.close()  # type: ignore[attr-defined]
    report = desk.standin.report()
    assert 1 <= len(report.billed) <= 6
    assert credits_in_ledger(desk) == report.credits_billed
    assert desk.leases.in_flight(NAME, "turbo") == 0


def test_nothing_is_asked_for_nothing(open_desk: OpenDesk) -> None:
    assert list(open_desk().worker().synthesize([])) == []


def test_what_the_account_and_the_model_allow(open_desk: OpenDesk) -> None:
    desk = open_desk(quota=500, quota_resets_at=2_000_000_000.0, voice_limit=3)
    limits = desk.worker(elevenlabs_model="eleven_multilingual_v2").limits()
    assert (limits.text_characters, limits.credits_left, limits.voices, limits.voices_used) == (10_000, 500, 3, 0)
    assert limits.resets_at is not None and limits.resets_at.timestamp() == 2_000_000_000.0
    assert "de" in limits.languages


def test_a_server_that_is_not_there_is_busy(open_desk: OpenDesk) -> None:
    desk = open_desk()
    worker = desk.worker(elevenlabs_url="http://127.0.0.1:9")
    assert isinstance(error(speak(worker, TEXT)[0]), ProviderBusy)


def test_a_voice_of_the_account_needs_no_speech(open_desk: OpenDesk) -> None:
    voice = open_desk().worker(account_voice=STOCK).create_voice(None, None, language="en")
    assert voice.parameters["voice_id"] == STOCK


def test_the_stock_voice_is_named_by_its_id(open_desk: OpenDesk) -> None:
    desk = open_desk()
    worker = desk.worker()
    voice = worker.stock_voice(STOCK, language="de")
    assert (voice.parameters["voice_id"], voice.language, voice.consent_id) == (STOCK, "de", None)
    worker.delete_voice(voice)
    assert STOCK in desk.standin.account.voices, "it is not ours"
    with pytest.raises(ProviderDenied):
        worker.stock_voice("nobody", language="de")
    with pytest.raises(InvalidInput):
        worker.stock_voice(STOCK, language="xx")


@pytest.mark.parametrize(
    ("voice", "language", "account"),
    [
        ("enrol:en-us", "en-us", None),
        ("local:de", "de", None),
        (f"elevenlabs:{STOCK}", "en", STOCK),
        (f"elevenlabs:{STOCK}:pt-br", "pt-br", STOCK),
    ],
)
def test_voices_are_named_in_requests(voice: str, language: str, account: str | None) -> None:
    assert re.fullmatch(VOICE_PATTERN, voice)
    assert (voice_language(voice), account_voice_id(voice)) == (language, account)


@pytest.mark.parametrize("voice", ["elevenlabs:", "elevenlabs:en", "elevenlabs:../../x12345", f"elevenlabs:{STOCK}:"])
def test_what_is_no_voice_is_refused(voice: str) -> None:
    assert not re.fullmatch(VOICE_PATTERN, voice)
