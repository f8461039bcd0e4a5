"""Bring a ledger database to the schema of this release."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

HEAD = "0001"
"""The newest revision; a test holds it against the migration files."""


def migrate(engine: Engine) -> None:
    """Run the migrations that are missing, once, however many processes start at the same time."""
    if _revision(engine) == HEAD:
        return
    if engine.dialect.name == "sqlite":
        # SQLite's DDL commits by itself under Python's driver, so a file lock stands in for the transaction.
        from filelock import FileLock

        database = Path(str(engine.url.database))
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.migrate.lock"), engine.begin() as connection:
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

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
