"""The real SDK reads every route."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np
import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import UnprocessableEntityError

from tests.elevenlabs.conftest import ADAM, RECORDING, TEXT
from tests.elevenlabs.server import StandIn

FILE = ("ada.wav", RECORDING, "audio/wav")
NO_RETRY: Any = {"max_retries": 0}


def name_of(error: ApiError) -> str:
    """Return the API's name for what went wrong, in either shape."""
    detail = error.body["detail"]
    return str(detail.get("status") or detail["code"])


def test_voice_is_made_found_renamed_and_deleted(client: ElevenLabs, standin: StandIn) -> None:
    made = client.voices.ivc.create(
        name="Ada", files=[FILE, ("b.wav", RECORDING)], description="of the harbour", labels={"language": "en"}
    )
    voice = client.voices.get(made.voice_id)
    client.voices.update(made.voice_id, name="Ada L.")

    assert (voice.name, voice.description, voice.labels) == ("Ada", "of the harbour", {"language": "en"})
    assert voice.samples is not None
    assert [sample.size_bytes for sample in voice.samples] == [len(RECORDING)] * 2
    assert [found.name for found in client.voices.search(search="ada l").voices] == ["Ada L."]
    assert client.voices.delete(made.voice_id).status == "ok"
    assert standin.report().voices_deleted == (made.voice_id,)
    for call in (client.voices.get, client.voices.delete):
        with pytest.raises(ApiError) as gone:
            call(made.voice_id)
        assert gone.value.status_code == 400


def test_voices_are_searched_by_pages(client: ElevenLabs) -> None:
    for number in range(5):
        client.voices.ivc.create(name=f"Bea {number}", files=[FILE])

    names, token = [], None
    while True:
        page = client.voices.search(search="bea", page_size=2, next_page_token=token)
        names += [voice.name for voice in page.voices]
        token = page.next_page_token
        if not page.has_more:
            break

    assert names == [f"Bea {number}" for number in (4, 3, 2, 1, 0)]
    assert page.total_count == 5


@pytest.mark.parametrize(("name", "files", "lacking"), [("", [FILE], "name"), ("Ada", [], "files")])
def test_voice_without_name_or_files_is_unprocessable(
    name: str, files: list[tuple[str, bytes, str]], lacking: str, client: ElevenLabs
) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        client.voices.ivc.create(name=name, files=files)

    assert refused.value.body == {"detail": [{"loc": ["body", lacking], "msg": "Field required", "type": "missing"}]}


def test_path_sent_in_place_of_a_file_is_no_audio(client: ElevenLabs) -> None:
    with pytest.raises(ApiError) as refused:
        client.voices.ivc.create(name="Ada", files=["recordings/ada.wav"])

    assert (refused.value.status_code, name_of(refused.value)) == (400, "invalid_content")


def test_speech_comes_with_times_cost_and_names(client: ElevenLabs, standin: StandIn) -> None:
    response = client.text_to_speech.with_raw_response.convert_with_timestamps(
        ADAM, text=TEXT, output_format="pcm_24000", model_id="eleven_flash_v2_5"
    )
    spoken, headers = response.data, response.headers

    assert spoken.alignment is not None
    assert spoken.normalized_alignment is not None
    assert "".join(spoken.alignment.characters) == TEXT
    assert "".join(spoken.normalized_alignment.characters) == TEXT.replace("5", "five")
    assert headers["character-cost"] == "21"
    assert (headers["current-concurrent-requests"], headers["maximum-concurrent-requests"]) == ("1", "20")
    [item] = client.history.list().history
    assert (item.history_item_id, item.request_id) == (headers["history-item-id"], headers["request-id"])
    assert standin.report().credits_billed == 21


def test_the_four_ways_of_speaking_give_the_same_audio(client: ElevenLabs) -> None:
    import base64

    asked: Any = {"text": TEXT, "output_format": "pcm_16000"}
    tts = client.text_to_speech
    timed = tts.convert_with_timestamps(ADAM, **asked)
    chunks = list(tts.stream_with_timestamps(ADAM, **asked))

    whole = base64.b64decode(timed.audio_base_64)
    assert b"".join(tts.convert(ADAM, **asked)) == whole
    assert b"".join(tts.stream(ADAM, **asked)) == whole
    assert b"".join(base64.b64decode(chunk.audio_base_64) for chunk in chunks) == whole
    assert len(chunks) > 1
    assert timed.alignment is not None
    assert [time for chunk in chunks if chunk.alignment for time in chunk.alignment.character_end_times_seconds] == (
        timed.alignment.character_end_times_seconds
    )


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100])
def test_pcm_and_wav_hold_the_same_samples(rate: int, client: ElevenLabs) -> None:
    pcm = b"".join(client.text_to_speech.convert(ADAM, text=TEXT, output_format=f"pcm_{rate}"))
    wav = b"".join(client.text_to_speech.convert(ADAM, text=TEXT, output_format=f"wav_{rate}"))

    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (rate, 1, 2)
        assert file.readframes(file.getnframes()) == pcm
    assert np.abs(np.frombuffer(pcm, np.int16)).max() > 1000


