"""The ledger's database: SQLite out of the box, PostgreSQL in production, and one transaction on either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from zlib import crc32

from sqlalchemy import ColumnElement, CursorResult, Engine, Integer, create_engine, delete, event, func, select
from sqlalchemy import cast as cast_to
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, ExceptionContext, Result, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import InstrumentedAttribute, Session

from avatar_pipeline.errors import EnvironmentProblem, InvalidInput

CHUNK = 500
"""Values in one IN list: SQLite was long built for at most 999 parameters of a statement."""

PAGE = 5000
"""Rows deleted in one transaction: on SQLite nobody else writes meanwhile."""

T = TypeVar("T")
_READS = "ledger_reads"
_DURABLE = "ledger_durable"


def open_engine(url: str) -> Engine:
    """Return an engine for an SQLAlchemy URL; `postgresql://` means psycopg 3.

    Its errors say what went wrong and in which statement, never with which values: what a clip says is in no log.

    Raises:
        InvalidInput: it is no URL of a database.
        EnvironmentProblem: the driver is not installed.
    """
    try:
        parsed = _with_driver(make_url(url))
        parsed.get_dialect()
    except (ArgumentError, ValueError):
        # Not chained: the cause may quote a part of the password.
        raise InvalidInput(
            "AVATAR_LEDGER_URL is not a database URL.",
            remedy="Give an SQLAlchemy URL such as sqlite:////data/ledger.db; escape what is special in a password.",
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    try:
        engine = create_engine(parsed, pool_pre_ping=True, isolation_level="READ COMMITTED", hide_parameters=True)
    except ImportError as error:
        raise EnvironmentProblem(
            f"The database driver {error.name!r}, which AVATAR_LEDGER_URL needs, is not installed.",
            remedy=f"Install it: pip install {error.name}.",
        ) from error
    event.listen(engine, "handle_error", _without_detail)
    return engine


@contextmanager
def writing(engine: Engine, *, durable: bool = False) -> Iterator[Session]:
    """One transaction that writes. On SQLite it holds the write lock from its beginning.

    `durable`: on SQLite, wait until it is on the disk, so that even a loss of power cannot undo it; for what is deleted
    elsewhere because it is safe here. (PostgreSQL always does.)
    """
    bind = engine.execution_options(**{_DURABLE: True}) if durable else engine
    with Session(bind, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One transaction that only reads: on SQLite it keeps no writer waiting, and sees the database as it was."""
    with Session(engine.execution_options(**{_READS: True}), expire_on_commit=False) as session, session.begin():
        yield session


def exclusively(session: Session, *name: str) -> None:
    """Wait until no other transaction does what has this name, and keep others waiting until this one ends.

    On SQLite there is nothing to do: a transaction that writes is alone anyway. Two names may share a lock by chance,
    which costs a wait and no more.
    """
    if session.get_bind().dialect.name == "sqlite":
        return
    area, one = (crc32(part.encode()) - 2**31 for part in (name[0], "\0".join(name[1:])))
    # One number locks as well, but in a space of its own, which the migrations use.
    session.execute(select(func.pg_advisory_xact_lock(cast_to(area, Integer), cast_to(one, Integer))))


def insert_new(session: Session, table: Any) -> Any:
    """Return an INSERT that passes over rows whose key is there already, in the database's own dialect."""
    return _insert(session, table).on_conflict_do_nothing()


def insert_or_update(session: Session, table: Any, *, keys: Sequence[str], changes: Sequence[str]) -> Any:
    """Return an INSERT that, where the key is there already, changes these columns instead."""
    statement = _insert(session, table)
    new = {name: statement.excluded[name] for name in changes}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=new)


def _insert(session: Session, table: Any) -> Any:
    return (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(table)


def changed(result: Result[Any]) -> int:
    """Return how many rows an UPDATE or DELETE changed."""
    return cast("CursorResult[Any]", result).rowcount


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Return the values in groups that fit an IN list."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def delete_in_pages(engine: Engine, key: InstrumentedAttribute[Any], *which: ColumnElement[bool]) -> int:
    """Delete the rows of `key`'s table that fit, some in each transaction so that others get their turn; return how
    many. Breaking off between two loses nothing: what is left is deleted by the next call.
    """
    total = 0
    while True:
        some = select(key).where(*which).limit(PAGE)
        with writing(engine) as session:
            gone = changed(
                session.execute(
                    delete(key.class_).where(key.in_(some), *which), execution_options={"synchronize_session": False}
                )
            )
        total += gone
        if gone < PAGE:
            return total


def _without_detail(context: ExceptionContext) -> None:
    """Keep of PostgreSQL's words the first line: a detail or a context quotes the row, and so a text or a URL."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args and isinstance(error.args[0], str):
            error.args = (error.args[0].partition("\n")[0], *error.args[1:])


def _with_driver(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg") if url.drivername in {"postgresql", "postgres"} else url


def _sqlite(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN is deferred and fails, instead of waiting, when two readers both want to write.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        options = connection.get_execution_options()
        if options.get(_READS):
            connection.exec_driver_sql("BEGIN")
            return
        # Cannot be changed inside a transaction, and holds for the connection, which goes back to a pool.
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get(_DURABLE) else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
