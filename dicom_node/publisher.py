"""From the outbox to the queue: announces jobs, whatever the broker is doing.

Only this thread talks to the broker, so a broker that is gone, full or frozen delays
announcements and nothing else. A row is marked after its message is out: a kill in
between sends it twice, which is harmless, and never not at all.
"""

from collections.abc import Callable

from core.database import outbox
from core.database.engine import Database
from core.errors import BrokerUnavailable
from core.faults import fault
from core.log import get_log
from core.settings import Priority

__all__ = ["Announce", "Publisher"]

Announce = Callable[[int, Priority], None]
"""Sends one job's message or raises `BrokerUnavailable`: `core.queue.announce_job`."""

POLL_S = 1.0
# While jobs wait for workers to take others: a full set of messages each time would
# be hundreds of jobs a second.
BACKLOG_POLL_S = 0.2
FIRST_DELAY_S = 0.5
MAXIMUM_DELAY_S = 5.0


class Publisher:
    """Announces what the outbox holds.

    Parameters
    ----------
    database
        The index.
    announce
        Sends one message; must give up within some seconds.
    """

    def __init__(self, database: Database, announce: Announce) -> None:
        self._database = database
        self._announce = announce
        self._delay_s = 0.0

    @property
    def broker_answers(self) -> bool:
        """Whether the broker took the last message."""
        return self._delay_s == 0.0

    def publish_due(self) -> float:
        """Announce what waits and may go out now, urgent jobs first.

        Returns
        -------
        Seconds until the next try.
        """
        with self._database.read() as connection:
            waiting = outbox.unpublished(connection)
            more = outbox.is_waiting(connection)
        for entry in waiting:
            fault("outbox.before_publish")
            try:
                self._announce(entry.job_id, entry.priority)
            except BrokerUnavailable as error:
                return self._back_off(error)
            fault("outbox.after_publish_before_mark")
            with self._database.write() as connection:
                outbox.mark_published(connection, entry.id)
            self._broker_is_back()
            get_log().info(
                "job_announced", job_id=entry.job_id, priority=entry.priority.value
            )
        if waiting:
            return 0.0
        return BACKLOG_POLL_S if more else POLL_S

    def _back_off(self, error: BrokerUnavailable) -> float:
        if self.broker_answers:
            get_log().warning("broker_unavailable", error=str(error))
        self._delay_s = min(MAXIMUM_DELAY_S, max(FIRST_DELAY_S, 2 * self._delay_s))
        return self._delay_s

    def _broker_is_back(self) -> None:
        if not self.broker_answers:
            get_log().info("broker_available")
        self._delay_s = 0.0