def test_format_that_is_not_asked_for_is_mp3(client: ElevenLabs) -> None:
    import av

    mp3 = b"".join(client.text_to_speech.convert(ADAM, text=TEXT))

    with av.open(io.BytesIO(mp3)) as container:
        [stream] = container.streams.audio
        assert (stream.codec_context.name, stream.codec_context.sample_rate) in {("mp3", 44_100), ("mp3float", 44_100)}


def test_format_that_the_standin_lacks_is_named(client: ElevenLabs) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        list(client.text_to_speech.convert(ADAM, text=TEXT, output_format="opus_48000_32"))

    assert "opus_48000_32" in refused.value.body["detail"][0]["msg"]


def test_models_say_what_they_cost_and_take(client: ElevenLabs) -> None:
    models = {model.model_id: model for model in client.models.list()}
    flash, multilingual = models["eleven_flash_v2_5"], models["eleven_multilingual_v2"]

    assert flash.model_rates is not None
    assert (flash.model_rates.character_cost_multiplier, flash.maximum_text_length_per_request) == (0.5, 40_000)
    assert flash.concurrency_group != multilingual.concurrency_group


def test_history_is_listed_newest_first_by_pages_and_gives_the_audio(client: ElevenLabs) -> None:
    texts = [f"Line number {number}." for number in range(5)]
    audio = [b"".join(client.text_to_speech.convert(ADAM, text=text, output_format="pcm_24000")) for text in texts]

    first = client.history.list(page_size=3)
    rest = client.history.list(page_size=3, start_after_history_item_id=first.last_history_item_id)
    [found] = client.history.list(search="number 2", voice_id=ADAM).history

    assert [item.text for item in [*first.history, *rest.history]] == texts[::-1]
    assert (first.has_more, rest.has_more) == (True, False)
    assert b"".join(client.history.get_audio(found.history_item_id)) == audio[2]
    assert found.character_count_change_to - found.character_count_change_from == len(texts[2])
    assert client.history.list(date_after_unix=found.date_unix + 3600).history == []
    client.history.delete(found.history_item_id)
    assert client.history.list(search="number 2").history == []


def test_history_keeps_the_alignment_of_timed_speech(client: ElevenLabs, standin: StandIn) -> None:
    spoken = client.text_to_speech.convert_with_timestamps(ADAM, text=TEXT, output_format="pcm_24000")
    [item] = client.history.list().history

    kept = client.history.get(item.history_item_id).alignments
    standin.change(history_alignments=False)

    assert spoken.alignment is not None
    assert kept is not None
    assert kept.alignment.character_end_times_seconds == spoken.alignment.character_end_times_seconds
    assert client.history.get(item.history_item_id).alignments is None


def test_speech_that_is_not_logged_leaves_no_history(client: ElevenLabs, standin: StandIn) -> None:
    list(client.text_to_speech.convert(ADAM, text=TEXT, output_format="pcm_24000", enable_logging=False))

    assert client.history.list().history == []
    assert standin.report().times_billed(TEXT) == 1


def test_history_can_lag_behind_the_billing(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(history_lag_seconds=3600)
    list(client.text_to_speech.convert(ADAM, text=TEXT, output_format="pcm_24000"))

    assert client.history.list().history == []
    standin.change(history_lag_seconds=0)
    assert len(client.history.list().history) == 1


def test_forced_alignment_finds_the_times_of_what_was_spoken_here(client: ElevenLabs) -> None:
    spoken = client.text_to_speech.with_raw_response.convert_with_timestamps(
        ADAM, text=TEXT, output_format="wav_24000", request_options=NO_RETRY
    )
    [item] = client.history.list().history
    wav = b"".join(client.history.get_audio(item.history_item_id))

    aligned = client.forced_alignment.create(file=("speech.wav", wav, "audio/wav"), text=TEXT)

    assert spoken.data.alignment is not None
    assert [c.end for c in aligned.characters] == pytest.approx(
        spoken.data.alignment.character_end_times_seconds, abs=0.001
    )
    assert [word.text for word in aligned.words] == TEXT.split()


def test_isolation_costs_a_thousand_credits_a_minute(client: ElevenLabs, standin: StandIn) -> None:
    cleaned = b"".join(client.audio_isolation.convert(audio=("a.wav", RECORDING, "audio/wav")))

    assert cleaned == RECORDING
    assert standin.report().credits_billed == 9  # half a second


def test_upload_that_is_no_audio_cannot_be_aligned(client: ElevenLabs) -> None:
    with pytest.raises(ApiError) as refused:
        client.forced_alignment.create(file=("a.wav", b"no audio"), text=TEXT)

    assert name_of(refused.value) == "invalid_audio"


def test_account_is_described(client: ElevenLabs, standin: StandIn) -> None:
    standin.change(quota=5000, quota_resets_at=4_000_000_000.0, credits_used=1200, voice_limit=7)
    client.voices.ivc.create(name="Ada", files=[FILE])

    plan = client.user.subscription.get()

    assert (plan.character_count, plan.character_limit) == (1200, 5000)
    assert (plan.voice_slots_used, plan.voice_limit) == (1, 7)
    assert plan.next_character_count_reset_unix == 4_000_000_000
    assert client.user.get().subscription.character_count == 1200


def test_unknown_route_is_not_found(client: ElevenLabs) -> None:
    with pytest.raises(ApiError) as refused:
        client.voices.settings.get_default()

    assert refused.value.status_code == 404
