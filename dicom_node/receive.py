"""Receiving one instance: the seam between a wire protocol and the inbox.

Whoever speaks a protocol calls `Receiver.begin` with what its request says, writes the
data set's fragments into the sink as they come, and gets from `commit` the answer to
send. A sink never raises: every failure becomes an answer, so no peer is left without.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from core.errors import (
    InvalidUid,
    MismatchedInstance,
    OperatorError,
    SecondreadError,
    StoreFull,
)
from core.faults import fault
from core.log import get_log
from core.received import KnownInstance, ReceivedInstance
from core.uids import is_valid_uid
from dicom_node.element_walk import InstanceFacts
from dicom_node.file_meta import FileMeta
from dicom_node.inbox import filed_instance
from dicom_node.known_content import Claim, ConflictWith, KnownContent
from dicom_node.statuses import SUCCESS, StorageAnswer, StorageOutcome, answer_for

__all__ = ["FreeSpace", "InstanceSink", "Opens", "Part", "Receiver"]

_STORED = StorageAnswer(SUCCESS, "", StorageOutcome.STORED)
_DUPLICATE = StorageAnswer(SUCCESS, "", StorageOutcome.DUPLICATE)


class FreeSpace:
    """Whether the disk is above the low-water mark, looked up at most once a second."""

    def __init__(
        self,
        path: Path,
        low_water_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._low_water_bytes = low_water_bytes
        self._clock = clock
        self._looked_at = -float("inf")
        self._enough = True

    def enough(self) -> bool:
        """Tell whether there is room to receive."""
        now = self._clock()
        if now - self._looked_at >= 1:
            try:
                free = shutil.disk_usage(self._path).free
            except OSError:
                free = 0
            self._enough = free >= self._low_water_bytes
            self._looked_at = now
        return self._enough


class Part(Protocol):
    """One instance on its way to the disk."""

    @property
    def sha256(self) -> str:
        """Of the data set's bytes written so far, in hexadecimal."""

    @property
    def size(self) -> int:
        """Bytes of the data set so far."""

    def write(self, fragment: bytes | memoryview) -> None:
        """Append bytes of the data set.

        Raises
        ------
        StoreFull, StoreUnavailable
            The part is of no use any more; discard it.
        """

    def walk(self, transfer_syntax_uid: str) -> InstanceFacts:
        """Walk what was written.

        Raises
        ------
        InvalidInstance
            If it is no data set of this transfer syntax.
        """

    def keep(self, instance: ReceivedInstance) -> object:
        """Make the instance durable.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then nothing of it is there.
        """

    def discard(self) -> None:
        """Forget the instance."""


class Opens(Protocol):
    """Where instances become durable: as files, or in the segment log."""

    def open(self, meta: FileMeta) -> Part:
        """Begin an instance.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then nothing was begun.
        """

    def note_conflict(self, refused: ReceivedInstance, kept_sha256: str) -> None:
        """Leave word for the index that an instance was refused.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then nobody will know.
        """


class Receiver:
    """Takes instances in, from any protocol and any number of threads.

    Parameters
    ----------
    inbox
        Where they become durable.
    known
        By which an instance is recognised.
    free_space
        Whether there is room.
    on_kept
        Called after each new durable or refused instance, before the peer is told; must
        not block.
    """

    def __init__(
        self,
        *,
        inbox: Opens,
        known: KnownContent,
        free_space: FreeSpace,
        on_kept: Callable[[], None],
    ) -> None:
        self.inbox = inbox
        self.known = known
        self.free_space = free_space
        self.on_kept = on_kept

    def begin(self, meta: FileMeta, *, study_instance_uid: str = "") -> "InstanceSink":
        """Begin an instance.

        Parameters
        ----------
        meta
            What the request and its presentation context say, unchecked.
        study_instance_uid
            The study that it must be of, where the request names one (STOW-RS).
        """
        return InstanceSink(self, meta, study_instance_uid)


