"""Asks the index by which content a UID is known."""

from collections.abc import Callable

from core.database.engine import Database, open_database
from core.database.recording import known_instance
from core.received import KnownInstance
from core.settings import Settings

__all__ = ["look_up_with", "open_look_up"]


def open_look_up(settings: Settings) -> Callable[[str], KnownInstance | None]:
    """Open the index for look-ups; it stays open as long as the process lives."""
    return look_up_with(open_database(settings, migrate=False))


def look_up_with(database: Database) -> Callable[[str], KnownInstance | None]:
    """Make what asks an open index.

    The function raises `StoreUnavailable` if the index cannot be read.
    """

    def look_up(sop_instance_uid: str) -> KnownInstance | None:
        with database.read() as connection:
            return known_instance(connection, sop_instance_uid)

    return look_up
