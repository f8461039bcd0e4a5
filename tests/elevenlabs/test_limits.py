"""What the stand-in refuses, and what it counts."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import UnprocessableEntityError

from tests.elevenlabs.account import Account
from tests.elevenlabs.conftest import ADAM, RECORDING, TEXT, sdk
from tests.elevenlabs.offers import OFFERS
from tests.elevenlabs.refusals import Refusal
from tests.elevenlabs.rules import Rules
from tests.elevenlabs.server import StandIn
from tests.elevenlabs.test_routes import name_of

FILE = ("ada.wav", RECORDING, "audio/wav")
NO_RETRY: Any = {"max_retries": 0}


def speak(client: ElevenLabs, text: str = TEXT, voice: str = ADAM, **more: Any) -> Any:
    return client.text_to_speech.with_raw_response.convert_with_timestamps(
        voice, text=text, **({"output_format": "pcm_24000", "request_options": NO_RETRY} | more)
    )


def refusal(client: ElevenLabs, text: str = TEXT, voice: str = ADAM, **more: Any) -> tuple[int | None, str]:
    with pytest.raises(ApiError) as refused:
        speak(client, text, voice, **more)
    return refused.value.status_code, name_of(refused.value)


def test_key_is_demanded(standin: StandIn) -> None:
    stranger = ElevenLabs(api_key="wrong", base_url=standin.url)

    assert refusal(stranger) == (401, "invalid_api_key")
    with pytest.raises(ApiError) as refused:
        ElevenLabs(api_key="", base_url=standin.url).models.list()
    assert refused.value.status_code == 401


def test_what_cannot_be_spoken_is_refused_and_costs_nothing(client: ElevenLabs, standin: StandIn) -> None:
    assert refusal(client, voice="nobody") == (404, "voice_not_found")
    assert refusal(client, text="a" * 10_001) == (400, "max_character_limit_exceeded")
    assert refusal(client, text="a" * 40_001, model_id="eleven_flash_v2_5") == (400, "max_character_limit_exceeded")
    assert refusal(client, model_id="eleven_v99") == (400, "model_not_found")
    assert refusal(client, model_id="eleven_english_sts_v2") == (400, "model_can_not_do_text_to_speech")
    assert refusal(client, voice_settings={"speed": 2.0}) == (400, "invalid_voice_settings")
    for wrong in ({"seed": -1}, {"previous_request_ids": list("abcd")}):
        with pytest.raises(UnprocessableEntityError):
            speak(client, **wrong)
    assert standin.report().billed == ()


def test_high_rates_are_for_larger_plans(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(tier="creator")

    assert refusal(client, output_format="pcm_44100") == (403, "output_format_not_allowed")


def test_errors_come_in_both_shapes(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(error_shape="code", quota=0, faults=[])
    with pytest.raises(ApiError) as refused:
        speak(client)
    detail = refused.value.body["detail"]

    assert (refused.value.status_code, detail["code"], detail["type"]) == (
        401,
        "quota_exceeded",
        "authentication_error",
    )
    assert "status" not in detail


def test_quota_counts_what_is_under_way_and_can_be_topped_up(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(quota=len(TEXT) + 20)
    speak(client)

    assert refusal(client) == (401, "quota_exceeded")
    assert speak(client, model_id="eleven_flash_v2_5", text=TEXT[:40]).headers["character-cost"] == "20"
    standin.change(quota=1000)
    speak(client)

    report = standin.report()
    assert report.times_billed(TEXT) == 2
    assert report.credits_used == 2 * len(TEXT) + 20
    assert [entry.times for entry in report.billed_twice] == [2]


def test_credits_that_are_reserved_cannot_be_reserved_again() -> None:
    account = Account(Rules(quota=100))

    with account.reserved(60), pytest.raises(Refusal) as refused, account.reserved(41):
        pass

    assert "You have 40 credits remaining, while 41 credits are required" in refused.value.message


def test_quota_resets_at_its_time() -> None:
    now = [1000.0]
    account = Account(Rules(quota=100, quota_resets_at=2000.0), clock=lambda: now[0])
    account.bill(ADAM, OFFERS["eleven_multilingual_v2"], "a" * 90, 90)

    with pytest.raises(Refusal), account.reserved(20):
        pass
    now[0] = 2000.0
    with account.reserved(20):
        assert account.credits_used() == 0
    assert account.rules.quota_resets_at == 2000.0 + 30 * 86_400


def test_slots_are_limited_and_freed(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(voice_limit=1)
    made = client.voices.ivc.create(name="Ada", files=[FILE])
    with pytest.raises(ApiError) as refused:
        client.voices.ivc.create(name="Bea", files=[FILE])

    assert (refused.value.status_code, name_of(refused.value)) == (400, "voice_limit_reached")
    client.voices.delete(made.voice_id)
    again = client.voices.ivc.create(name="Ada", files=[FILE])
    assert again.voice_id != made.voice_id


def test_plan_without_cloning_makes_no_voice(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(can_clone=False)

    with pytest.raises(ApiError) as refused:
        client.voices.ivc.create(name="Ada", files=[FILE])
    assert refused.value.status_code == 403


def test_voice_that_must_be_verified_speaks_only_then(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(requires_verification=[True])
    made = client.voices.ivc.create(name="Ada", files=[FILE])
    other = client.voices.ivc.create(name="Bea", files=[FILE])

    assert (made.requires_verification, other.requires_verification) == (True, False)
    assert refusal(client, voice=made.voice_id) == (403, "voice_not_verified")
    standin.change(verify_voice=made.voice_id)
    speak(client, voice=made.voice_id)
    verification = client.voices.get(made.voice_id).voice_verification
    assert verification is not None
    assert verification.is_verified


def test_calls_over_the_limit_are_refused_and_counted(standin: StandIn) -> None:
    standin.change(limits={"standard": 2, "turbo": 1}, base_seconds=0.3)
    client = sdk(standin)
    gate = threading.Barrier(4)

    def call(number: int) -> int:
        gate.wait()
        try:
            speak(client, text=f"Line {number}", model_id="eleven_flash_v2_5" if number == 3 else None)
        except ApiError as error:
            assert name_of(error) == "too_many_concurrent_requests"
            return 429
        return 200

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(call, range(4)))

    # The third in the standard group is one too many; the turbo group has places of its own.
    assert sorted(outcomes[:3]) == [200, 200, 429]
    assert outcomes[3] == 200
    report = standin.report()
    assert (report.most_in_flight, report.over_limit) == ({"standard": 3, "turbo": 1}, {"standard": 1})
    assert report.in_flight == {"standard": 0, "turbo": 0}


def test_place_is_free_when_the_answer_arrives(standin: StandIn) -> None:
    standin.change(limits={"standard": 2})
    client = sdk(standin)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: speak(client, text=f"Line {number}"), range(40)))

    assert standin.report().over_limit == {}


def test_call_over_the_limit_waits_in_the_queue_first(standin: StandIn) -> None:
    standin.change(limits={"standard": 1}, base_seconds=0.05, queue_seconds=10)
    client = sdk(standin)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: speak(client, text=f"Line {number}"), range(3)))

    assert standin.report().over_limit == {}


def test_work_takes_the_time_that_it_is_given(client: ElevenLabs, standin: StandIn) -> None:
    speak(client)
    standin.change(base_seconds=0.05, seconds_per_character=0.005)
    start = time.monotonic()
    speak(client, text="a" * 30)

    assert time.monotonic() - start >= 0.2


def test_rule_that_does_not_exist_is_refused(standin: StandIn) -> None:
    with pytest.raises(ValueError, match="qouta"):
        standin.change(qouta=5)
    with pytest.raises(ValueError, match="together at most 1"):
        standin.change(faults={"shares": {"hang": 0.7, "system_busy": 0.7}})
