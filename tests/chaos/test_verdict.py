"""The crash test's own judgement: it must see every way in which a line can lose something or do it twice."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.plan import READY, Plan, Wish, make_plan, read_groups, write_plan
from tests.chaos.processes import TARGETS, role_of, shares
from tests.chaos.verdict import ClipSeen, DeadLetter, RequestSeen, Sent, Snapshot, judge

LIFE = ("queued", "claimed", "running", "done")
DONE = RequestSeen("done", "k1", LIFE)
GREETED = RequestSeen("done", "g1", ("queued", "running", "done"))
GREETED_OTHERWISE = replace(GREETED, clip_key="g2")
CLIP = ClipSeen("ada", "k1", "Hello.", None, 1.0, 1.0, made=1, recorded=True)
POISON = DeadLetter("m-9", "not JSON", 1)
SENT = Sent(
    {
        "one": Wish("clip", "ada", "Hello."),
        "same": Wish("clip", "ada", "Hello."),
        "bo": Wish("avatar", "bo", ""),
        "again": Wish("avatar", "bo", ""),
    },
    {"clip": frozenset({"m-9"}), "avatar": frozenset()},
)
GOOD = Snapshot(
    requests={"one": DONE, "same": DONE, "bo": GREETED, "again": GREETED},
    clips=(CLIP,),
    dead={"clip": (POISON,), "avatar": ()},
    left={"clip": 0, "avatar": 0},
    runs={"SUCCESS": 3, "FAILURE": 2},
    strays=(),
    avatars={"ada": "ready", "bo": "ready"},
)
KILLS = {"run_worker": 2, "daemon": 1}


def verdict(found: Snapshot, kills: dict[str, int] | None = None) -> list[str]:
    return judge(SENT, found, kills=KILLS if kills is None else kills, asked=KILLS)


def with_request(**changes: object) -> Snapshot:
    return replace(GOOD, requests={**GOOD.requests, "one": replace(DONE, **changes)})  # type: ignore[arg-type]


def without_request() -> Snapshot:
    return replace(GOOD, requests={name: seen for name, seen in GOOD.requests.items() if name != "one"})


def with_clip(**changes: object) -> Snapshot:
    return replace(GOOD, clips=(replace(CLIP, **changes),))  # type: ignore[arg-type]


def test_a_line_that_did_everything_once_passes() -> None:
    assert verdict(GOOD) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (without_request, "one is lost"),
        (lambda: replace(GOOD, requests={**GOOD.requests, "other": DONE}), "nobody sent it"),
        (lambda: with_request(state="running", events=LIFE[:3]), "is running, not done"),
        (lambda: with_request(state="failed", events=(*LIFE[:3], "failed")), "final events ['failed']"),
        (lambda: with_request(events=(*LIFE, "done")), "final events ['done', 'done']"),
        (lambda: with_request(events=(*LIFE, "running")), "went on after it was done"),
        (lambda: with_request(events=("queued", *LIFE)), "was taken in 2 times"),
        (lambda: with_request(events=("queued", "claimed", *LIFE[1:])), "was claimed 2 times"),
        (lambda: with_request(clip_key="k2"), "2 different clips for one wish"),
        (lambda: with_request(clip_key=None), "its clip None is not in the store"),
        (lambda: replace(GOOD, clips=()), "its clip k1 is not in the store"),
        (lambda: replace(GOOD, clips=(CLIP, replace(CLIP, key="k2"))), "2 clip objects"),
        (lambda: replace(GOOD, clips=(CLIP, replace(CLIP, key="k2", text="What?"))), "a clip that nobody asked for"),
        (lambda: with_clip(text="Something else."), "its clip says 'Something else.'"),
        (lambda: with_clip(problem="cut short"), "is damaged: cut short"),
        (lambda: with_clip(seconds=0.9), "shows 0.900 s for 1.000 s of speech"),
        (lambda: with_clip(recorded=False), "is not in the ledger"),
        (lambda: replace(GOOD, dead={"clip": (), "avatar": ()}), "poison message m-9 is no dead letter"),
        (lambda: replace(GOOD, dead={"clip": (POISON, DeadLetter("m-1", "received 5 times", 5))}), "was no poison"),
        (lambda: replace(GOOD, dead={"clip": (POISON, POISON)}), "a dead letter twice"),
        (lambda: replace(GOOD, dead={"clip": (replace(POISON, reason=None),)}), "has no reason"),
        (lambda: replace(GOOD, left={"clip": 2, "avatar": 0}), "clip queue: 2 messages are left"),
        (lambda: replace(GOOD, runs={"STARTED": 1}), "1 runs are left STARTED"),
        (lambda: replace(GOOD, strays=("avatars/ada/clips/k1.tmp",)), "lies among the finished artifacts"),
        (
            lambda: replace(GOOD, requests={**GOOD.requests, "again": GREETED_OTHERWISE}),
            "its requests name 2 greetings",
        ),
        (lambda: replace(GOOD, avatars={"ada": "ready", "bo": "failed"}), "avatar bo is failed"),
    ],
)
def test_each_thing_that_can_go_wrong_is_told(found: Callable[[], Snapshot], told: str) -> None:
    sentences = verdict(found())
    assert any(told in sentence for sentence in sentences), sentences


def test_too_few_kills_are_no_crash_test() -> None:
    assert verdict(GOOD, {"run_worker": 1}) == [
        "run_worker: 1 kills, 2 were to be done",
        "daemon: 0 kills, 1 were to be done",
    ]


def test_one_victim_may_get_away() -> None:
    assert verdict(GOOD, {"run_worker": 2}) == []


def plan_of(requests: int = 60, seed: int = 3) -> Plan:
    return make_plan(requests, seed=seed, uploads=("video", "consent"))


def test_a_plan_asks_for_each_thing_under_its_own_id_and_the_same_seed_gives_the_same() -> None:
    plan = plan_of()
    assert plan == plan_of()
    assert plan != plan_of(seed=4)
    assert len(plan.wishes) == plan.count("request") == 60
    assert {delivery.request_id for delivery in plan.deliveries if delivery.purpose == "request"} == set(plan.wishes)
    assert {wish.avatar_id for wish in plan.wishes.values()} == {READY, "bo", "cy"}


def test_a_plan_repeats_wishes_under_other_ids_and_ids_in_other_messages() -> None:
    plan = plan_of()
    clips = [wish for wish in plan.wishes.values() if wish.kind == "clip"]
    assert len(set(clips)) < len(clips)
    bodies = {one.request_id: one.body for one in plan.deliveries if one.purpose == "request"}
    again = [one for one in plan.deliveries if one.purpose == "duplicate"]
    assert again
    assert all(one.body == bodies[one.request_id] for one in again)


@given(requests=st.integers(12, 400), seed=st.integers(0, 2**32))
def test_what_conflicts_waits_for_what_it_conflicts_with(requests: int, seed: int) -> None:
    plan = plan_of(requests, seed)
    waiting = [one for one in plan.deliveries if one.after is not None]
    assert len(waiting) == max(1, requests // 100)
    assert all(one.purpose == "poison" and one in plan.groups[-1] for one in waiting)
    assert all(plan.wishes[str(one.after)].kind == "clip" for one in waiting)
    assert read_groups(write_plan(plan)) == [list(group) for group in plan.groups]


@given(kills=st.integers(0, 200))
def test_kills_are_shared_out_among_all_targets(kills: int) -> None:
    given_out = shares(kills)
    assert len(given_out) == kills
    if kills >= len(TARGETS):
        assert set(given_out) == set(TARGETS)


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["python", "-m", "dagster", "api", "grpc", "--port", "4000"], "code_server"),
        (["python", "/venv/bin/dagster-daemon", "run"], "daemon"),
        (["python", "-c", "from multiprocessing.spawn import spawn_main", "--multiprocessing-fork"], "run_worker"),
        (["python", "-c", "from multiprocessing.resource_tracker import main;main(8)"], None),
        (["python", "-m", "avatar_pipeline.voice.espeak_worker"], "step"),
        (["python", "-m", "tests.chaos.producer"], None),
    ],
)
def test_processes_are_known_by_their_command_lines(command: list[str], role: str | None) -> None:
    assert role_of(command) == role
