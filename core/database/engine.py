"""The one connection to the index, for SQLite and PostgreSQL alike.

SQLite runs in WAL with `synchronous=FULL`: a commit is on the disk when it returns.
Every writing transaction begins IMMEDIATE, because a reader that becomes a writer
half-way is refused at once instead of waiting for its turn.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DBAPIError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from core.errors import StoreUnavailable
from core.settings import Settings

__all__ = ["Database", "open_database"]

_MIGRATIONS = Path(__file__).parent / "migrations"
# The node's own checkpoints keep the log far below; this is for when they do not run.
_LONGEST_LOG_PAGES = 8000
_READ_ONLY = "secondread_read_only"


class Database:
    """Transactions on the index; safe to share between threads, not across a fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run a transaction that commits at the end of the block, or not at all.

        Raises
        ------
        StoreUnavailable
            If the database is locked for longer than the busy timeout, full or gone.
        """
        with _translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a transaction that sees one state of the index and waits for nobody.

        Raises
        ------
        StoreUnavailable
            If the database cannot be read.
        """
        with _translated(), self._reader.begin() as connection:
            yield connection

    def checkpoint(self) -> None:
        """Move what was committed from SQLite's log into its file; waits for nobody.

        Raises
        ------
        StoreUnavailable
            If the file cannot be written.
        """
        if self.engine.dialect.name != "sqlite":
            return
        with _translated(), self.engine.connect() as connection:
            # Outside of a transaction: inside, the log is in use by ourselves.
            driver = connection.connection.driver_connection
            cast("sqlite3.Connection", driver).execute(
                "PRAGMA wal_checkpoint(PASSIVE)"
            ).close()

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise StoreUnavailable(
            f"the index cannot be used now ({error.orig}); check the disk and whether "
            "another program holds the database"
        ) from error


def open_database(settings: Settings, *, migrate: bool = True) -> Database:
    """Open the index and bring its schema up to date.

    Parameters
    ----------
    settings
        `database_url` and `database.busy_timeout_s`.
    migrate
        Whether to run missing migrations. False for a command that only reads.

    Raises
    ------
    StoreUnavailable
        If the database cannot be opened, or is of a newer release.
    """
    url = make_url(settings.database_url)
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    arguments: dict[str, Any] = (
        {"timeout": settings.database.busy_timeout_s} if sqlite else {}
    )
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=not sqlite)
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    database = Database(engine)
    if migrate:
        _migrate(engine)
    return database


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA wal_autocheckpoint={_LONGEST_LOG_PAGES}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _migrate(engine: Engine) -> None:
    try:
        if _schema_of(engine) == _newest_schema():
            return
        _upgrade(engine)
    except (SQLAlchemyError, OSError) as error:
        raise StoreUnavailable(
            f"the index {engine.url.render_as_string()} cannot be opened: {error}"
        ) from error


def _schema_of(engine: Engine) -> str | None:
    """Return the schema that the database says it has; None if it says nothing."""
    reader = engine.execution_options(**{_READ_ONLY: True})
    try:
        with reader.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version"))
            return found.scalar()
    except (OperationalError, ProgrammingError):
        return None  # no such table, or a database that Alembic will complain about


def _newest_schema() -> str:
    """Return the schema of this release: migrations are numbered in their names."""
    names = [path.stem for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py")]
    return max(names).partition("_")[0]


def _upgrade(engine: Engine) -> None:
    # Alembic takes a fifth of a second to import, and is hardly ever needed.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    current = _schema_of(engine)
    known = {revision.revision for revision in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise StoreUnavailable(
            f"the index has schema {current}, which is newer than this release "
            f"({scripts.get_current_head()}); install the release that wrote it"
        )
    with engine.connect() as connection, _rows_left_alone(connection):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _rows_left_alone(connection: Connection) -> Iterator[None]:
    """Run a migration in one transaction that removes no row behind our back.

    SQLite cannot change a table: it is copied and the old one dropped, which would
    empty every table that refers to it.
    """
    if connection.dialect.name != "sqlite":
        with connection.begin():
            yield
        return
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        with connection.begin():
            yield
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise StoreUnavailable(
                    f"{len(broken)} rows of the index refer to rows that are not "
                    f"there (first in table {broken[0][0]}); restore it from a backup"
                )
    finally:
        driver.execute("PRAGMA foreign_keys=ON")
