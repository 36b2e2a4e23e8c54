"""The index as a command opens it: to look, or to change one thing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import OperatorError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from core.database.engine import Database
    from core.settings import Settings

__all__ = ["index_exists", "opened_index", "the_one_study"]


def index_exists(settings: "Settings") -> bool:
    """Tell whether there is an index yet; a configured database counts as one."""
    return (
        settings.database.url is not None
        or (settings.data_dir / "index.sqlite").exists()
    )


@contextmanager
def opened_index(settings: "Settings") -> Iterator["Database"]:
    """Open the index of an installation that has run before.

    Raises
    ------
    OperatorError
        If there is none: a look must not create an empty installation.
    StoreUnavailable
        If it cannot be opened.
    """
    from core.database.engine import open_database  # noqa: PLC0415

    if not index_exists(settings):
        raise OperatorError(
            f"nothing was received into {settings.data_dir} yet: it has no index. "
            "Start with `secondread up`, or name another folder with --data-dir"
        )
    # The service brings the schema up to date; a look leaves it as it is.
    database = open_database(settings, migrate=False)
    try:
        yield database
    finally:
        database.close()


def the_one_study(connection: "Connection", fragment: str) -> str:
    """Return the Study Instance UID that is, begins or ends with `fragment`.

    Raises
    ------
    OperatorError
        If there is none, or more than one; the message lists them.
    """
    from core.database.overview import find_studies  # noqa: PLC0415

    found = find_studies(connection, fragment)
    if len(found) == 1:
        return found[0]
    if not found:
        raise OperatorError(
            f"no study's UID is, begins or ends with {fragment!r}; "
            "`secondread studies` lists them"
        )
    raise OperatorError(
        f"{fragment!r} fits more than one study: {', '.join(found)}; "
        "give more of the UID"
    )
