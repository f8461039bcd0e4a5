"""The verdict: what must hold at the end, whatever was killed. A pure function over what was sent and found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.plan import Queue, Wish

FINAL = frozenset({"done", "failed"})
FRAME_SECONDS = 0.04
MAY_ESCAPE = 1
"""So many kills may find no victim before the work is done: a step lives for a tenth of a second."""


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """A request as the ledger has it. `events` are the states it went through, in order."""

    state: str
    clip_key: str | None
    events: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClipSeen:
    """A clip in the store. `problem` says what is wrong with its files, `text` what its speech says.

    `seconds` and `speech_seconds` are the lengths of its decoded picture and of the speech it was made from. `made` is
    how many attempts say that they rendered it: none, where the one that did was killed before it could say so.
    """

    avatar_id: str
    key: str
    text: str | None
    problem: str | None
    seconds: float
    speech_seconds: float
    made: int
    recorded: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in a dead-letter queue."""

    message_id: str
    reason: str | None
    receive_count: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent: the wish behind each request id, and the ids of the poison messages by queue."""

    wishes: Mapping[str, Wish]
    poison: Mapping[Queue, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was found at the end.

    `left` are messages still in each queue, `runs` runs by status, `strays` what lies in the store where only finished
    artifacts belong, `avatars` the state of each avatar.
    """

    requests: Mapping[str, RequestSeen]
    clips: tuple[ClipSeen, ...]
    dead: Mapping[Queue, tuple[DeadLetter, ...]]
    left: Mapping[Queue, int]
    runs: Mapping[str, int]
    strays: tuple[str, ...]
    avatars: Mapping[str, str]


def judge(sent: Sent, found: Snapshot, *, kills: Mapping[str, int], asked: Mapping[str, int]) -> list[str]:
    """Return what is wrong, one sentence each; nothing if the line lost nothing and did nothing twice."""
    return [
        *_requests(sent, found),
        *_clips(sent, found),
        *_avatars(sent, found),
        *_dead_letters(sent, found),
        *_leftovers(found),
        *_kills(kills, asked),
    ]


def _kills(kills: Mapping[str, int], asked: Mapping[str, int]) -> Iterator[str]:
    missing = Counter(asked) - Counter(kills)
    if missing.total() > MAY_ESCAPE:
        for target in missing:
            yield f"{target}: {kills.get(target, 0)} kills, {asked[target]} were to be done"


def _requests(sent: Sent, found: Snapshot) -> Iterator[str]:
    for name in sorted(sent.wishes.keys() - found.requests.keys()):
        yield f"{name} is lost: the ledger does not know it"
    for name in sorted(found.requests.keys() - sent.wishes.keys()):
        yield f"{name} is in the ledger and nobody sent it"
    for name in sorted(sent.wishes.keys() & found.requests.keys()):
        request = found.requests[name]
        finals = [state for state in request.events if state in FINAL]
        if request.state != "done":
            yield f"{name} is {request.state}, not done ({request.error or 'no error'})"
        if finals != ["done"]:
            yield f"{name} has the final events {finals}, not one 'done'"
        elif request.events[-1] != "done":
            yield f"{name} went on after it was done: {request.events}"
        if request.events.count("queued") != 1:
            yield f"{name} was taken in {request.events.count('queued')} times"
        if sent.wishes[name].kind == "clip" and request.events.count("claimed") != 1:
            yield f"{name} was claimed {request.events.count('claimed')} times"


def _clips(sent: Sent, found: Snapshot) -> Iterator[str]:
    wanted: dict[tuple[str, str], set[str | None]] = {}
    for name, wish in sent.wishes.items():
        if wish.kind == "clip" and name in found.requests:
            wanted.setdefault((wish.avatar_id, wish.text), set()).add(found.requests[name].clip_key)
    stored = {(clip.avatar_id, clip.key): clip for clip in found.clips}
    for (avatar_id, text), keys in sorted(wanted.items()):
        if len(keys) != 1:
            yield f"{avatar_id} {text!r}: {len(keys)} different clips for one wish"
        for key in keys:
            clip = None if key is None else stored.get((avatar_id, key))
            if clip is None:
                yield f"{avatar_id} {text!r}: its clip {key} is not in the store"
            elif clip.text != text:
                yield f"{avatar_id} {text!r}: its clip says {clip.text!r}"
    per_wish = Counter((clip.avatar_id, clip.text) for clip in found.clips)
    for (avatar_id, spoken), count in sorted(per_wish.items(), key=str):
        if (avatar_id, spoken) not in wanted:
            yield f"{avatar_id} {spoken!r}: a clip that nobody asked for"
        elif count != 1:
            yield f"{avatar_id} {spoken!r}: {count} clip objects"
    for clip in found.clips:
        where = f"{clip.avatar_id}/clips/{clip.key}"
        if clip.problem is not None:
            yield f"{where} is damaged: {clip.problem}"
        elif abs(clip.seconds - clip.speech_seconds) > FRAME_SECONDS + 1e-6:
            yield f"{where} shows {clip.seconds:.3f} s for {clip.speech_seconds:.3f} s of speech"
        if not clip.recorded:
            yield f"{where} is not in the ledger"


def _avatars(sent: Sent, found: Snapshot) -> Iterator[str]:
    greetings: dict[str, set[str | None]] = {}
    for name, wish in sent.wishes.items():
        if wish.kind == "avatar" and name in found.requests:
            greetings.setdefault(wish.avatar_id, set()).add(found.requests[name].clip_key)
    for avatar_id, keys in greetings.items():
        if len(keys) != 1 or None in keys:
            yield f"avatar {avatar_id}: its requests name {len(keys)} greetings"
    for avatar_id, state in found.avatars.items():
        if state != "ready":
            yield f"avatar {avatar_id} is {state}"


def _dead_letters(sent: Sent, found: Snapshot) -> Iterator[str]:
    for queue, letters in found.dead.items():
        ids = [letter.message_id for letter in letters]
        poison = sent.poison.get(queue, frozenset())
        for message_id in sorted(poison - set(ids)):
            yield f"{queue} queue: poison message {message_id} is no dead letter"
        for letter in letters:
            if letter.message_id not in poison:
                yield f"{queue} queue: {letter.message_id} is a dead letter and was no poison: {letter.reason}"
            elif not letter.reason:
                yield f"{queue} queue: dead letter {letter.message_id} has no reason"
        if len(ids) != len(set(ids)):
            yield f"{queue} queue: a message is a dead letter twice"


def _leftovers(found: Snapshot) -> Iterator[str]:
    for queue, count in found.left.items():
        if count:
            yield f"{queue} queue: {count} messages are left"
    for status, count in found.runs.items():
        if count and status not in {"SUCCESS", "FAILURE", "CANCELED"}:
            yield f"{count} runs are left {status}"
    for stray in found.strays:
        yield f"{stray} lies among the finished artifacts"
