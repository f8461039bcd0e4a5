"""Bring a ledger database to the schema of this release."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from avatar_pipeline.errors import EnvironmentProblem

HEAD = "0004"
"""The newest revision; a test holds it against the migration files."""


def migrate(engine: Engine) -> None:
    """Run the migrations that are missing, once, however many processes start at the same time."""
    if _revision(engine) == HEAD:
        return
    if engine.dialect.name == "sqlite":
        # SQLite's DDL commits by itself under Python's driver, so a file lock stands in for the transaction.
        from filelock import FileLock

        in_memory = engine.url.database in {None, "", ":memory:"}
        lock = nullcontext() if in_memory else FileLock(f"{engine.url.database}.migrate.lock")
        with lock, engine.begin() as connection:
            _upgrade(connection)
    else:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(727274)"))
            _upgrade(connection)


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise EnvironmentProblem(
            f"The ledger has another schema than this release knows: {error}.",
            remedy="Use the release that wrote it, or a newer one.",
        ) from error
