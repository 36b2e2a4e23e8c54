"""Asks the index by which content a UID is known, and fills the filter before it."""

from collections.abc import Callable

from sqlalchemy import func, select

from core.database.engine import Database, open_database
from core.database.recording import known_instance
from core.database.schema import instance
from core.received import KnownInstance
from core.settings import Settings
from dicom_node.shared_state import KnownFilter
from dicom_node.shared_state.known_filter import key_of

__all__ = ["fill_filter", "instance_count", "look_up_with", "open_look_up"]

_ROWS_AT_ONCE = 10_000


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


def instance_count(database: Database) -> int:
    """Return about how many instances the index has."""
    with database.read() as connection:
        return connection.execute(select(func.max(instance.c.id))).scalar() or 0


def fill_filter(database: Database, in_index: KnownFilter) -> None:
    """Add every instance of the index, in pieces, so that nobody waits for long.

    Whoever adds rows meanwhile adds them to the filter as well.

    Raises
    ------
    StoreUnavailable
        If the index cannot be read; the filter then proves nothing.
    """
    after = 0
    while True:
        with database.read() as connection:
            rows = connection.execute(
                select(instance.c.id, instance.c.sop_instance_uid)
                .where(instance.c.id > after)
                .order_by(instance.c.id)
                .limit(_ROWS_AT_ONCE)
            ).all()
        for _, sop_instance_uid in rows:
            in_index.add(key_of(sop_instance_uid))
        if len(rows) < _ROWS_AT_ONCE:
            in_index.completed()
            return
        after = rows[-1][0]
