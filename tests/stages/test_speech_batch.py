"""A batch of speech by a hosted voice: each text once, each alone at fault, and what must wait goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import (
    AccountRefused,
    AvatarError,
    ConsentMissing,
    InvalidText,
    ProviderBusy,
    ProviderDenied,
    QuotaExhausted,
    VoiceNotReady,
)
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.scaling.recovery import RunSeen, batches_to_run
from avatar_pipeline.stages.batches import make_manifest, synthesize_batch
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.speech import make_speech
from avatar_pipeline.stages.speech_batch import speak_batch
from avatar_pipeline.stages.waiting import LONGEST_BUSY_PAUSE, MOST_BUSY_PAUSES, wait_until
from avatar_pipeline.voice.elevenlabs import open_elevenlabs
from avatar_pipeline.voice.elevenlabs.backoff import Backoff
from avatar_pipeline.voice.local import LocalVoiceProvider
from avatar_pipeline.voice.provider import Permit, Spoken, Utterance, VoiceProvider
from avatar_pipeline.voice.types import VoiceModel
from benchmarks.voice_batches import VOICES, Load, give_voice, know_avatar, run
from tests.elevenlabs.server import StandIn
from tests.stages.benches import make_line

NOW = datetime.now(UTC).replace(microsecond=0)
"""When the tests begin: the stand-in has a clock of its own, which says when credits are renewed."""


@dataclass
class Clock:
    """The time, which passes only when a test says so."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Bench:
    """A line whose voices are at a stand-in, and its clock."""

    line: Line
    standin: StandIn
    clock: Clock

    def want(self, *texts: str, avatar_id: str = "ada", batch_id: str = "batch-1") -> list[str]:
        """Ask for clips and give them to a batch; return their ids."""
        requests = [
            ClipRequest(request_id=f"{batch_id}-{avatar_id}-{number:02}", avatar_id=avatar_id, text=text)
            for number, text in enumerate(texts)
        ]
        self.line.requests.submit(requests, batch_id=batch_id)
        make_manifest(self.line, batch_id)
        return [request.request_id for request in requests]

    def states(self) -> dict[str, str]:
        return {record.request.request_id: record.state for record in self.line.requests.list(kind="clip")}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Avatars `ada` and `eve` with hosted voices."""
    clock = Clock()
    with StandIn(speech="beeps", tier="creator", quota=10_000) as standin:
        line = make_line(
            tmp_path,
            clock,
            voice_provider="elevenlabs",
            AVATAR_ELEVENLABS_API_KEY=standin.api_key,
            elevenlabs_url=standin.url,
            elevenlabs_timeout_seconds=5.0,
            batch_size=100,
        )
        for avatar_id, voice_id in zip(("ada", "eve"), VOICES, strict=True):
            know_avatar(line, avatar_id, NOW - timedelta(days=1), consent_id=f"consent-of-{avatar_id}")
            give_voice(line, avatar_id, hosted(voice_id))
        yield Bench(line, standin, clock)
        line.ledger.close()


def hosted(voice_id: str) -> VoiceModel:
    return VoiceModel(provider="elevenlabs", language="en", label="stock", parameters={"voice_id": voice_id})


def sentences(count: int) -> Sequence[str]:
    return [f"This is the sentence with the number {number}." for number in range(count)]


def test_a_batch_is_spoken_and_says_what_it_cost(bench: Bench) -> None:
    names = bench.want(*sentences(6))
    result = synthesize_batch(bench.line, "batch-1")
    assert sorted(result.done) == names
    assert not (result.failed or result.held)
    billed = bench.standin.report().credits_billed
    assert sum(int(one.facts["provider_credits"]) for one in result.done.values()) == billed > 0
    assert sum(one.facts["characters"] for one in result.done.values()) == sum(map(len, sentences(6)))
    price = bench.line.settings.elevenlabs_price_per_1000_credits
    assert result.cost >= billed * price / 1000
    timings = [t for t in bench.line.ledger.timings("avatars", "ada") if t.asset == "speech"]
    assert sum(t.cost for t in timings) >= billed * price / 1000, "the ledger knows it too"


def test_what_is_there_is_not_spoken_again(bench: Bench) -> None:
    bench.want(*sentences(3))
    synthesize_batch(bench.line, "batch-1")
    bench.want(*sentences(5), batch_id="batch-2")
    result = synthesize_batch(bench.line, "batch-2")
    assert result.reused == 3
    assert synthesize_batch(bench.line, "batch-2").reused == 5
    assert [entry.times for entry in bench.standin.report().billed] == [1] * 5


def test_a_text_that_is_asked_for_twice_is_spoken_once(bench: Bench) -> None:
    names = bench.want("Hello.", "Hello.", "Good bye.")
    result = synthesize_batch(bench.line, "batch-1")
    assert sorted(result.done) == names
    assert [result.done[name].reused for name in names] == [False, True, False]
    assert bench.standin.report().times_billed("Hello.") == 1


def test_whoever_is_killed_loses_nothing_that_was_finished(bench: Bench) -> None:
    bench.want(*sentences(8))
    requests = [record.request for record in bench.line.requests.list(batch_id="batch-1")]
    clips = [request for request in requests if isinstance(request, ClipRequest)]
    outcomes = speak_batch(bench.line, clips)
    kept = [next(outcomes)[0].request_id for _ in range(3)]
    outcomes.close()  # type: ignore[attr-defined]
    result = synthesize_batch(bench.line, "batch-1")
    assert len(result.done) == 8
    assert {name for name, one in result.done.items() if one.reused} >= set(kept)
    assert not bench.standin.report().billed_twice


class Listening(LocalVoiceProvider):
    """The embedded provider, and what it was asked for."""

    def synthesize(self, batch: Sequence[Utterance]) -> Iterator[Spoken]:
        self.asked = list(batch)
        return super().synthesize(batch)


def test_all_goes_to_the_provider_at_once_voice_by_voice(bench: Bench) -> None:
    """So that the provider keeps as many in flight as it may, and each voice takes its slot once."""
    provider = Listening()
    for avatar_id, language in (("ada", "en"), ("eve", "fr")):
        give_voice(bench.line, avatar_id, provider.create_voice(None, None, language=language))
    order = [("eve", 0), ("ada", 0), ("eve", 1), ("ada", 1)]
    requests = [ClipRequest(request_id=f"{who}-{n}", avatar_id=who, text=f"{who} says {n}.") for who, n in order]
    spoken = {request.request_id for request, _ in speak_batch(bench.line, requests, opener=lambda *_, **__: provider)}
    assert len(spoken) == len(provider.asked) == 4
    who = [utterance.text.split()[0] for utterance in provider.asked]
    assert who in (["ada", "ada", "eve", "eve"], ["eve", "eve", "ada", "ada"])


def test_an_item_that_the_provider_refuses_fails_alone(bench: Bench) -> None:
    know_avatar(bench.line, "bob", NOW - timedelta(days=1))
    give_voice(bench.line, "bob", hosted("a-voice-that-nobody-has"))
    (bad,) = bench.want("Hello.", avatar_id="bob")
    good = [ClipRequest(request_id=f"good-{number}", avatar_id="ada", text=f"Hello {number}.") for number in range(3)]
    bench.line.requests.submit([*good], batch_id="batch-2")
    bench.line.requests.submit([ClipRequest(request_id="bad", avatar_id="bob", text="Hello.")], batch_id="batch-2")
    make_manifest(bench.line, "batch-2")
    assert synthesize_batch(bench.line, "batch-1").failed[bad].code == "provider_denied"
    result = synthesize_batch(bench.line, "batch-2")
    assert sorted(result.done) == [request.request_id for request in good]
    assert list(result.failed) == ["bad"]
    assert bench.states()["bad"] == "failed"


def test_when_the_credits_run_out_the_rest_waits_and_goes_on_by_itself(bench: Bench) -> None:
    reset = NOW + timedelta(days=3)
    bench.standin.change(quota=100, quota_resets_at=reset.timestamp())
    names = bench.want(*sentences(12))
    first = synthesize_batch(bench.line, "batch-1")
    assert 0 < len(first.done) < 12
    assert not first.failed
    assert sorted([*first.done, *first.held]) == names
    assert {error.code for error in first.held.values()} == {"quota_exhausted"}
    assert all(bench.states()[name] == "held" for name in first.held)
    for name, spoken in first.done.items():
        bench.line.requests.finish(name, clip_key=spoken.artifact.key)
    assert bench.line.requests.release_due() == 0, "not before there are credits"
    assert not bench.line.requests.open_batches(), "and no sensor runs the batch meanwhile"
    assert synthesize_batch(bench.line, "batch-1").held == {}, "held ones are left alone"

    bench.standin.change(quota=10_000, credits_used=0, quota_resets_at=(reset + timedelta(days=30)).timestamp())
    bench.clock.now = reset + timedelta(minutes=2)
    assert bench.line.requests.release_due() == len(first.held)
    ended = RunSeen("run-1", "batch-1", "succeeded", NOW, NOW)
    plan = batches_to_run(
        bench.line.requests.open_batches(),
        {"batch-1": [ended]},
        bench.clock(),
        grace=timedelta(minutes=1),
        max_attempts=3,
    )
    assert [batch_id for batch_id, _ in plan.rerun] == ["batch-1"]
    second = synthesize_batch(bench.line, "batch-1")
    assert sorted(second.done) == names
    assert not second.held
    report = bench.standin.report()
    assert not report.billed_twice
    assert len(report.billed) == 12


def test_while_the_provider_is_busy_a_request_waits_longer_each_time(bench: Bench) -> None:
    def hasty(line: Line, name: str, *, permit: Permit) -> VoiceProvider:
        """As configured, but it tries three times within milliseconds."""
        return open_elevenlabs(
            line.settings,
            line.leases,
            line.charges,
            line.voices,
            cache_folder=line.settings.scratch / "cache",
            enrolments=lambda _: None,
            clock=line.clock,
            permit=permit,
            backoff=Backoff(0.001, 0.002, 3),
        )

    (name,) = bench.want("Hello.")
    bench.line.requests.hold(name, "provider_busy: it was busy before", NOW)
    bench.line.requests.release_due()
    for _ in range(2):
        bench.standin.change(faults=["unavailable"] * 50)
        held = synthesize_batch(bench.line, "batch-1", opener=hasty).held
        assert held[name].code == "provider_busy"
        until = bench.line.requests.get(name).held_until
        assert until is not None
        bench.clock.now = until
        assert bench.line.requests.release_due() == 1
    assert until - NOW == timedelta(minutes=2 + 4)
    bench.standin.change(faults=[])
    assert list(synthesize_batch(bench.line, "batch-1").done) == [name]


def test_a_key_that_is_refused_fails_no_request_and_is_no_secret(bench: Bench) -> None:
    names = bench.want(*sentences(3))
    key = "sk_a_key_of_yesterday"
    stale = bench.line.settings.model_copy(update={"elevenlabs_api_key": type(bench.line.settings.ledger)(key)})
    result = synthesize_batch(replace(bench.line, settings=stale), "batch-1")
    assert sorted(result.held) == names
    assert {type(error) for error in result.held.values()} == {AccountRefused}
    assert key not in str(list(result.held.values())) + str(bench.line.requests.history(names[0]))
    bench.clock.now += timedelta(minutes=11)
    bench.line.requests.release_due()
    assert sorted(synthesize_batch(bench.line, "batch-1").done) == names


def test_a_consent_that_is_taken_back_stops_what_is_not_spoken_yet_and_keeps_nothing(bench: Bench) -> None:
    bench.standin.change(base_seconds=0.3, limits={"turbo": 2})
    bench.want(*sentences(30))
    (other,) = bench.want("Hello.", avatar_id="eve", batch_id="batch-2")
    done: list[float] = []

    def revoke(stage: str, number: float, total: float | None) -> None:
        done.append(number)
        if number == 3:
            bench.line.consents.revoke("consent-of-ada", reason="she said so")

    result = synthesize_batch(replace(bench.line, progress=revoke), "batch-1")
    assert len(result.done) == 3
    assert len(result.failed) == 27
    assert {str(error).split(".")[0] for error in result.failed.values()} == {
        "refused: consent revoked (consent-of-ada)"
    }
    assert len(bench.standin.report().billed) < 15, "but for those in flight, none was sent"
    kept = [path for path in (bench.line.store.root / "avatars" / "ada" / "speech").iterdir() if path.is_dir()]
    assert len(kept) == 3, "and what came back of it was not kept; `revoke_consent` deletes the rest"
    assert list(synthesize_batch(bench.line, "batch-2").done) == [other]


def test_an_expired_consent_fails_what_is_asked_of_it(bench: Bench) -> None:
    record = bench.line.ledger.avatar("ada").consent
    bench.line.ledger.set_consent("ada", record.model_copy(update={"expires_at": NOW + timedelta(hours=1)}))
    (name,) = bench.want("Hello.")
    bench.clock.now += timedelta(hours=2)
    assert isinstance(synthesize_batch(bench.line, "batch-1").failed[name], ConsentMissing)
    assert not bench.standin.report().billed


def test_a_single_clip_that_must_wait_says_why(bench: Bench) -> None:
    bench.standin.change(quota=10)
    with pytest.raises(QuotaExhausted, match="credits"):
        make_speech(bench.line, "ada", "This is more than ten credits allow for, by far.")


def test_progress_is_told_item_by_item(bench: Bench) -> None:
    bench.want(*sentences(4))
    told: list[tuple[str, float, float | None]] = []
    synthesize_batch(replace(bench.line, progress=lambda *step: told.append(step)), "batch-1")
    assert told == [("synthesized_speech", number, 4) for number in range(5)]


@pytest.mark.parametrize("on_postgres", [False, True], ids=["sqlite", "postgresql"])
def test_workers_together_lose_nothing_bill_nothing_twice_and_keep_to_the_limit(
    on_postgres: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    load = Load(
        requests=24 if on_postgres else 60,
        workers=2,
        limit=4,
        faults=0.1,
        batch=8,
        base_seconds=0.05,
        seconds_per_character=0.0,
        timeout_seconds=0.7,
    )
    ledger = request.getfixturevalue("postgres_url") if on_postgres else f"sqlite:///{tmp_path / 'ledger.db'}"
    result, report = run(load, tmp_path, ledger)
    assert result.missed() == []
    assert result.done == load.requests
    assert result.faults > 0
    assert len(report.billed) == load.requests


def test_how_long_to_wait_depends_on_the_reason() -> None:
    in_a_week = NOW + timedelta(days=7)
    assert wait_until(QuotaExhausted("x", remedy="", resets_at=in_a_week), NOW, pauses=0) == in_a_week
    for over in (None, NOW, NOW - timedelta(days=1)):
        error = QuotaExhausted("x", remedy="", resets_at=over)
        assert wait_until(error, NOW, pauses=99) == NOW + timedelta(minutes=10)
    assert wait_until(VoiceNotReady("x", remedy=""), NOW, pauses=99) == NOW + timedelta(hours=1)
    assert wait_until(AccountRefused("x", remedy=""), NOW, pauses=99) == NOW + timedelta(minutes=10)
    for error in (ProviderDenied("x", remedy=""), InvalidText("x", remedy="")):
        assert wait_until(error, NOW, pauses=0) is None


@given(pauses=st.integers(0, 10_000))
def test_a_busy_provider_is_asked_ever_less_often_and_not_for_ever(pauses: int) -> None:
    error: AvatarError = ProviderBusy("x", remedy="")
    until = wait_until(error, NOW, pauses=pauses)
    if pauses >= MOST_BUSY_PAUSES:
        assert until is None
    else:
        assert until is not None
        assert timedelta(minutes=1) <= until - NOW <= LONGEST_BUSY_PAUSE
        before = wait_until(error, NOW, pauses=max(pauses - 1, 0))
        assert before is not None and until >= before