class InstanceSink:
    """One instance on its way in. `commit` or `abandon` must be the last call."""

    def __init__(
        self, receiver: Receiver, meta: FileMeta, study_instance_uid: str = ""
    ) -> None:
        self._receiver = receiver
        self._meta = meta
        self._study_instance_uid = study_instance_uid
        self._part: Part | None = None
        self._error: Exception | None = None
        try:
            _check_request(meta)
            if not receiver.free_space.enough():
                raise StoreFull("free space is below store.low_water_bytes")
            self._part = receiver.inbox.open(meta)
        except SecondreadError as error:
            self._error = error

    def write(self, fragment: bytes | memoryview) -> None:
        """Append a fragment of the data set; after a failure it is dropped."""
        if self._part is None:
            return
        try:
            self._part.write(fragment)
        except SecondreadError as error:
            self._fail(error)

    def commit(self) -> StorageAnswer:
        """End the instance.

        Returns
        -------
        What the peer is told. Success means that the instance survives a kill and a
        loss of power from now on.
        """
        try:
            answer = self._commit()
        except Exception as error:  # noqa: BLE001 - no peer is left without an answer
            self._fail(error)
            answer = answer_for(error)
            self._log_refusal(answer, error)
        return answer

    def abandon(self) -> None:
        """Forget the instance, because the peer went away in the middle of it."""
        if self._part is not None:
            self._part.discard()
            self._part = None

    def _commit(self) -> StorageAnswer:
        if self._error is not None:
            raise self._error
        part = self._part
        if part is None:
            raise RuntimeError("an instance was committed after its end")
        facts = part.walk(self._meta.transfer_syntax_uid)
        _check_identity(self._meta, facts)
        if self._study_instance_uid not in ("", facts.study_instance_uid):
            raise MismatchedInstance("instance is of another study than was named")
        instance = filed_instance(
            self._meta,
            facts,
            sha256=part.sha256,
            size=part.size,
            received_at=time.time(),
        )
        claim = self._claim(instance)
        if claim is None:
            self.abandon()
            return _DUPLICATE
        self._keep(part, instance, claim)
        fault("scp.before_ack")
        return _STORED

    def _claim(self, instance: ReceivedInstance) -> Claim | None:
        content = KnownInstance(instance.sha256, instance.transfer_syntax_uid)
        try:
            return self._receiver.known.claim(instance.sop_instance_uid, content)
        except ConflictWith as conflict:
            try:
                self._receiver.inbox.note_conflict(instance, conflict.kept_sha256)
            except OperatorError as error:
                get_log().error("conflict_not_noted", error=str(error))
            self._receiver.on_kept()
            raise

    def _keep(self, part: Part, instance: ReceivedInstance, claim: Claim) -> None:
        known = self._receiver.known
        try:
            part.keep(instance)
        except BaseException:
            known.released(claim)
            raise
        self._part = None
        known.kept(claim)
        self._receiver.on_kept()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self.abandon()

    def _log_refusal(self, answer: StorageAnswer, error: Exception) -> None:
        # The UIDs of a refused request may be anything, so they are not written.
        expected = isinstance(error, SecondreadError)
        log = get_log().warning
        if isinstance(error, OperatorError) or not expected:
            log = get_log().error
        log(
            "instance_refused",
            status=f"{answer.status:04X}",
            error=str(error) if expected else type(error).__name__,
            calling_ae_title=self._meta.calling_ae_title,
            peer_address=self._meta.peer_address,
        )


def _check_request(meta: FileMeta) -> None:
    for uid, name in (
        (meta.sop_class_uid, "SOP Class UID"),
        (meta.sop_instance_uid, "SOP Instance UID"),
    ):
        if not is_valid_uid(uid):
            raise InvalidUid(f"Affected {name} breaks the rule for UIDs (PS3.5 9.1)")


def _check_identity(meta: FileMeta, facts: InstanceFacts) -> None:
    for asked, found, name in (
        (meta.sop_class_uid, facts.sop_class_uid, "SOP Class UID"),
        (meta.sop_instance_uid, facts.sop_instance_uid, "SOP Instance UID"),
    ):
        if asked != found:
            raise MismatchedInstance(f"{name} of command and data set differ")
