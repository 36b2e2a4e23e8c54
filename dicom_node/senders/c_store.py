"""C-STORE as its user: reports to an archive, and any files for `secondread send`.

The bytes of the stored file are sent as they are, from the file to the socket. So every
resend of a report is the same report, byte for byte, which is what makes resending
harmless. A peer that knows the default transfer syntax only (PS3.5 10.1) gets the same
elements in that one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from core.errors import DestinationRefused, DestinationUnavailable
from dicom_node.data_transfer.data_set_pdus import Source, UnreadableSource
from dicom_node.senders.association import Association, AssociationBroken
from dicom_node.senders.kept_association import KeptAssociation
from dicom_node.senders.negotiation import Peer
from dicom_node.senders.part10 import Instance, NoDicomFile, open_instance
from dicom_node.senders.sender import (
    BREAKS_BEFORE_GIVING_UP,
    Answer,
    Outcome,
    OutgoingReport,
    answer_for_status,
)
from dicom_node.tls import ClientTls

__all__ = ["CStoreSender", "FileResult", "send_files"]

# PS3.8 9.3.2.2: context ids are odd numbers from 1 to 255.
MAXIMUM_CONTEXTS = 128

Pair = tuple[str, str]


@dataclass(frozen=True)
class _Outgoing:
    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str


def _pairs(file: "_Outgoing | Instance") -> tuple[Pair, ...]:
    """Say what to propose: the file's own syntax, and the default one if it can be."""
    own = (file.sop_class_uid, file.transfer_syntax_uid)
    default = (file.sop_class_uid, ImplicitVRLittleEndian)
    return (own, default) if own[1] == ExplicitVRLittleEndian else (own,)


class CStoreSender:
    """Sends reports to one DICOM destination.

    Parameters
    ----------
    peer
        Whom to call.
    keep_open_s
        How long the association stays open without work, for the next round.
    """

    def __init__(self, peer: Peer, keep_open_s: float = 0.0) -> None:
        self._kept = KeptAssociation(peer, keep_open_s)

    def send(self, reports: Sequence[OutgoingReport]) -> Iterator[Answer]:
        """Send reports over one association, as `Sender.send` promises."""
        outgoing = [
            _Outgoing(report.path, report.sop_class_uid, report.transfer_syntax_uid)
            for report in reports
        ]
        return _Round(self._kept, outgoing).answers()

    def rest(self) -> None:
        """Release the association once it has been without work for long enough."""
        self._kept.rest()

    def close(self) -> None:
        """Release the association."""
        self._kept.close()


@dataclass(frozen=True)
class FileResult:
    """What became of one file that `send_files` was given."""

    path: Path
    answer: Answer

    @property
    def ok(self) -> bool:
        """Whether the peer has it."""
        return self.answer.outcome is Outcome.ACCEPTED


def send_files(
    paths: Sequence[Path],
    *,
    host: str,
    port: int,
    called: str,
    calling: str,
    progress: Callable[[FileResult], None] = lambda _result: None,
    timeout_s: float = 30.0,
    tls: ClientTls | None = None,
) -> list[FileResult]:
    """Send DICOM files of any SOP class and transfer syntax, each as it is.

    Parameters
    ----------
    paths
        Part 10 files. One that is none is not sent, and its result says so.
    host, port
        Where the peer listens.
    called, calling
        Its AE title and ours.
    progress
        Called with each result as it comes.
    timeout_s
        Longest silence of the peer.
    tls
        How to encrypt; None: in clear.

    Returns
    -------
    One result a file, in the order of `paths`.
    """
    peer = Peer(host, port, called, calling, timeout_s, tls)
    results: dict[Path, FileResult] = {}

    def keep(path: Path, answer: Answer) -> None:
        results[path] = FileResult(path, answer)
        progress(results[path])

    readable: list[_Outgoing] = []
    for path in dict.fromkeys(paths):
        found = _identify(path)
        if isinstance(found, Answer):
            keep(path, found)
        else:
            readable.append(found)
    for batch in _batches(readable):
        answers = _Round(KeptAssociation(peer), batch).answers()
        for outgoing, answer in zip(batch, answers, strict=True):
            keep(outgoing.path, answer)
    return [results[path] for path in paths]


def _identify(path: Path) -> _Outgoing | Answer:
    found = _open(path)
    if isinstance(found, Answer):
        return (
            replace(found, outcome=Outcome.REFUSED)
            if found.outcome is Outcome.UNAVAILABLE
            else found
        )
    with found as instance:
        return _Outgoing(path, instance.sop_class_uid, instance.transfer_syntax_uid)


