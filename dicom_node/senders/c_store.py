"""C-STORE as its user: reports to an archive, and any files for `secondread send`.

The bytes of the stored file are sent as they are. So every resend of a report is the
same report, byte for byte, which is what makes resending harmless. A peer that knows
the default transfer syntax only (PS3.5 10.1) gets the same elements in that one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config
from pynetdicom.association import Association

from core.errors import DestinationRefused, DestinationUnavailable
from dicom_node.senders.association import (
    Peer,
    contexts_for,
    release,
    request_association,
)
from dicom_node.senders.sender import (
    BREAKS_BEFORE_GIVING_UP,
    Answer,
    Outcome,
    OutgoingReport,
    answer_for_status,
)

__all__ = ["CStoreSender", "FileResult", "send_files"]

# PS3.8 9.3.2.2: context ids are odd numbers from 1 to 255.
MAXIMUM_CONTEXTS = 128
_MEDIUM_PRIORITY = 0  # PS3.7 9.1.1.1.5
# A slow line may need longer for a large object than the longest silence.
SLOWEST_BYTES_PER_S = 1_000_000

# With a path, pynetdicom then sends the file's own bytes instead of decoding them and
# encoding them again. It is a switch of the whole process; nobody here needs the other.
_config.STORE_SEND_CHUNKED_DATASET = True


@dataclass(frozen=True)
class _Outgoing:
    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What to propose: the file's own syntax, and the default one if it can be."""
        own = (self.sop_class_uid, self.transfer_syntax_uid)
        default = (self.sop_class_uid, ImplicitVRLittleEndian)
        return (own, default) if own[1] == ExplicitVRLittleEndian else (own,)


class CStoreSender:
    """Sends reports to one DICOM destination.

    Parameters
    ----------
    peer
        Whom to call.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def send(self, reports: Sequence[OutgoingReport]) -> Iterator[Answer]:
        """Send reports over one association, as `Sender.send` promises."""
        outgoing = [
            _Outgoing(report.path, report.sop_class_uid, report.transfer_syntax_uid)
            for report in reports
        ]
        return _store(self._peer, outgoing)


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

    Returns
    -------
    One result a file, in the order of `paths`.
    """
    peer = Peer(host, port, called, calling, timeout_s)
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
        for outgoing, answer in zip(batch, _store(peer, batch), strict=True):
            keep(outgoing.path, answer)
    return [results[path] for path in paths]


def _identify(path: Path) -> _Outgoing | Answer:
    try:
        meta = read_file_meta_info(path)
        sop_class = str(meta.MediaStorageSOPClassUID)
        # pynetdicom needs this one too, and would raise without it.
        _ = meta.MediaStorageSOPInstanceUID
        return _Outgoing(path, sop_class, str(meta.TransferSyntaxUID))
    except (InvalidDicomError, EOFError, ValueError, TypeError):
        return Answer(Outcome.REFUSED, "no DICOM file (PS3.10); it was not sent")
    except AttributeError:
        return Answer(
            Outcome.REFUSED, "file meta information is incomplete; it was not sent"
        )
    except OSError as error:
        return Answer(Outcome.REFUSED, f"cannot be read: {error.strerror}")


def _batches(files: Sequence[_Outgoing]) -> Iterator[list[_Outgoing]]:
    """Split files so that no association needs more contexts than there are."""
    batch: list[_Outgoing] = []
    pairs: set[tuple[str, str]] = set()
    for file in files:
        if len(pairs.union(file.pairs)) > MAXIMUM_CONTEXTS:
            yield batch
            batch, pairs = [], set()
        batch.append(file)
        pairs.update(file.pairs)
    if batch:
        yield batch


def _store(peer: Peer, files: Sequence[_Outgoing]) -> Iterator[Answer]:
    """Send files over one association, or over a second one if the first breaks."""
    contexts = contexts_for(
        dict.fromkeys(pair for file in files for pair in file.pairs)
    )
    association: Association | None = None
    message_ids = count(1)
    breaks = 0
    answer = Answer(Outcome.UNAVAILABLE, "not tried")
    try:
        for file in files:
            if breaks >= BREAKS_BEFORE_GIVING_UP:
                yield answer
                continue
            try:
                if association is None or not association.is_established:
                    association = request_association(peer, contexts)
            except (DestinationRefused, DestinationUnavailable) as error:
                # Whoever did not let us in now is not asked again for each report.
                breaks = BREAKS_BEFORE_GIVING_UP
                refused = isinstance(error, DestinationRefused)
                outcome = Outcome.REFUSED if refused else Outcome.UNAVAILABLE
                answer = Answer(outcome, str(error))
                yield answer
                continue
            status = _send_one(
                association, file, message_id=next(message_ids) % 65536, peer=peer
            )
            if isinstance(status, Answer):
                answer = status
            elif "Status" in status:
                breaks = 0
                answer = answer_for_status(
                    status.Status, str(status.get("ErrorComment", ""))
                )
            else:
                answer = Answer(
                    Outcome.UNAVAILABLE,
                    "association broken, or no answer to C-STORE in time",
                )
                # It is dead or dying in pynetdicom's own threads.
                association, breaks = None, breaks + 1
            yield answer
    finally:
        if association is not None:
            release(association)


def _send_one(
    association: Association, file: _Outgoing, *, message_id: int, peer: Peer
) -> Dataset | Answer:
    """Send one file; return the peer's answer, empty if there was none, or ours."""
    try:
        association.dimse_timeout = (
            peer.timeout_s + file.path.stat().st_size / SLOWEST_BYTES_PER_S
        )
        return association.send_c_store(
            _as_accepted(association, file),
            msg_id=message_id,
            priority=_MEDIUM_PRIORITY,
        )
    except ValueError:
        return Answer(
            Outcome.REFUSED,
            f"it accepts no presentation context for SOP class {file.sop_class_uid} "
            f"in transfer syntax {file.transfer_syntax_uid}",
        )
    except OSError as error:
        return Answer(Outcome.UNAVAILABLE, f"cannot be read: {error.strerror}")
    except RuntimeError:
        return Dataset()  # it ended before the request was on its way


def _as_accepted(association: Association, file: _Outgoing) -> Path | Dataset:
    """Return the file itself if its own syntax was accepted, else what was read of it.

    pynetdicom writes a data set in the syntax of the context it finds for it.
    """
    accepted = {
        (context.abstract_syntax, context.transfer_syntax[0])
        for context in association.accepted_contexts
    }
    own, *others = file.pairs
    if own in accepted or not accepted.intersection(others):
        return file.path
    return dcmread(file.path)
