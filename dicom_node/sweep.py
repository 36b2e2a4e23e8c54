"""The sweep: finds what a killed process, a lost message or a changed setting left.

A job is taken back when its heartbeat counter stood still for the length of a lease, by
this process's own monotonic clock. No times of two hosts are compared.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from core.database import deliveries, failure_reports, jobs, outbox
from core.database.engine import Database
from core.database.jobs import Beat
from core.log import get_log
from core.settings import Settings

__all__ = ["LeaseWatch", "Sweep", "Swept"]


@dataclass(frozen=True)
class _Seen:
    beat: Beat
    since: float


class LeaseWatch:
    """Decides which leases are dead: those whose counter stood still.

    Parameters
    ----------
    lease_s
        How long a counter may stand still.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[int, _Seen] = {}

    def dead(self, beats: Iterable[Beat], *, now: float) -> list[Beat]:
        """Take in the counters as they are now and return the leases that are dead.

        Parameters
        ----------
        beats
            The leases of all claimed jobs.
        now
            Seconds of a monotonic clock. A lease that is seen for the first time gets
            its whole time from now on: a restarted node takes nothing from the living.
        """
        seen: dict[int, _Seen] = {}
        for beat in beats:
            known = self._seen.get(beat.job_id)
            moved = known is None or known.beat != beat
            seen[beat.job_id] = _Seen(
                beat, now if known is None or moved else known.since
            )
        self._seen = seen
        return [
            entry.beat for entry in seen.values() if now - entry.since >= self._lease_s
        ]


@dataclass(frozen=True)
class Swept:
    """What one sweep found and set right."""

    announced_again: int
    taken_back: int
    without_destination: int


class Sweep:
    """Looks over jobs and deliveries, at start and every `queue.sweep_interval_s`.

    Parameters
    ----------
    settings
        `queue`, `report.failed` and the names of `destinations`.
    database
        The index.
    clock
        Seconds that only go forward.
    on_jobs
        Called when jobs are to be announced: wakes the publisher.
    also
        Called with each sweep: finds studies that the assembly does not watch.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_jobs: Callable[[], None] = lambda: None,
        also: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._on_jobs = on_jobs
        self._also = also
        self._watch = LeaseWatch(settings.queue.lease_s)

    def step(self) -> float:
        """Sweep once.

        Returns
        -------
        Seconds until the next sweep. It is shorter than a lease, so that a counter is
        looked at while it may still stand.
        """
        self.sweep()
        self._also()
        queue = self._settings.queue
        return min(queue.sweep_interval_s, queue.lease_s)

    def sweep(self) -> Swept:
        """Announce again what was lost, take dead leases back, end lost deliveries."""
        queue = self._settings.queue
        with self._database.write() as connection:
            announced = outbox.republish_stale(
                connection, older_than_s=queue.republish_after_s
            )
        swept = Swept(announced, self._take_dead_leases(), self._end_lost_deliveries())
        if swept.announced_again or swept.taken_back:
            get_log().info(
                "swept", count=swept.announced_again, attempts=swept.taken_back
            )
            self._on_jobs()
        return swept

    def _take_dead_leases(self) -> int:
        with self._database.read() as connection:
            beats = jobs.leases(connection)
        taken = 0
        for beat in self._watch.dead(beats, now=self._clock()):
            with self._database.write() as connection:
                if failure_reports.release(connection, beat.job_id, beat.lease_token):
                    continue
                state = jobs.give_back(
                    connection,
                    beat.job_id,
                    beat.lease_token,
                    reason="worker died",
                    explanation=f"no sign of life from the worker for "
                    f"{self._settings.queue.lease_s:g} s (attempt {beat.attempts})",
                    maximum_attempts=self._settings.queue.maximum_attempts,
                    report_failure=self._settings.report.failed == "send",
                )
            if state is not None:
                taken += 1
                get_log().warning(
                    "lease_expired",
                    job_id=beat.job_id,
                    attempt=beat.attempts,
                    state=state.value,
                )
        return taken

    def _end_lost_deliveries(self) -> int:
        """Fail what waits for a destination that the settings no longer name."""
        known = {entry.name for entry in self._settings.destinations}
        with self._database.read() as connection:
            lost = deliveries.waiting_destinations(connection) - known
        ended = 0
        for name in sorted(lost):
            with self._database.write() as connection:
                rows = deliveries.due(connection, now=time.time(), destination=name)
                for row in rows:
                    deliveries.start(connection, row.id)
                    deliveries.failed(
                        connection,
                        row.id,
                        answer=f"no destination is named {name!r} in the settings; "
                        "add it and retry the delivery",
                    )
            ended += len(rows)
            get_log().warning("destination_unknown", destination=name, count=len(rows))
        return ended
