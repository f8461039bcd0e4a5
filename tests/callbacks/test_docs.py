"""The receiver in docs/callbacks.md does what the page says."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from avatar_pipeline.callbacks.backoff import SCHEDULE
from avatar_pipeline.callbacks.deliver import HOST_PAUSE, PER_HOST
from avatar_pipeline.callbacks.post import CONNECT_SECONDS, TOTAL_SECONDS
from avatar_pipeline.callbacks.signing import Signer
from avatar_pipeline.ledger.callbacks import callback_body
from avatar_pipeline.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")
SECRET = "whsec_" + "c2VjcmV0" * 5


def test_the_example_takes_a_webhook_once_and_no_forged_one(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    receiver: dict = {}
    exec(example, receiver)
    receiver["SECRET"] = SECRET
    now = datetime.now(UTC)
    body = callback_body(kind="clip", request_id="clip-1", avatar_id="ada", tenant="default", at=now, uri="s3://b/c")
    headers = Signer(Settings(callback_secret=SECRET)).headers("msg_clip-1_1", body, now)
    assert [receiver["receive"](headers, body.encode()) for _ in range(2)] == [204, 204]
    assert capsys.readouterr().out == "clip.done clip-1\n"
    assert receiver["receive"](headers, body.replace("clip-1", "clip-2").encode()) == 401


def test_the_page_knows_the_schedule_and_the_limits() -> None:
    (row,) = re.findall(r"\| wait, ± 20 % \|(.*)\|", PAGE)
    unit = {"s": 1, "min": 60, "h": 3600}
    *waits, last = [cell.strip() for cell in row.split("|")]
    assert [int(wait.split()[0]) * unit[wait.split()[1]] for wait in waits] == [w.total_seconds() for w in SCHEDULE]
    assert last == "abandoned"
    assert f"A connection may take {CONNECT_SECONDS:g} seconds" in PAGE
    assert f"\n{TOTAL_SECONDS:g} seconds." in PAGE
    assert f"wait for {HOST_PAUSE.total_seconds():g} seconds" in PAGE
    assert PER_HOST == 4
