"""What the SDK does, good and bad, so that we notice when it changes."""

from __future__ import annotations

import httpx
import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import UnprocessableEntityError

from tests.elevenlabs.conftest import ADAM, RECORDING, TEXT, sdk
from tests.elevenlabs.server import StandIn

FILE = ("ada.wav", RECORDING, "audio/wav")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK retry without its pause of seconds."""
    monkeypatch.setattr("elevenlabs.core.http_client._retry_timeout", lambda **_: 0)


@pytest.mark.usefixtures("at_once")
def test_sdk_drops_the_fields_when_it_retries_a_multipart_call(standin: StandIn, client: ElevenLabs) -> None:
    standin.change(faults={"script": {"voices_add": ["unavailable"]}})

    # Once this no longer raises, the SDK is mended, and our own retries round multipart calls can go.
    with pytest.raises(UnprocessableEntityError) as refused:
        client.voices.ivc.create(name="Ada", files=[FILE], request_options={"max_retries": 2})

    assert [error["loc"] for error in refused.value.body["detail"]] == [["body", "name"]]
    assert standin.report().calls["voices_add"] == 2


def test_without_its_retries_the_sdk_gives_the_error_as_it_is(standin: StandIn, client: ElevenLabs) -> None:
    standin.change(faults={"script": {"voices_add": ["unavailable"]}})

    with pytest.raises(ApiError) as refused:
        client.voices.ivc.create(name="Ada", files=[FILE], request_options={"max_retries": 0})
    made = client.voices.ivc.create(name="Ada", files=[FILE], request_options={"max_retries": 0})

    assert refused.value.status_code == 503
    assert standin.report().voices == {made.voice_id: "Ada"}


@pytest.mark.usefixtures("at_once")
def test_sdk_retries_a_billable_call_by_itself_unless_told_not_to(standin: StandIn, client: ElevenLabs) -> None:
    standin.change(faults=["system_busy", "internal_error", None, "system_busy"])

    client.text_to_speech.convert_with_timestamps(ADAM, text=TEXT, output_format="pcm_24000")
    with pytest.raises(ApiError):
        client.text_to_speech.convert_with_timestamps(ADAM, text=TEXT, request_options={"max_retries": 0})

    assert standin.report().calls["speech"] == 4
    assert standin.report().times_billed(TEXT) == 1


def test_sdk_never_retries_a_stream(standin: StandIn, client: ElevenLabs) -> None:
    standin.change(faults=["unavailable"])

    with pytest.raises(ApiError):
        list(client.text_to_speech.convert(ADAM, text=TEXT, output_format="pcm_24000"))

    assert standin.report().calls["speech"] == 1


def test_sdk_lets_a_timeout_through_as_httpx_has_it(standin: StandIn) -> None:
    standin.change(faults=["hang"])

    with pytest.raises(httpx.ReadTimeout):
        sdk(standin, timeout=0.2).text_to_speech.convert_with_timestamps(ADAM, text=TEXT, output_format="pcm_24000")

    assert standin.report().calls["speech"] == 1


def test_sdk_sends_null_for_labels_that_were_not_given(standin: StandIn, client: ElevenLabs) -> None:
    made = client.voices.ivc.create(name="Ada", files=[FILE])

    assert client.voices.get(made.voice_id).labels == {}
