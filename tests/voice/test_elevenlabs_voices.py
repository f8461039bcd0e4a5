"""Cloned voices at ElevenLabs, against the stand-in: made once, found again, verified, parked, deleted."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from avatar_pipeline.errors import (
    ConsentMissing,
    ConsentRevoked,
    InvalidInput,
    ProviderBusy,
    ProviderDenied,
    QuotaExhausted,
    SpeechNotUsable,
    VoiceNotReady,
)
from avatar_pipeline.voice.elevenlabs.slots import PREFIX
from avatar_pipeline.voice.provider import Utterance
from avatar_pipeline.voice.types import VoiceModel
from tests.elevenlabs.rules import SPEECH
from tests.voice.hosted import CONSENT, NAME, Desk, babble, error, speak, speech

OpenDesk = Callable[..., Desk]


def key_of(voice: VoiceModel) -> str:
    return str(voice.parameters["voice_key"])


def remote(desk: Desk) -> dict[str, str]:
    """The cloned voices at the stand-in: id by name."""
    return {name: voice_id for voice_id, name in desk.standin.report().voices.items()}


def state(desk: Desk, voice: VoiceModel) -> str | None:
    record = desk.voices.get(NAME, key_of(voice))
    return record.state if record else None


def test_a_voice_is_made_once_and_says_what_it_is(open_desk: OpenDesk) -> None:
    desk = open_desk(faults={"script": {"voices_add": ["system_busy", None]}})
    voice = desk.cloned(desk.worker())
    assert (voice.provider, voice.label, voice.consent_id) == (NAME, "cloned (instant)", "consent-1")
    assert voice.enrolment_seconds == 8.0 and voice.enrolment_sha256
    assert remote(desk) == {PREFIX + key_of(voice): desk.voices.get(NAME, key_of(voice)).voice_id}  # type: ignore[union-attr]
    made = next(one for one in desk.standin.account.voices.values() if one.category == "cloned")
    assert made.labels == {"language": "en"} and key_of(voice) in str(made.description), "a retry left nothing out"
    assert desk.cloned(desk.worker()) == voice
    assert desk.standin.report().voices_made == 1
    record = desk.voices.get(NAME, key_of(voice))
    assert record is not None
    assert (record.state, record.avatar_id, record.consent_id) == ("ready", "ada", "consent-1")
    speech(speak(desk.worker(), "I am a clone.", voice=voice)[0])


def test_a_voice_needs_consent_speech_and_a_language(open_desk: OpenDesk) -> None:
    desk = open_desk()
    worker = desk.worker()
    with pytest.raises(ConsentMissing):
        worker.create_voice(babble(), None, language="en")
    over = CONSENT.model_copy(update={"expires_at": datetime(2025, 6, 1, tzinfo=UTC)})
    with pytest.raises(ConsentMissing):
        worker.create_voice(babble(), over, language="en")
    with pytest.raises(SpeechNotUsable):
        worker.create_voice(babble(0.5), CONSENT, language="en")
    with pytest.raises(InvalidInput, match="does not speak"):
        worker.create_voice(babble(), CONSENT, language="xx")
    with pytest.raises(InvalidInput, match="needs its id"):
        worker.create_voice(None, None, language="en")
    assert desk.standin.report().voices_made == 0


@pytest.mark.parametrize("fault", ["hang", "cut_json", "cut_connection"])
def test_a_voice_that_was_made_unseen_is_found_by_its_name(open_desk: OpenDesk, fault: str) -> None:
    desk = open_desk(faults={"script": {"voices_add": [fault]}})
    voice = desk.promised()
    speech(speak(desk.worker(elevenlabs_timeout_seconds=0.3), "Here.", voice=voice)[0])
    assert desk.standin.report().voices_made == 1


def test_a_crash_between_making_and_writing_it_down_makes_no_second_voice(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    desk = open_desk()
    voice = desk.promised()
    remember = desk.voices.remember

    def killed_when_ready(**fields: object) -> object:
        if fields["state"] == "ready":
            raise Killed
        return remember(**fields)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(desk.voices, "remember", killed_when_ready)
        speak(desk.worker(threads=1), "Here.", voice=voice)
    assert state(desk, voice) == "making"
    speech(speak(desk.worker(), "Here.", voice=voice)[0])
    assert desk.standin.report().voices_made == 1


def test_many_that_need_a_voice_at_once_make_it_once(open_desk: OpenDesk) -> None:
    desk = open_desk()
    voice = desk.promised()
    for spoken in speak(desk.worker(), *(f"Number {i}." for i in range(6)), voice=voice):
        speech(spoken)
    assert desk.standin.report().voices_made == 1


def test_a_voice_to_be_verified_waits_and_is_asked_after(open_desk: OpenDesk) -> None:
    desk = open_desk(requires_verification=[True])
    voice = desk.promised()
    worker = desk.worker()
    for spoken in speak(worker, "One.", "Two.", voice=voice):
        assert isinstance(error(spoken), VoiceNotReady)
    assert state(desk, voice) == "unverified"
    assert isinstance(error(speak(worker, "One.", voice=voice)[0]), VoiceNotReady)
    assert desk.standin.report().calls["voices_get"] >= 1
    assert desk.standin.report().calls.get(SPEECH, 0) == 0
    desk.standin.change(verify_voice=remote(desk)[PREFIX + key_of(voice)])
    speech(speak(desk.worker(), "One.", voice=voice)[0])
    assert state(desk, voice) == "ready"
    assert desk.standin.report().voices_made == 1


def test_making_a_voice_that_must_be_verified_says_so(open_desk: OpenDesk) -> None:
    desk = open_desk(requires_verification=[True])
    with pytest.raises(VoiceNotReady, match="verified"):
        desk.cloned(desk.worker())
    with pytest.raises(VoiceNotReady):
        desk.cloned(desk.worker())
    assert desk.standin.report().voices_made == 1


def test_a_voice_that_must_be_verified_later_waits_too(open_desk: OpenDesk) -> None:
    desk = open_desk()
    voice = desk.promised()
    worker = desk.worker()
    speech(speak(worker, "One.", voice=voice)[0])
    made = desk.standin.account.voices[remote(desk)[PREFIX + key_of(voice)]]
    made.requires_verification = True
    assert isinstance(error(speak(worker, "Two.", voice=voice)[0]), VoiceNotReady)
    assert state(desk, voice) == "unverified"


# Slots


def test_the_voice_silent_for_longest_gives_its_slot_and_is_made_again_on_demand(open_desk: OpenDesk) -> None:
    desk = open_desk(voice_limit=2)
    ada, bob, eve = (desk.promised(name) for name in ("ada", "bob", "eve"))
    worker = desk.worker()
    for voice in (ada, bob, ada, eve):
        desk.offset += 1
        speech(speak(worker, f"Now {desk.offset}.", voice=voice)[0])
    assert [state(desk, voice) for voice in (ada, bob, eve)] == ["ready", "parked", "ready"]
    assert set(remote(desk)) == {PREFIX + key_of(ada), PREFIX + key_of(eve)}
    desk.offset += 1
    speech(speak(worker, "And again.", voice=bob)[0])
    assert [state(desk, voice) for voice in (ada, bob, eve)] == ["parked", "ready", "ready"]
    assert desk.standin.report().voices_made == 4


def test_more_voices_in_a_batch_than_slots(open_desk: OpenDesk) -> None:
    desk = open_desk(voice_limit=2)
    batch = [
        Utterance(f"{o}{i}", desk.promised(o), f"{o} says {i}.") for i in range(2) for o in ("ada", "bob", "eve", "kim")
    ]
    done = list(desk.worker().synthesize(batch))
    assert len(done) == 8
    for spoken in done:
        speech(spoken)
    report = desk.standin.report()
    assert not report.billed_twice and len(report.voices) <= 2


def test_voices_of_others_and_those_in_use_are_left_alone(open_desk: OpenDesk) -> None:
    desk = open_desk(voice_limit=2)
    worker = desk.worker()
    theirs = desk.standin.account.add_voice("somebody's", [("a.wav", "audio/wav", b"RIFF")], None, {})
    ada, bob = desk.promised("ada"), desk.promised("bob")
    speech(speak(worker, "One.", voice=ada)[0])
    lease = desk.leases.acquire(NAME, f"voice:{key_of(ada)}", limit=9, seconds=30, holder="another worker")
    assert lease is not None
    assert isinstance(error(speak(worker, "Two.", voice=bob)[0]), ProviderBusy)
    desk.leases.release(lease)
    desk.offset += 1
    speech(speak(worker, "Two.", voice=bob)[0])
    assert theirs.voice_id in desk.standin.account.voices
    assert state(desk, ada) == "parked"


def test_slots_that_are_all_taken_by_others_are_an_error_that_says_so(open_desk: OpenDesk) -> None:
    desk = open_desk(voice_limit=1)
    desk.standin.account.add_voice("somebody's", [("a.wav", "audio/wav", b"RIFF")], None, {})
    failed = error(speak(desk.worker(), "One.", voice=desk.promised())[0])
    assert isinstance(failed, ProviderDenied) and "not ours" in failed.message


def test_a_voice_that_a_crash_left_behind_gives_its_slot_and_another_installations_does_not(
    open_desk: OpenDesk,
) -> None:
    desk = open_desk(voice_limit=2)
    ada, bob = desk.promised("ada"), desk.promised("bob")
    wav = [("a.wav", "audio/wav", b"RIFF")]
    left = desk.standin.account.add_voice(PREFIX + key_of(ada), wav, None, {})
    desk.voices.remember(provider=NAME, voice_key=key_of(ada), state="making", name=PREFIX + key_of(ada))
    theirs = desk.standin.account.add_voice(PREFIX + "kim-fedcba9876543210", wav, None, {})
    speech(speak(desk.worker(), "One.", voice=bob)[0])
    assert left.voice_id not in desk.standin.account.voices
    assert theirs.voice_id in desk.standin.account.voices


def test_a_slot_taken_by_somebody_in_the_meantime_is_freed_too(open_desk: OpenDesk) -> None:
    desk = open_desk(voice_limit=3)
    worker = desk.worker()
    ada = desk.promised("ada")
    speech(speak(worker, "One.", voice=ada)[0])
    desk.offset += 1
    worker._till.subscription()
    desk.standin.change(voice_limit=1)
    speech(speak(worker, "Two.", voice=desk.promised("bob"))[0])
    assert state(desk, ada) == "parked"


def test_a_plan_without_cloning_says_so(open_desk: OpenDesk) -> None:
    desk = open_desk(can_clone=False)
    failed = error(speak(desk.worker(), "One.", voice=desk.promised())[0])
    assert isinstance(failed, ProviderDenied) and "no instant voice cloning" in failed.message


def test_used_up_voice_changes_are_waited_for(open_desk: OpenDesk) -> None:
    desk = open_desk()
    desk.standin.account.voices_made = 1000
    failed = error(speak(desk.worker(), "One.", voice=desk.promised())[0])
    assert isinstance(failed, QuotaExhausted)


def test_a_voice_deleted_by_somebody_is_made_again(open_desk: OpenDesk) -> None:
    desk = open_desk()
    voice = desk.promised()
    worker = desk.worker()
    speech(speak(worker, "One.", voice=voice)[0])
    desk.standin.account.delete_voice(remote(desk)[PREFIX + key_of(voice)])
    speech(speak(worker, "Two.", voice=voice)[0])
    assert desk.standin.report().voices_made == 2


def test_a_parked_voice_without_its_enrolment_is_an_error_that_says_so(open_desk: OpenDesk) -> None:
    desk = open_desk()
    voice = desk.promised()
    desk.enrolments.clear()
    failed = error(speak(desk.worker(), "One.", voice=voice)[0])
    assert isinstance(failed, ProviderDenied) and "enrolment is gone" in failed.message


# Deletion


def test_nothing_of_a_deleted_voice_is_left(open_desk: OpenDesk) -> None:
    desk = open_desk(voice_limit=1)
    ada, bob = desk.promised("ada"), desk.promised("bob")
    worker = desk.worker()
    speech(speak(worker, "One.", voice=ada)[0])
    desk.offset += 1
    speech(speak(worker, "Two.", voice=bob)[0])  # parks ada
    desk.offset += 1
    speech(speak(worker, "Three.", voice=ada)[0])  # under another id
    worker.delete_voice(ada)
    worker.delete_voice(ada)
    assert remote(desk) == {}
    assert [item.text for item in desk.standin.account.history.values()] == ["Two."]
    assert not list((desk.folder / "cache").glob(f"{key_of(ada)}*"))
    assert state(desk, ada) == "deleted"
    failed = error(speak(worker, "Four.", voice=ada)[0])
    assert isinstance(failed, ProviderDenied) and "deleted" in failed.message
    assert remote(desk) == {}


def test_a_voice_that_only_elevenlabs_knows_is_deleted_by_its_name(open_desk: OpenDesk) -> None:
    desk = open_desk()
    voice = desk.promised()
    desk.standin.account.add_voice(PREFIX + key_of(voice), [("a.wav", "audio/wav", b"RIFF")], None, {})
    desk.worker().delete_voice(voice)
    assert remote(desk) == {}


def test_all_voices_of_its_name_are_deleted(open_desk: OpenDesk) -> None:
    """A voice that was made and did not show at once was made a second time."""
    desk = open_desk()
    voice = desk.promised()
    for _ in range(3):
        desk.standin.account.add_voice(PREFIX + key_of(voice), [("a.wav", "audio/wav", b"RIFF")], None, {})
    desk.worker().delete_voice(voice)
    assert remote(desk) == {}


def test_a_deleted_voice_can_be_made_again_on_purpose(open_desk: OpenDesk) -> None:
    desk = open_desk()
    worker = desk.worker()
    voice = desk.cloned(worker)
    worker.delete_voice(voice)
    assert desk.cloned(worker) == voice
    speech(speak(worker, "One.", voice=voice)[0])


def test_a_consent_revoked_while_it_speaks_leaves_nothing(open_desk: OpenDesk) -> None:
    desk = open_desk()
    voice = desk.promised()
    asked: list[str] = []

    def permit(utterance: Utterance) -> None:
        asked.append(utterance.text)
        if len(asked) > 2:  # the third time, the answer is there
            raise ConsentRevoked("consent-1")

    failed = error(speak(desk.worker(permit=permit), "One.", voice=voice)[0])
    assert isinstance(failed, ConsentRevoked)
    report = desk.standin.report()
    assert report.times_billed("One.") == 1 and report.history_items == 0
    assert not list((desk.folder / "cache").glob(f"{key_of(voice)}/*.speech"))
    assert desk.charges.open_credits(NAME) == 0


def test_a_revoked_voice_is_neither_sent_nor_made_again(open_desk: OpenDesk) -> None:
    desk = open_desk()

    def permit(_: Utterance) -> None:
        raise ConsentRevoked("consent-1")

    assert isinstance(error(speak(desk.worker(permit=permit), "One.", voice=desk.promised())[0]), ConsentRevoked)
    report = desk.standin.report()
    assert report.voices_made == 0 and report.calls.get(SPEECH, 0) == 0
