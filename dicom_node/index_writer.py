"""The index follows what is durable: batches of rows, milliseconds after the answer.

An arrival becomes an object of the store, then a row, then leaves its source. A kill
anywhere in between repeats a step that is harmless twice. While the database cannot be
written the sources grow and receiving goes on.

Receiving comes first: the writer waits for a pause in what arrives, but never longer
than `delay_s`, and not at all when a source runs out of room.
"""

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from sqlalchemy import Connection, select

from core.database.engine import Database
from core.database.recording import Recorded, record_conflict, record_instances
from core.database.schema import report
from core.errors import OperatorError, SecondreadError
from core.faults import fault
from core.log import get_log
from core.received import KnownInstance
from dicom_node.arrivals import Arrival, ArrivalSource
from dicom_node.doorbell import Doorbell
from dicom_node.instance_store import InstanceStore
from dicom_node.known_content import OnTheirWay

__all__ = ["IndexWriter"]

_BATCH = 64
_PAUSE_S = 0.02
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 5.0
_REST_AFTER_S = 1.0
_NICENESS = 10


class IndexWriter:
    """The only writer of instance rows of one node.

    Parameters
    ----------
    database, store
        What it joins.
    sources
        Where arrivals are found.
    known
        Shared with the listeners.
    doorbell
        Rung by whoever made an instance durable.
    on_indexed
        Called with each Study Instance UID that got a new instance, after the commit,
        in this writer's thread.
    delay_s
        How long a pause may be waited for, in seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: InstanceStore,
        sources: Sequence[ArrivalSource],
        known: OnTheirWay,
        doorbell: Doorbell,
        on_indexed: Callable[[str], None],
        delay_s: float,
    ) -> None:
        self._database = database
        self._store = store
        self._sources = sources
        self._known = known
        self._doorbell = doorbell
        self._on_indexed = on_indexed
        self._delay_s = delay_s
        self._left: list[Arrival] = []
        self._suspects: list[Arrival] = []
        self._look_again_at = 0.0
        self._ending = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="index-writer", daemon=True
        )

    def recover(self) -> frozenset[str]:
        """Take up what an earlier run left; nobody may receive yet.

        Returns
        -------
        SHA-256 of each instance that was found.
        """
        found = set()
        for source in self._sources:
            for instance in source.recover():
                self._known.found(
                    instance.sop_instance_uid,
                    KnownInstance(instance.sha256, instance.transfer_syntax_uid),
                )
                found.add(instance.sha256)
        return frozenset(found)

    def start(self) -> None:
        """Write in the background from now on."""
        self._thread.start()

    def waiting(self) -> int:
        """Return about how many instances are not in the index yet."""
        return len(self._known.claims)

    def stop(self, timeout_s: float) -> bool:
        """Write what is waiting and end.

        Returns
        -------
        False if the time was too short; a restart takes up the rest.
        """
        if not self._thread.is_alive():
            return True
        deadline = time.monotonic() + timeout_s
        self._ending = True
        self._doorbell.ring()
        self._thread.join(timeout_s)
        self._stopping.set()
        self._doorbell.ring()
        self._thread.join(max(0.0, deadline - time.monotonic()) + 0.5)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):
            # Receiving and reading come first. A thread has its own niceness on Linux.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        delay = _FIRST_RETRY_S
        while not self._stopping.is_set():
            ending = self._ending
            if not self._left:
                self._wait_for_work(ending)
            self._write_waiting()
            if self._left:
                self._stopping.wait(delay)
                delay = min(delay * 2, _LONGEST_RETRY_S)
            else:
                delay = _FIRST_RETRY_S
                if ending and not self._waiting():
                    self._rest()
                    break

    def _wait_for_work(self, ending: bool) -> None:
        """Wait until something arrived, then for a pause in which to write it."""
        rested = False
        while not (self._waiting() or ending or self._stopping.is_set()):
            if not self._doorbell.wait(_LONGEST_RETRY_S if rested else _REST_AFTER_S):
                if self._suspects:
                    return
                self._rest()
                rested = True
            ending = self._ending
        deadline = time.monotonic() + self._delay_s
        while time.monotonic() < deadline and not self._ending:
            for source in self._sources:
                source.make_room()
            if any(source.pressing() for source in self._sources):
                return
            # Rung again within so short a time: they are busy sending.
            if not self._doorbell.wait(_PAUSE_S):
                return
            time.sleep(_PAUSE_S)

    def _rest(self) -> None:
        for source in self._sources:
            try:
                source.rest()
            except SecondreadError as error:
                get_log().warning("log_not_tidied", error=str(error))

    def _waiting(self) -> bool:
        try:
            return any(source.waiting() for source in self._sources)
        except SecondreadError as error:
            get_log().warning("index_delayed", error=str(error))
            return False

    def _write_waiting(self) -> None:
        """Write what there is, in batches, until nothing is left or nothing can be."""
        while not self._stopping.is_set():
            arrivals = self._left or self._arrived()
            self._left, failed = self._write_all(arrivals)
            if self._suspects and time.monotonic() >= self._look_again_at:
                self._suspects = [one for one in self._suspects if not self._try([one])]
                self._look_again_at = time.monotonic() + _LONGEST_RETRY_S
            self._suspects += failed
            # A few that came meanwhile wait for more, else each commit has one row.
            if self._left or (len(arrivals) < _BATCH and not self._ending):
                return
            if not arrivals:
                return

    def _arrived(self) -> list[Arrival]:
        found: list[Arrival] = []
        try:
            for source in self._sources:
                found += source.arrived(_BATCH)
        except SecondreadError as error:
            get_log().warning("index_delayed", error=str(error))
        return found

    def _write_all(
        self, arrivals: list[Arrival]
    ) -> tuple[list[Arrival], list[Arrival]]:
        """Write in batches.

        Returns
        -------
        What is left because nothing can be written now, and what cannot be written
        although the rest can: one bad instance must not hold up the others.
        """
        failed: list[Arrival] = []
        for start in range(0, len(arrivals), _BATCH):
            batch = arrivals[start : start + _BATCH]
            if self._try(batch):
                continue
            if not self._try([]):
                return arrivals[start:], failed
            failed += [one for one in batch if not self._try([one])]
        return [], failed

    def _try(self, batch: Sequence[Arrival]) -> bool:
        try:
            self._write(batch)
        except OperatorError as error:
            get_log().warning("index_delayed", error=str(error), instances=len(batch))
            return False
        except Exception as error:  # noqa: BLE001 - this thread must outlive any bug
            get_log().error(
                "index_delayed", error=type(error).__name__, instances=len(batch)
            )
            return False
        return True

    def _write(self, batch: Sequence[Arrival]) -> None:
        kept = [one for one in batch if not one.kept_sha256]
        for source, arrivals in _by_source(kept):
            source.adopt(arrivals, self._store)
        with self._database.write() as connection:
            own = _own_results(connection, kept)
            outcomes = record_instances(
                connection,
                [
                    dataclasses.replace(one.instance, own_result=True)
                    if one.instance.sop_instance_uid in own
                    else one.instance
                    for one in kept
                ],
                uids=self._known.uids,
            )
            for one in batch:
                if one.kept_sha256:
                    record_conflict(
                        connection, one.instance, kept_sha256=one.kept_sha256
                    )
            fault("index.before_commit")
        fault("index.after_commit")
        self._finish(batch, list(zip(kept, outcomes, strict=True)))

    def _finish(
        self, batch: Sequence[Arrival], recorded: Sequence[tuple[Arrival, Recorded]]
    ) -> None:
        """Do what may fail or be killed without harm: the rows are there."""
        refused = [one for one, outcome in recorded if outcome is Recorded.CONFLICT]
        try:
            self._store.remove(one.instance.sha256 for one in refused)
            for source, arrivals in _by_source(batch):
                source.done(arrivals)
        except SecondreadError as error:
            # They are found again at the next start and change nothing.
            get_log().warning("inbox_not_cleared", error=str(error))
        for one in refused:
            get_log().warning(
                "conflict_found_late", sop_instance_uid=one.instance.sop_instance_uid
            )
        self._known.indexed(one.instance.sop_instance_uid for one, _ in recorded)
        new = (one.instance for one, outcome in recorded if outcome is Recorded.NEW)
        for study in dict.fromkeys(instance.study_instance_uid for instance in new):
            try:
                self._on_indexed(study)
            except Exception as error:  # noqa: BLE001 - the sweep finds the study, too
                get_log().error("on_indexed_failed", error=type(error).__name__)


def _by_source(
    arrivals: Sequence[Arrival],
) -> list[tuple[ArrivalSource, list[Arrival]]]:
    sources: dict[int, tuple[ArrivalSource, list[Arrival]]] = {}
    for one in arrivals:
        sources.setdefault(id(one.source), (one.source, []))[1].append(one)
    return list(sources.values())


def _own_results(connection: Connection, arrivals: Sequence[Arrival]) -> set[str]:
    uids = [one.instance.sop_instance_uid for one in arrivals]
    rows = connection.execute(
        select(report.c.sop_instance_uid).where(report.c.sop_instance_uid.in_(uids))
    )
    return set(rows.scalars())
