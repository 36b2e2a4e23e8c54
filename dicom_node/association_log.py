"""What happened on the network lately, without a patient in it."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace

from core.log import get_log
from dicom_node.shared_state import Counters
from dicom_node.statuses import StorageAnswer, StorageOutcome

__all__ = ["COUNTED", "AssociationLog", "AssociationRecord", "ReceiveCounts"]

_RECENT = 100


@dataclass
class AssociationRecord:
    """One association or one refusal of it."""

    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    began_at: float
    """Seconds since 1970, UTC."""
    outcome: str = "open"
    """`open`, `released`, `aborted`, or why it was rejected."""
    instances: int = 0
    refused: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class ReceiveCounts:
    """Totals since the node began."""

    associations_accepted: int = 0
    associations_rejected: int = 0
    instances_stored: int = 0
    instances_duplicate: int = 0
    instances_refused: int = 0
    bytes_stored: int = 0


COUNTED = tuple(field.name for field in fields(ReceiveCounts))


class AssociationLog:
    """The last hundred associations and the totals; safe to share between threads.

    Parameters
    ----------
    counters
        The totals, shared with the other listeners of the node.
    owner
        Which listener this is.
    tell
        Called with a copy of what happened, for a log of all listeners; must not block.
    """

    def __init__(
        self,
        counters: Counters,
        owner: int = 0,
        tell: Callable[[bytes], None] | None = None,
    ) -> None:
        self._counters = counters
        self._owner = owner
        self._tell = tell
        self._lock = threading.Lock()
        self._open: dict[int, AssociationRecord] = {}
        self._recent: deque[AssociationRecord] = deque(maxlen=_RECENT)

    def accepted(self, key: int, record: AssociationRecord) -> None:
        """Note that an association began."""
        with self._lock:
            self._open[key] = record
            self._count("associations_accepted")
        self._forward(key, record)

    def rejected(self, record: AssociationRecord) -> None:
        """Note that an association was refused, and why."""
        with self._lock:
            self._recent.append(record)
            self._count("associations_rejected")
        self._forward(None, record)
        get_log().warning(
            "association_rejected",
            calling_ae_title=record.calling_ae_title,
            called_ae_title=record.called_ae_title,
            peer_address=record.peer_address,
            reason=record.outcome,
        )

    def answered(self, key: int, answer: StorageAnswer, size: int) -> None:
        """Note how a C-STORE request was answered."""
        stored = answer.outcome is StorageOutcome.STORED
        with self._lock:
            self._count(_COUNT_OF[answer.outcome])
            if stored:
                self._count("bytes_stored", size)
            record = self._open.get(key)
            if record is not None:
                if answer.outcome is StorageOutcome.REFUSED:
                    record.refused += 1
                else:
                    record.instances += 1
                record.bytes += size

    def ended(self, key: int, outcome: str) -> None:
        """Note that an association was released or aborted; the first word counts."""
        with self._lock:
            record = self._open.pop(key, None)
            if record is None:
                return
            record.outcome = outcome
            self._recent.append(record)
        self._forward(key, record)
        get_log().info(
            "association_ended",
            calling_ae_title=record.calling_ae_title,
            called_ae_title=record.called_ae_title,
            peer_address=record.peer_address,
            outcome=outcome,
            instances=record.instances,
            bytes=record.bytes,
            duration_s=round(max(0.0, time.time() - record.began_at), 3),
        )

    def hear(self, message: bytes) -> None:
        """Take in what another listener's log told."""
        owner, key, values = json.loads(message)
        record = AssociationRecord(**values)
        place = owner << 64 | (key or 0)
        with self._lock:
            if record.outcome == "open":
                self._open[place] = record
            else:
                self._open.pop(place, None)
                self._recent.append(record)

    def lost(self, owner: int) -> None:
        """Note that a listener died with its associations."""
        with self._lock:
            for place in [key for key in self._open if key >> 64 == owner]:
                record = self._open.pop(place)
                record.outcome = "aborted"
                self._recent.append(record)

    def recent(self) -> list[AssociationRecord]:
        """Return the open associations and the last ended ones, newest first."""
        with self._lock:
            records = [*reversed(self._open.values()), *reversed(self._recent)]
            return [replace(record) for record in records]

    def counts(self) -> ReceiveCounts:
        """Return the totals of all listeners."""
        return ReceiveCounts(**{name: self._counters.total(name) for name in COUNTED})

    def _count(self, name: str, count: int = 1) -> None:
        self._counters.add(self._owner, name, count)

    def _forward(self, key: int | None, record: AssociationRecord) -> None:
        if self._tell is not None:
            self._tell(json.dumps([self._owner, key, asdict(record)]).encode("ascii"))


_COUNT_OF = {
    StorageOutcome.STORED: "instances_stored",
    StorageOutcome.DUPLICATE: "instances_duplicate",
    StorageOutcome.REFUSED: "instances_refused",
}
