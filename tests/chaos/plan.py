"""What the producer sends: requests, the same ones again, the same wish under other ids, and poison. Seeded, pure."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Queue = Literal["clip", "avatar"]
Purpose = Literal["request", "duplicate", "poison"]
READY, ASKED_FOR = "ada", ("bo", "cy")
"""One avatar is there from the start; the others are asked for through the queue, after the first clips of them."""
TENANTS = ("acme", "globex", "initech")
TOO_LONG = 5001


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message. `after` is a request that has to be in the ledger before this message is sent."""

    queue: Queue
    purpose: Purpose
    body: str
    request_id: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request id stands for. Two ids with the same avatar and text are to get the same clip."""

    kind: Queue
    avatar_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Messages in groups, to be sent one group after the other, and what they ask for by request id."""

    groups: tuple[tuple[Delivery, ...], ...]
    wishes: dict[str, Wish]

    @property
    def deliveries(self) -> list[Delivery]:
        """All messages."""
        return [delivery for group in self.groups for delivery in group]

    def count(self, purpose: Purpose) -> int:
        """Return how many messages have this purpose."""
        return sum(delivery.purpose == purpose for delivery in self.deliveries)


def make_plan(
    requests: int, *, seed: int, uploads: tuple[str, str], avatars: Sequence[str] = ASKED_FOR, group_size: int = 12
) -> Plan:
    """Plan `requests` different requests, those for `avatars` included, and the rest of the messages around them.

    Of the clip requests, an eighth wish for what another one wishes for. A sixth of all are sent twice. One poison
    message of each kind comes with every hundred requests. `uploads` are the URIs of a video and of a consent.
    """
    chance = random.Random(seed)
    bodies: dict[str, tuple[Queue, dict[str, Any]]] = {}
    wishes: dict[str, Wish] = {}
    # The first of them is asked for under two ids.
    asked = [(avatar_id, f"avatar-{avatar_id}") for avatar_id in avatars]
    asked += [(avatar_id, f"again-{avatar_id}") for avatar_id in avatars[:1]]
    for number in range(requests - len(asked)):
        request_id = f"clip-{number:04d}"
        copied = bodies[f"clip-{chance.randrange(number):04d}"][1] if number and chance.random() < 1 / 8 else None
        avatar_id = copied["avatar_id"] if copied else chance.choice([READY, READY, *avatars])
        text = copied["text"] if copied else f"Clip number {number}."
        body = {"request_id": request_id, "avatar_id": avatar_id, "text": text, "tenant": chance.choice(TENANTS)}
        bodies[request_id] = ("clip", body | {"priority": chance.choice([0, 0, 0, 5])})
        wishes[request_id] = Wish("clip", avatar_id, text)
    order = list(bodies)
    for avatar_id, request_id in asked:
        body = {"request_id": request_id, "avatar_id": avatar_id, "video_uri": uploads[0], "consent_uri": uploads[1]}
        bodies[request_id] = ("avatar", body)
        wishes[request_id] = Wish("avatar", avatar_id, "")
        order.insert(min(len(order), 6), request_id)
    sent = [Delivery(bodies[name][0], "request", json.dumps(bodies[name][1]), name) for name in order]
    groups = [list(sent[at : at + group_size]) for at in range(0, len(sent), group_size)]
    _add_duplicates(groups, chance)
    rounds = max(1, requests // 100)
    for delivery in (poison for _ in range(rounds) for poison in _poison(chance)):
        groups[chance.randrange(len(groups))].append(delivery)
    # Same id, other content: only poison if the first is known already, so these go last and wait for it.
    for name in chance.sample([name for name in order[: len(order) // 2 + 1] if name.startswith("clip")], rounds):
        body = bodies[name][1] | {"text": "Something else."}
        groups[-1].append(Delivery("clip", "poison", json.dumps(body), name, after=name))
    return Plan(tuple(tuple(group) for group in groups), wishes)


def _add_duplicates(groups: list[list[Delivery]], chance: random.Random) -> None:
    """Send a sixth of the requests twice: in the same group, or in a later one."""
    for number, group in enumerate(list(groups)):
        for delivery in [one for one in group if one.purpose == "request" and chance.random() < 1 / 6]:
            again = Delivery(delivery.queue, "duplicate", delivery.body, delivery.request_id)
            groups[chance.randrange(number, len(groups))].append(again)
    for group in groups:
        chance.shuffle(group)


def _poison(chance: random.Random) -> Iterator[Delivery]:
    good = {"request_id": f"poison-{chance.getrandbits(40):010x}", "avatar_id": READY, "text": "Never said."}
    yield Delivery("clip", "poison", "{this is not JSON")
    yield Delivery("clip", "poison", json.dumps(good | {"colour": "blue"}))
    yield Delivery("clip", "poison", json.dumps(good | {"text": "a" * TOO_LONG}))
    yield Delivery("clip", "poison", json.dumps(good | {"version": 99}))
    yield Delivery("avatar", "poison", json.dumps({"avatar_id": "Not A Slug", "video_uri": "x"}))


def write_plan(plan: Plan) -> str:
    """Return the groups as JSON, for the producer's process."""
    return json.dumps([[asdict(delivery) for delivery in group] for group in plan.groups])


def read_groups(text: str) -> list[list[Delivery]]:
    """Return the groups that `write_plan` wrote."""
    return [[Delivery(**delivery) for delivery in group] for group in json.loads(text)]
