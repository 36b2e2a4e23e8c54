"""The index follows the inbox: batches of rows, milliseconds after the answer.

An entry becomes an object of the store, then a row, then leaves the inbox. A kill
anywhere in between repeats a step that is harmless twice. While the database cannot be
written the inbox grows and receiving goes on.
"""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from core.database.engine import Database
from core.database.schema import report
from core.database.studies import (
    KnownInstance,
    ReceivedInstance,
    Recorded,
    record_conflict,
    record_instances,
)
from core.errors import OperatorError, SecondreadError
from core.faults import fault
from core.log import get_log
from dicom_node.inbox import Inbox, InboxEntry
from dicom_node.instance_store import InstanceStore
from dicom_node.known_content import KnownContent

__all__ = ["IndexWriter"]

_BATCH = 64
_BATCH_WAIT_S = 0.02
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 5.0


@dataclass(frozen=True)
class _Conflict:
    refused: ReceivedInstance
    kept_sha256: str


_Work = InboxEntry | _Conflict


class IndexWriter:
    """The only writer of instance rows of one node.

    Parameters
    ----------
    database, store, inbox, known
        What it joins.
    on_indexed
        Called with each Study Instance UID that got a new instance, after the commit,
        in this writer's thread.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: InstanceStore,
        inbox: Inbox,
        known: KnownContent,
        on_indexed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._store = store
        self._inbox = inbox
        self._known = known
        self._on_indexed = on_indexed
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="index-writer", daemon=True
        )

    def start(self) -> int:
        """Take up what the inbox holds from before, then write in the background.

        Returns
        -------
        How many instances were found.
        """
        count = 0
        for entry in self._inbox.entries():
            instance = entry.instance
            self._known.found(
                instance.sop_instance_uid,
                KnownInstance(instance.sha256, instance.transfer_syntax_uid),
            )
            self._queue.put(entry)
            count += 1
        self._loading = self._known.load(self._stopping)
        self._thread.start()
        return count

    def add(self, entry: InboxEntry) -> None:
        """Hand over a durable instance that `KnownContent` counts as kept."""
        self._queue.put(entry)

    def add_conflict(self, refused: ReceivedInstance, kept_sha256: str) -> None:
        """Hand over that an instance was refused for the sake of `kept_sha256`."""
        self._queue.put(_Conflict(refused, kept_sha256))

    def waiting(self) -> int:
        """Return about how many entries are not in the index yet."""
        return self._queue.qsize()

    def stop(self, timeout_s: float) -> bool:
        """Write what is waiting and end.

        Returns
        -------
        False if the time was too short; a restart takes up the rest.
        """
        if not self._thread.is_alive():
            return True
        deadline = time.monotonic() + timeout_s
        self._queue.put(None)
        self._thread.join(timeout_s)
        self._stopping.set()
        self._thread.join(max(0.0, deadline - time.monotonic()) + 0.5)
        self._loading.join(0.5)
        return not self._thread.is_alive()

    def _run(self) -> None:
        left: list[_Work] = []
        suspects: list[_Work] = []
        delay, look_again_at = _FIRST_RETRY_S, 0.0
        ended = False
        while not ended and not self._stopping.is_set():
            wait = 0.0 if left else _LONGEST_RETRY_S if suspects else None
            batch, ended = self._next_batch(wait)
            left, failed = self._write_all(left + batch)
            if suspects and time.monotonic() >= look_again_at:
                suspects = [work for work in suspects if not self._try([work])]
                look_again_at = time.monotonic() + _LONGEST_RETRY_S
            suspects += failed
            if left:
                self._stopping.wait(delay)
            delay = min(delay * 2, _LONGEST_RETRY_S) if left else _FIRST_RETRY_S

    def _next_batch(self, wait_s: float | None) -> tuple[list[_Work], bool]:
        """Take what there is, and tell whether it was the last."""
        batch: list[_Work] = []
        deadline = 0.0
        while len(batch) < _BATCH:
            timeout = max(0.0, deadline - time.monotonic()) if batch else wait_s
            try:
                work = self._queue.get(timeout=timeout)
            except queue.Empty:
                break
            if work is None:
                return batch, True
            if not batch:
                deadline = time.monotonic() + _BATCH_WAIT_S
            batch.append(work)
        return batch, False

    def _write_all(self, works: list[_Work]) -> tuple[list[_Work], list[_Work]]:
        """Write in batches.

        Returns
        -------
        What is left because nothing can be written now, and what cannot be written
        although the rest can: one bad entry must not hold up the others.
        """
        failed: list[_Work] = []
        for start in range(0, len(works), _BATCH):
            batch = works[start : start + _BATCH]
            if self._try(batch):
                continue
            if not self._try([]):
                return works[start:], failed
            failed += [work for work in batch if not self._try([work])]
        return [], failed

    def _try(self, batch: Sequence[_Work]) -> bool:
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

    def _write(self, batch: Sequence[_Work]) -> None:
        entries = [work for work in batch if isinstance(work, InboxEntry)]
        self._store.adopt({entry.instance.sha256: entry.path for entry in entries})
        with self._database.write() as connection:
            own = _own_results(connection, entries)
            outcomes = record_instances(
                connection,
                [
                    dataclasses.replace(entry.instance, own_result=True)
                    if entry.instance.sop_instance_uid in own
                    else entry.instance
                    for entry in entries
                ],
                uids=self._known.uids,
            )
            for work in batch:
                if isinstance(work, _Conflict):
                    record_conflict(
                        connection, work.refused, kept_sha256=work.kept_sha256
                    )
            fault("index.before_commit")
        fault("index.after_commit")
        self._finish(list(zip(entries, outcomes, strict=True)))

    def _finish(self, recorded: Sequence[tuple[InboxEntry, Recorded]]) -> None:
        """Do what may fail or be killed without harm: the rows are there."""
        refused = [e for e, outcome in recorded if outcome is Recorded.CONFLICT]
        try:
            self._store.remove(entry.instance.sha256 for entry in refused)
            self._inbox.remove([entry.path for entry, _ in recorded])
        except SecondreadError as error:
            # They are found again at the next start and change nothing.
            get_log().warning("inbox_not_cleared", error=str(error))
        for entry in refused:
            get_log().warning(
                "conflict_found_late", sop_instance_uid=entry.instance.sop_instance_uid
            )
        for entry, _ in recorded:
            self._known.indexed(entry.instance.sop_instance_uid)
        new = (e.instance for e, outcome in recorded if outcome is Recorded.NEW)
        for study in dict.fromkeys(instance.study_instance_uid for instance in new):
            try:
                self._on_indexed(study)
            except Exception as error:  # noqa: BLE001 - the sweep finds the study, too
                get_log().error("on_indexed_failed", error=type(error).__name__)


def _own_results(connection: Connection, entries: Sequence[InboxEntry]) -> set[str]:
    uids = [entry.instance.sop_instance_uid for entry in entries]
    rows = connection.execute(
        select(report.c.sop_instance_uid).where(report.c.sop_instance_uid.in_(uids))
    )
    return set(rows.scalars())
