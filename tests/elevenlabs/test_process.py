"""The stand-in in a process of its own, as load tests over several processes use it."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx
import pytest

from tests.elevenlabs.conftest import ADAM, sdk
from tests.elevenlabs.control import own_process
from tests.elevenlabs.server import StandIn


def test_another_process_serves_and_is_controlled() -> None:
    with own_process(speech="beeps", limits={"standard": 4}, faults={"shares": {"system_busy": 0.2}}) as standin:

        def call(number: int) -> int:
            answer = httpx.post(
                f"{standin.url}/v1/text-to-speech/{ADAM}",
                json={"text": f"Line {number}"},
                headers={"xi-api-key": standin.api_key},
                params={"output_format": "pcm_16000"},
            )
            return answer.status_code

        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(call, range(40)))
        report = standin.report()
        changed = standin.change(quota=0)

    assert statuses.count(200) + statuses.count(429) == 40
    assert report.faults == {"system_busy": statuses.count(429)}
    assert len(report.billed) == statuses.count(200)
    assert report.billed_twice == ()
    assert report.most_in_flight["standard"] <= 4
    assert changed.quota == 0


def test_fixture_for_other_tests_speaks_with_espeak(elevenlabs_standin: StandIn) -> None:
    text = "Lips close on p, b and m."
    answer = sdk(elevenlabs_standin).text_to_speech.convert_with_timestamps(ADAM, text=text, output_format="pcm_24000")
    assert answer.alignment is not None
    ends = answer.alignment.character_end_times_seconds

    assert ends[-1] == pytest.approx(len(base64.b64decode(answer.audio_base_64)) / 48_000, abs=0.001)
    # Beeps would take the same time for every letter.
    assert len({round(end - start, 3) for start, end in pairwise(ends)}) > 5


def test_nothing_is_served_after_the_end() -> None:
    with StandIn(speech="beeps") as standin, httpx.Client(base_url=standin.url) as http:
        assert http.get("v1/models", headers={"xi-api-key": standin.api_key}).status_code == 200
        standin.stop()
        with pytest.raises(httpx.TransportError):
            http.get("v1/models", headers={"xi-api-key": standin.api_key})
