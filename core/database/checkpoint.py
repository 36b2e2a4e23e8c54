"""Moving what was committed from SQLite's log into its file, off the writers' path.

SQLite lets the writer that finds the log too long do it, which makes one commit in
some twenty wait for hundreds of page writes and a sync. Here a connection of its own
does it all the time; the writers' own limit stays as a last resort.
"""

from core.database.engine import Database

__all__ = ["Checkpoints"]

PAUSE_S = 1.0


class Checkpoints:
    """Keeps the log short; of no use, and without effect, on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def step(self) -> float:
        """Write back what is committed; return the seconds until the next time.

        Raises
        ------
        StoreUnavailable
            If the database cannot be written.
        """
        self._database.checkpoint()
        return PAUSE_S
