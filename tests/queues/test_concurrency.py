"""Many receivers at one SQL queue: nobody gets what another has, and nothing is lost."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

from sqlalchemy import Engine

from avatar_pipeline.queues.sql import SqlQueue
from tests.queues.conftest import HandClock

MINUTE = timedelta(minutes=1)

CONSUMER = """
import sys
from datetime import timedelta
from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.queues.sql import SqlQueue

queue = SqlQueue(open_engine(sys.argv[1]), "clips", max_receives=3)
while messages := queue.receive(7, visibility=timedelta(minutes=10)):
    for message in messages[1:]:
        print("done", message.body)
    queue.delete(messages[1:])
    print("dead", messages[0].body)
    queue.dead_letter(messages[0], "chosen to die")
"""


def test_processes_share_a_queue_without_loss_or_repetition(engine: Engine) -> None:
    queue = SqlQueue(engine, "clips", max_receives=3)
    sent = [f"message {number}" for number in range(600)]
    queue.send(sent)
    url = engine.url.render_as_string(hide_password=False)
    consumers = [
        subprocess.Popen([sys.executable, "-c", CONSUMER, url], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    lines = [line for consumer in consumers for line in consumer.communicate(timeout=120)[0].splitlines()]
    assert all(consumer.returncode == 0 for consumer in consumers)
    assert Counter(line.partition(" ")[2] for line in lines) == Counter(sent)
    assert queue.depth().total == 0
    dead = [line.removeprefix("dead ") for line in lines if line.startswith("dead ")]
    assert sorted(letter.body for letter in queue.dead.peek(600)) == sorted(dead)


def test_threads_that_receive_at_once_get_different_messages(engine: Engine) -> None:
    queue = SqlQueue(engine, "clips", max_receives=3)
    queue.send([str(number) for number in range(80)])
    together = Barrier(4)

    def consume(_: int) -> list[str]:
        together.wait()
        got = [message.body for _ in range(4) for message in queue.receive(5, visibility=MINUTE)]
        return got

    with ThreadPoolExecutor(4) as pool:
        got = [body for part in pool.map(consume, range(4)) for body in part]
    assert len(got) == len(set(got))
    rest = [message.body for message in queue.receive(80, visibility=MINUTE)]
    assert sorted(got + rest, key=int) == [str(number) for number in range(80)]


def test_two_that_bury_the_same_message_leave_one_letter(engine: Engine, clock: HandClock) -> None:
    queue = SqlQueue(engine, "clips", max_receives=1, clock=clock)
    queue.send([str(number) for number in range(20)])
    held = queue.receive(20, visibility=MINUTE)
    clock.now += MINUTE
    together = Barrier(4)

    def bury(worker: int) -> None:
        together.wait()
        if worker % 2:
            assert queue.receive(20, visibility=MINUTE) == []
        else:
            for message in held:
                queue.dead_letter(message, "malformed")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bury, range(4)))
    assert sorted(int(letter.body) for letter in queue.dead.peek(100)) == list(range(20))
    assert queue.depth().total == 0


def test_two_redrives_at_once_move_each_letter_once(engine: Engine) -> None:
    queue = SqlQueue(engine, "clips", max_receives=3)
    queue.send([str(number) for number in range(50)])
    for message in queue.receive(50, visibility=MINUTE):
        queue.dead_letter(message, "bad")
    together = Barrier(2)

    def redrive(limit: int | None) -> int:
        together.wait()
        return queue.redrive(limit)

    with ThreadPoolExecutor(2) as pool:
        moved = list(pool.map(redrive, [None, 30]))
    assert sum(moved) + queue.redrive() == 50
    assert queue.depth().visible == 50
