"""Opening the queues connects to nothing and loads nothing that is not needed."""

import subprocess
import sys

from sqlalchemy import Engine

from avatar_pipeline.queues.open import open_queues
from avatar_pipeline.settings import Settings


def test_the_settings_name_the_queues(sqlite_engine: Engine) -> None:
    queues = open_queues(Settings(avatar_queue="a-avatars", clip_queue="a-clips", max_receives=1), sqlite_engine)
    assert (queues.avatars.name, queues.clips.name) == ("a-avatars", "a-clips")
    queues.clips.send(["x"])
    assert queues.avatars.depth().total == 0
    assert queues.clips.depth().total == 1


def test_sqs_is_opened_without_a_connection_and_shares_one_client(sqs_endpoint: str, sqlite_engine: Engine) -> None:
    settings = Settings(queue="sqs", sqs_endpoint=sqs_endpoint, max_receives=4)
    queues = open_queues(settings, sqlite_engine)
    assert (queues.avatars.name, queues.clips.dead.name) == ("avatar-requests", "clip-requests-dead")
    assert queues.avatars._connect() is queues.clips.dead._connect()


def test_opening_either_loads_no_boto3() -> None:
    code = """
import sys
from sqlalchemy import create_engine
from avatar_pipeline.queues.open import open_queues
from avatar_pipeline.settings import Settings
for kind in ("sql", "sqs"):
    open_queues(Settings(queue=kind), create_engine("sqlite://"))
sys.exit(any(name in sys.modules for name in ("boto3", "botocore", "psycopg", "alembic", "numpy")))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
