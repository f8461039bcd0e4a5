"""The stand-in answers all that the SDK's types require; the SDK would not notice what is missing."""

from __future__ import annotations

import functools
import json
import typing
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from elevenlabs import types as sdk_types
from elevenlabs.forced_alignment.client import ForcedAlignmentClient
from elevenlabs.history.client import HistoryClient
from elevenlabs.models.client import ModelsClient
from elevenlabs.text_to_speech.client import TextToSpeechClient
from elevenlabs.user.client import UserClient
from elevenlabs.user.subscription.client import SubscriptionClient
from elevenlabs.voices.client import VoicesClient
from elevenlabs.voices.ivc.client import IvcClient
from pydantic import BaseModel

from tests.elevenlabs.conftest import ADAM, RECORDING, TEXT
from tests.elevenlabs.contract import faults_of, required_places, without
from tests.elevenlabs.server import StandIn

FILE = ("ada.wav", RECORDING, "audio/wav")
SPEECH = f"v1/text-to-speech/{ADAM}"


def _voice(http: httpx.Client) -> str:
    return str(http.post("v1/voices/add", data={"name": "Ada"}, files={"files": FILE}).json()["voice_id"])


def _history_item(http: httpx.Client) -> str:
    return http.post(f"{SPEECH}/with-timestamps", json={"text": TEXT}).headers["history-item-id"]


def _listed(http: httpx.Client) -> httpx.Response:
    _history_item(http)
    return http.get("v1/history")


def _searched(http: httpx.Client) -> httpx.Response:
    _voice(http)
    return http.get("v2/voices")


CALLS: dict[str, tuple[Callable[..., Any], Callable[[httpx.Client], httpx.Response]]] = {
    "add a voice": (
        IvcClient.create,
        lambda http: http.post("v1/voices/add", data={"name": "A"}, files={"files": FILE}),
    ),
    "get a voice": (VoicesClient.get, lambda http: http.get(f"v1/voices/{_voice(http)}")),
    "edit a voice": (
        VoicesClient.update,
        lambda http: http.post(f"v1/voices/{_voice(http)}/edit", data={"name": "B"}, files={"files": FILE}),
    ),
    "delete a voice": (VoicesClient.delete, lambda http: http.delete(f"v1/voices/{_voice(http)}")),
    "search voices": (VoicesClient.search, _searched),
    "speak with timestamps": (
        TextToSpeechClient.convert_with_timestamps,
        lambda http: http.post(f"{SPEECH}/with-timestamps", json={"text": TEXT}),
    ),
    "stream with timestamps": (
        TextToSpeechClient.stream_with_timestamps,
        lambda http: http.post(f"{SPEECH}/stream/with-timestamps", json={"text": TEXT}),
    ),
    "models": (ModelsClient.list, lambda http: http.get("v1/models")),
    "user": (UserClient.get, lambda http: http.get("v1/user")),
    "subscription": (SubscriptionClient.get, lambda http: http.get("v1/user/subscription")),
    "history": (HistoryClient.list, _listed),
    "history item": (HistoryClient.get, lambda http: http.get(f"v1/history/{_history_item(http)}")),
    "delete from history": (HistoryClient.delete, lambda http: http.delete(f"v1/history/{_history_item(http)}")),
    "forced alignment": (
        ForcedAlignmentClient.create,
        lambda http: http.post("v1/forced-alignment", data={"text": TEXT}, files={"file": FILE}),
    ),
}


@functools.cache
def ask(name: str, standin: StandIn) -> tuple[Any, list[Any]]:
    """Return the SDK's type for a call and what the stand-in answers: one JSON value, or one for each line."""
    method, call = CALLS[name]
    kind = typing.get_type_hints(method)["return"]
    with httpx.Client(base_url=standin.url, headers={"xi-api-key": standin.api_key}) as http:
        answer = call(http)
    assert answer.status_code == 200, answer.text
    if typing.get_origin(kind) is typing.get_origin(typing.Iterator[Any]):
        return typing.get_args(kind)[0], [json.loads(line) for line in answer.text.splitlines()]
    return kind, [answer.json()]


@pytest.fixture(scope="module")
def shared() -> typing.Iterator[StandIn]:
    with StandIn(speech="beeps") as standin:
        yield standin


@pytest.mark.parametrize("name", CALLS)
def test_answers_hold_all_that_the_sdk_requires(name: str, shared: StandIn) -> None:
    kind, values = ask(name, shared)

    assert values
    assert [fault for value in values for fault in faults_of(kind, value)] == []


@pytest.mark.parametrize("name", CALLS)
def test_a_required_field_that_is_taken_away_anywhere_is_noticed(name: str, shared: StandIn) -> None:
    kind, (value, *_) = ask(name, shared)
    places = list(required_places(kind, value))

    # A voice is all optional in the SDK but for its id.
    assert places
    for model, key, place in places:
        lacking = [where for where, _ in faults_of(kind, without(value, place, key))]
        assert lacking, f"{model}.{key} at {place}"


def test_a_field_that_the_sdk_comes_to_require_is_noticed(shared: StandIn) -> None:
    class Stricter(sdk_types.Subscription):
        concurrency: int

    _, (value,) = ask("subscription", shared)

    assert [place for place, _ in faults_of(Stricter, value)] == ["$.concurrency"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("character_count", "12"), ("voice_limit", True), ("has_open_invoices", 0), ("open_invoices", {})],
)
def test_a_value_of_the_wrong_kind_is_noticed(key: str, value: object, shared: StandIn) -> None:
    kind, (answer,) = ask("subscription", shared)

    assert [place for place, _ in faults_of(kind, answer | {key: value})] == [f"$.{key}"]


def test_the_walk_reaches_the_nested_types(shared: StandIn) -> None:
    seen = {model for name in CALLS for model, _, _ in _places(name, shared)}

    assert seen >= {
        "AddVoiceIvcResponseModel",
        "AudioWithTimestampsResponse",
        "CharacterAlignmentResponseModel",
        "ForcedAlignmentCharacterResponseModel",
        "ForcedAlignmentWordResponseModel",
        "GetSpeechHistoryResponse",
        "HistoryAlignmentResponseModel",
        "InvoiceResponse",
        "LanguageResponse",
        "ModelRatesResponseModel",
        "Price",
        "SpeechHistoryItemResponse",
        "Subscription",
        "SubscriptionResponse",
        "VoiceVerificationResponse",
    }


def _places(name: str, standin: StandIn) -> list[tuple[str, ...]]:
    kind, values = ask(name, standin)
    return [place for value in values for place in required_places(kind, value)]


def test_subscription_has_the_nineteen_required_fields_that_it_had() -> None:
    required = [name for name, field in sdk_types.Subscription.model_fields.items() if field.is_required()]

    assert issubclass(sdk_types.Subscription, BaseModel)
    assert len(required) == 19