def _open(path: Path, *, read_ahead: bool = False) -> Instance | Answer:
    try:
        return open_instance(path, read_ahead=read_ahead)
    except NoDicomFile as error:
        return Answer(Outcome.REFUSED, str(error))
    except OSError as error:
        return Answer(Outcome.UNAVAILABLE, f"cannot be read: {error.strerror}")


def _batches(files: Sequence[_Outgoing]) -> Iterator[list[_Outgoing]]:
    """Split files so that no association needs more contexts than there are."""
    batch: list[_Outgoing] = []
    pairs: set[Pair] = set()
    for file in files:
        if len(pairs.union(_pairs(file))) > MAXIMUM_CONTEXTS:
            yield batch
            batch, pairs = [], set()
        batch.append(file)
        pairs.update(_pairs(file))
    if batch:
        yield batch


class _Round:
    """Files that go over one association, or over a second one if the first breaks."""

    def __init__(self, kept: KeptAssociation, files: Sequence[_Outgoing]) -> None:
        self._kept = kept
        self._files = files
        self._pairs = dict.fromkeys(pair for file in files for pair in _pairs(file))
        self._breaks = 0
        # The next file, opened while the answer to the one before it is on its way.
        self._ahead: Instance | Answer | None = None

    def answers(self) -> Iterator[Answer]:
        """Send one file for each answer that is asked for."""
        if not self._files:
            return
        answer = Answer(Outcome.UNAVAILABLE, "not tried")
        try:
            for number, file in enumerate(self._files):
                if self._breaks < BREAKS_BEFORE_GIVING_UP:
                    following = self._files[number + 1 : number + 2]
                    answer = self._send(file, [one.path for one in following])
                yield answer
        finally:
            self._close_ahead()
            self._kept.end_of_round()

    def _send(self, file: _Outgoing, following: Sequence[Path]) -> Answer:
        instance, self._ahead = self._ahead or _open(file.path), None
        if isinstance(instance, Answer):
            return instance
        with instance:
            try:
                answer = self._store(file, instance, following)
            except (DestinationRefused, DestinationUnavailable) as error:
                # Whoever did not let us in now is not asked again for each report.
                self._breaks = BREAKS_BEFORE_GIVING_UP
                refused = isinstance(error, DestinationRefused)
                outcome = Outcome.REFUSED if refused else Outcome.UNAVAILABLE
                return Answer(outcome, str(error))
            except AssociationBroken as error:
                self._breaks += 1
                return Answer(
                    Outcome.UNAVAILABLE, f"association broken, or no answer: {error}"
                )
            except UnreadableSource as error:
                return Answer(Outcome.UNAVAILABLE, str(error))
        self._breaks = 0
        return answer

    def _store(
        self, file: _Outgoing, instance: Instance, following: Sequence[Path]
    ) -> Answer:
        association = self._kept.take(self._pairs)
        try:
            return self._store_over(association, file, instance, following)
        except AssociationBroken:
            if self._kept.is_proven:
                raise
            # It was kept open, and died unnoticed: no failure of this file.
            association = self._kept.take(self._pairs)
            return self._store_over(association, file, instance, following)

    def _store_over(
        self,
        association: Association,
        file: _Outgoing,
        instance: Instance,
        following: Sequence[Path],
    ) -> Answer:
        own, *others = _pairs(instance)
        if own in association.contexts:
            association.send(instance, association.contexts[own])
        elif fitting := [pair for pair in others if pair in association.contexts]:
            with _in_default_syntax(file.path) as data_set:
                source = Source(data_set.fileno(), 0, data_set.seek(0, 2))
                association.send(
                    replace(instance, data_set=source),
                    association.contexts[fitting[0]],
                )
        else:
            return Answer(
                Outcome.REFUSED,
                f"it accepts no presentation context for SOP class {own[0]} in "
                f"transfer syntax {own[1]}",
            )
        for path in following:
            self._close_ahead()
            self._ahead = _open(path, read_ahead=True)
        response = association.answer()
        self._kept.is_proven = True
        return answer_for_status(response.status, response.error_comment)

    def _close_ahead(self) -> None:
        if isinstance(self._ahead, Instance):
            self._ahead.file.close()
        self._ahead = None


def _in_default_syntax(path: Path) -> BinaryIO:
    """Write a data set's elements in Implicit VR Little Endian to a file for now.

    Raises
    ------
    UnreadableSource
        If it cannot be read or written so.
    """
    file = cast("BinaryIO", TemporaryFile())  # noqa: SIM115 - the caller closes it
    encoded = None
    with suppress(Exception):  # whatever pydicom raises for what it cannot read
        encoded = encode(dcmread(path), True, True)
    if encoded is None:
        file.close()
        raise UnreadableSource("cannot be written in the syntax that it accepts")
    file.write(encoded)
    file.flush()
    return file
