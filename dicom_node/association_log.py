"""What happened on the network lately, without a patient in it."""

import threading
import time
from collections import deque
from dataclasses import dataclass, replace

from core.log import get_log
from dicom_node.statuses import StorageAnswer, StorageOutcome

__all__ = ["AssociationLog", "AssociationRecord", "ReceiveCounts"]

_RECENT = 100


@dataclass(frozen=True)
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
    """Totals since this process began."""

    associations_accepted: int = 0
    associations_rejected: int = 0
    instances_stored: int = 0
    instances_duplicate: int = 0
    instances_refused: int = 0
    bytes_stored: int = 0


class AssociationLog:
    """The last hundred associations and the totals; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, AssociationRecord] = {}
        self._recent: deque[AssociationRecord] = deque(maxlen=_RECENT)
        self._counts = ReceiveCounts()

    def accepted(self, key: int, record: AssociationRecord) -> None:
        """Note that an association began."""
        with self._lock:
            self._open[key] = record
            self._counts = replace(
                self._counts,
                associations_accepted=self._counts.associations_accepted + 1,
            )

    def rejected(self, record: AssociationRecord) -> None:
        """Note that an association was refused, and why."""
        with self._lock:
            self._recent.append(record)
            self._counts = replace(
                self._counts,
                associations_rejected=self._counts.associations_rejected + 1,
            )
        get_log().warning(
            "association_rejected",
            calling_ae_title=record.calling_ae_title,
            called_ae_title=record.called_ae_title,
            peer_address=record.peer_address,
            reason=record.outcome,
        )

    def answered(self, key: int, answer: StorageAnswer, size: int) -> None:
        """Note how a C-STORE request was answered."""
        stored = int(answer.outcome is StorageOutcome.STORED)
        duplicate = int(answer.outcome is StorageOutcome.DUPLICATE)
        refused = int(answer.outcome is StorageOutcome.REFUSED)
        with self._lock:
            counts = self._counts
            self._counts = replace(
                counts,
                instances_stored=counts.instances_stored + stored,
                instances_duplicate=counts.instances_duplicate + duplicate,
                instances_refused=counts.instances_refused + refused,
                bytes_stored=counts.bytes_stored + stored * size,
            )
            record = self._open.get(key)
            if record is not None:
                self._open[key] = replace(
                    record,
                    instances=record.instances + stored + duplicate,
                    refused=record.refused + refused,
                    bytes=record.bytes + size,
                )

    def ended(self, key: int, outcome: str) -> None:
        """Note that an association was released or aborted; the first word counts."""
        with self._lock:
            record = self._open.pop(key, None)
            if record is None:
                return
            record = replace(record, outcome=outcome)
            self._recent.append(record)
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

    def recent(self) -> list[AssociationRecord]:
        """Return the open associations and the last ended ones, newest first."""
        with self._lock:
            return [*reversed(self._open.values()), *reversed(self._recent)]

    def counts(self) -> ReceiveCounts:
        """Return the totals."""
        with self._lock:
            return self._counts
