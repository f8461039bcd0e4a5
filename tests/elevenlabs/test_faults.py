"""Every fault does what its name says, and bills what it should."""

from __future__ import annotations

import base64
import time
from typing import Any

import httpx
import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from hypothesis import given
from hypothesis import strategies as st

from tests.elevenlabs.conftest import ADAM, RECORDING, TEXT, sdk
from tests.elevenlabs.rules import REFUSING, Fault, Faults
from tests.elevenlabs.server import StandIn
from tests.elevenlabs.test_limits import refusal, speak
from tests.elevenlabs.test_routes import name_of


@pytest.mark.parametrize(
    ("fault", "status", "name"),
    [
        ("too_many_concurrent", 429, "too_many_concurrent_requests"),
        ("system_busy", 429, "system_busy"),
        ("internal_error", 500, "internal_server_error"),
        ("unavailable", 503, "service_unavailable"),
    ],
)
def test_refusals_bill_nothing_and_the_next_call_passes(
    fault: str, status: int, name: str, client: ElevenLabs, standin: StandIn
) -> None:
    standin.change(faults=[fault])

    assert refusal(client) == (status, name)
    assert standin.report().billed == ()
    speak(client)
    report = standin.report()
    assert (report.times_billed(TEXT), report.faults, report.history_items) == (1, {fault: 1}, 1)


def test_too_many_has_another_name_in_the_other_shape(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(faults=["too_many_concurrent"], error_shape="code")

    assert refusal(client) == (429, "concurrent_limit_exceeded")


def test_refusals_can_say_when_to_come_again(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(faults=["system_busy"], retry_after=7)

    with pytest.raises(ApiError) as refused:
        speak(client)
    assert (refused.value.headers or {})["retry-after"] == "7"


def test_hang_bills_and_keeps_the_speech_but_never_answers(standin: StandIn) -> None:
    standin.change(faults=["hang"])
    client = sdk(standin, timeout=0.2)

    with pytest.raises(httpx.ReadTimeout):
        speak(client)
    [item] = client.history.list().history

    assert standin.report().times_billed(TEXT) == 1
    assert item.text == TEXT
    assert len(b"".join(client.history.get_audio(item.history_item_id))) > 1000
    assert standin.report().in_flight == {"standard": 0}


def test_hang_ends_without_an_answer(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(faults=["hang"], hang_seconds=0.1)

    with pytest.raises(httpx.RemoteProtocolError):
        speak(client)


def test_cut_connection_bills(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(faults=["cut_connection", None, "cut_connection"])

    with pytest.raises(httpx.RemoteProtocolError):
        speak(client)
    speak(client)
    with pytest.raises(httpx.RemoteProtocolError):
        list(client.text_to_speech.stream(ADAM, text=TEXT, output_format="pcm_24000"))

    assert standin.report().times_billed(TEXT) == 3


def test_cut_json_bills_and_cannot_be_read(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(faults=["cut_json"])

    with pytest.raises(ApiError) as broken:
        speak(client)

    assert broken.value.status_code == 200
    assert standin.report().times_billed(TEXT) == 1


def _seconds(spoken: Any) -> float:
    return len(base64.b64decode(spoken.audio_base_64)) / 2 / 24_000


def test_drifted_alignment_ends_after_the_audio(client: ElevenLabs, standin: StandIn) -> None:
    true = speak(client).data
    standin.change(faults=["drifted_alignment"])
    drifted = speak(client).data

    assert true.alignment.character_end_times_seconds[-1] == pytest.approx(_seconds(true), abs=0.01)
    assert drifted.audio_base_64 == true.audio_base_64
    assert drifted.alignment.character_end_times_seconds[-1] - _seconds(drifted) > 0.3
    assert drifted.alignment.characters == true.alignment.characters


def test_missing_alignment_is_null(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(faults=["missing_alignment"])
    spoken = speak(client).data

    assert (spoken.alignment, spoken.normalized_alignment) == (None, None)
    assert _seconds(spoken) > 1


def test_empty_audio_is_billed(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(faults=["empty_audio"])

    assert speak(client).data.audio_base_64 == ""
    assert standin.report().times_billed(TEXT) == 1


def test_other_routes_have_scripts_of_their_own(standin: StandIn) -> None:
    client = sdk(standin, timeout=0.3)
    standin.change(
        faults={"script": {"voices_add": ["hang"], "history": ["system_busy"], "subscription": ["cut_json"]}}
    )
    no_retry: Any = {"max_retries": 0}

    with pytest.raises(httpx.ReadTimeout):
        client.voices.ivc.create(name="Ada", files=[("a.wav", RECORDING)], request_options=no_retry)
    with pytest.raises(ApiError) as busy:
        client.history.list(request_options=no_retry)
    with pytest.raises(ApiError):
        client.user.subscription.get(request_options=no_retry)

    assert name_of(busy.value) == "system_busy"
    assert list(standin.report().voices.values()) == ["Ada"]  # made, though nobody was told
    client.history.list()
    client.user.subscription.get()


def test_stopping_lets_hanging_calls_go() -> None:
    with StandIn(speech="beeps", faults=["hang"]) as standin:
        with pytest.raises(httpx.ReadTimeout):
            speak(sdk(standin, timeout=0.1))
        start = time.monotonic()
    assert time.monotonic() - start < 2


@given(shares=st.dictionaries(st.sampled_from(list(Fault)), st.floats(0, 0.1)), seed=st.integers(0, 9))
def test_shares_are_met_and_repeat(shares: dict[Fault, float], seed: int) -> None:
    faults = Faults(shares=shares, seed=seed)
    drawn = [faults.drawn(ADAM, f"Line {number}", 0) for number in range(300)]

    assert drawn == [faults.drawn(ADAM, f"Line {number}", 0) for number in range(300)]
    for fault, share in shares.items():
        assert drawn.count(fault) / 300 == pytest.approx(share, abs=0.1)
    assert {fault for fault in drawn if fault} <= {fault for fault, share in shares.items() if share}


def test_another_try_of_a_text_draws_again() -> None:
    faults = Faults(shares={Fault.SYSTEM_BUSY: 0.5})

    assert {faults.drawn(ADAM, TEXT, attempt) for attempt in range(20)} == {None, Fault.SYSTEM_BUSY}


def test_only_refusing_faults_bill_nothing() -> None:
    assert {fault.value for fault in REFUSING} == {
        "too_many_concurrent",
        "system_busy",
        "internal_error",
        "unavailable",
    }
