"""The inbox: durable before it is acknowledged, and not yet in the index.

An instance is written to a temporary file, synced, renamed into the inbox, and the
folder is synced. Only then may the peer be told. Each file says what it is, so that the
inbox is its own write-ahead log: a restart reads back what the index does not know yet.
"""

import hashlib
import json
import mmap
import os
import re
import secrets
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from core.errors import InvalidInstance, StoreUnavailable
from core.faults import fault
from core.log import get_log
from core.received import ReceivedInstance
from core.settings import Priority
from core.uids import is_valid_uid
from dicom_node.durable_files import (
    begin_writing_out,
    make_folder,
    storage_errors,
    sync_folder,
)
from dicom_node.element_walk import Encoding, InstanceFacts, walk
from dicom_node.file_meta import FileMeta, encode_file_meta, read_file_meta

__all__ = [
    "Inbox",
    "InboxEntry",
    "NotedConflict",
    "PartFile",
    "filed_instance",
    "read_entry",
]

_ENTRY_NAME = re.compile(r"(?P<sha256>[0-9a-f]{64})(-[0-9a-f]{8})?")
# A result of ours that comes back, as `worker.report` signs it. Objects of other
# modalities may be our phantom, which is there to be read.
_OWN_MANUFACTURER = "secondread"
_RESULT_MODALITIES = frozenset({"SR", "PR", "SEG", "KO"})
_WRITE_OUT_BYTES = 8 << 20
_LONGEST_MODALITY = 16  # CS, PS3.5 6.2


@dataclass(frozen=True)
class InboxEntry:
    """A durable file and what the index will keep of it."""

    path: Path
    instance: ReceivedInstance


@dataclass(frozen=True)
class NotedConflict:
    """An instance that was refused for the sake of other content of its UID."""

    path: Path
    refused: ReceivedInstance
    kept_sha256: str


class Inbox:
    """The folder of received instances that the index does not know yet."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.path = root / "inbox"
        self.durable = durable
        with storage_errors():
            make_folder(self.path, durable=durable)

    def sweep(self) -> int:
        """Remove what was never acknowledged; return how many files that were."""
        count = 0
        with storage_errors():
            for path in self.path.glob("*.part"):
                path.unlink(missing_ok=True)
                count += 1
        return count

    def entries(self, passing: Container[str] = ()) -> Iterator[InboxEntry]:
        """Read back every file of the inbox, the first received first.

        A file that cannot be read stays where it is and is logged: it was acknowledged,
        so somebody must look at it.

        Parameters
        ----------
        passing
            Names of files to leave out.
        """
        for path in self._files(".dcm", passing):
            try:
                yield read_entry(path)
            except (InvalidInstance, StoreUnavailable) as error:
                get_log().error(
                    "inbox_file_unreadable", name=path.name, error=str(error)
                )

    def note_conflict(self, refused: ReceivedInstance, kept_sha256: str) -> None:
        """Leave word for the index that an instance was refused.

        It is not synced: the peer was told, and may send it again.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then nobody will know.
        """
        path = self.path / f"{secrets.token_hex(16)}.part"
        with storage_errors():
            path.write_text(json.dumps([kept_sha256, asdict(refused)]), "ascii")
            path.rename(path.with_suffix(".conflict"))

    def conflicts(self, passing: Container[str] = ()) -> Iterator[NotedConflict]:
        """Read back what `note_conflict` left; what cannot be read is removed.

        Parameters
        ----------
        passing
            Names of files to leave out.
        """
        for path in self._files(".conflict", passing):
            try:
                kept_sha256, values = json.loads(path.read_text("ascii"))
                values["order_priority"] = Priority(values["order_priority"])
                yield NotedConflict(path, ReceivedInstance(**values), kept_sha256)
            except (ValueError, TypeError, KeyError, OSError) as error:
                get_log().warning("conflict_unreadable", error=type(error).__name__)
                self.remove([path])

    def has_more_than(self, names: Container[str]) -> bool:
        """Tell whether there is a file for the index that is not among `names`."""
        with storage_errors(), os.scandir(self.path) as files:
            return any(
                file.name.endswith((".dcm", ".conflict")) and file.name not in names
                for file in files
            )

    def _files(self, suffix: str, passing: Container[str]) -> list[Path]:
        with storage_errors(), os.scandir(self.path) as files:
            found = [
                (file.stat().st_mtime_ns, file.name)
                for file in files
                if file.name.endswith(suffix) and file.name not in passing
            ]
        return [self.path / name for _, name in sorted(found)]

    def open(self, meta: FileMeta) -> "PartFile":
        """Begin a file.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then there is no file.
        """
        return PartFile(self.path, meta, durable=self.durable)

    def remove(self, paths: list[Path]) -> None:
        """Forget files that the index knows."""
        with storage_errors():
            for path in paths:
                path.unlink(missing_ok=True)


class PartFile:
    """One instance on its way into the inbox."""

    def __init__(self, folder: Path, meta: FileMeta, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._path = folder / f"{secrets.token_hex(16)}.part"
        self._digest = hashlib.sha256()
        self.size = 0
        self._writing_out = 0
        head = encode_file_meta(meta)
        self._data_set_at = len(head)
        with storage_errors():
            self._descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            try:
                _write_all(self._descriptor, head)
            except OSError:
                self.discard()
                raise

    @property
    def sha256(self) -> str:
        """Of the data set's bytes written so far."""
        return self._digest.hexdigest()

    def write(self, fragment: bytes | memoryview) -> None:
        """Append bytes of the data set.

        Raises
        ------
        StoreFull, StoreUnavailable
            The file is of no use any more; discard it.
        """
        self._digest.update(fragment)
        self.size += len(fragment)
        with storage_errors():
            _write_all(self._descriptor, fragment)
        if self.size - self._writing_out >= _WRITE_OUT_BYTES:
            # While the rest comes in, so that the peer does not wait for all of it.
            begin_writing_out(
                self._descriptor, self._writing_out, self.size - self._writing_out
            )
            self._writing_out = self.size

    def walk(self, transfer_syntax_uid: str) -> InstanceFacts:
        """Walk what was written.

        Raises
        ------
        InvalidInstance
            If it is no data set of this transfer syntax.
        """
        with storage_errors(), _mapped(self._descriptor) as buffer:
            return walk(
                buffer, Encoding.of(transfer_syntax_uid), start=self._data_set_at
            )

    def keep(self, _instance: ReceivedInstance | None = None) -> Path:
        """Make the file durable and give it its name in the inbox.

        Parameters
        ----------
        _instance
            Not wanted: the file says what it is.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then nothing is there under any name.
        """
        target = self._folder / f"{self.sha256}-{secrets.token_hex(4)}.dcm"
        with storage_errors():
            try:
                fault("scp.after_part_write")
                if self._durable:
                    os.fdatasync(self._descriptor)
                fault("scp.after_fsync")
                self._path.rename(target)
                fault("scp.after_rename")
                if self._durable:
                    sync_folder(self._folder)
            except OSError:
                target.unlink(missing_ok=True)
                self.discard()
                raise
            self._close()
        return target

    def discard(self) -> None:
        """Forget the file."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # What close(2) could report, fdatasync has reported.
            with suppress(OSError):
                os.close(descriptor)


def filed_instance(
    meta: FileMeta, facts: InstanceFacts, *, sha256: str, size: int, received_at: float
) -> ReceivedInstance:
    """Join what the association and what the data set say of an instance.

    Raises
    ------
    InvalidInstance
        If Study or Series Instance UID are missing or break the rule for UIDs.
    """
    for uid, name in (
        (facts.study_instance_uid, "Study Instance UID"),
        (facts.series_instance_uid, "Series Instance UID"),
    ):
        if not is_valid_uid(uid):
            raise InvalidInstance(f"data set has no valid {name}")
    return ReceivedInstance(
        study_instance_uid=facts.study_instance_uid,
        series_instance_uid=facts.series_instance_uid,
        sop_instance_uid=meta.sop_instance_uid,
        sop_class_uid=meta.sop_class_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        sha256=sha256,
        bytes=size,
        modality=facts.modality[:_LONGEST_MODALITY],
        is_image=facts.is_image,
        own_result=facts.manufacturer == _OWN_MANUFACTURER
        and facts.modality in _RESULT_MODALITIES,
        order_priority=facts.order_priority,
        calling_ae_title=meta.calling_ae_title,
        called_ae_title=meta.called_ae_title,
        peer_address=meta.peer_address,
        received_at=received_at,
    )


def read_entry(path: Path) -> InboxEntry:
    """Read back a kept file whose name begins with the SHA-256 of its data set.

    Raises
    ------
    InvalidInstance
        If it is none, or no longer whole.
    StoreUnavailable
        If it cannot be read.
    """
    name = _ENTRY_NAME.fullmatch(path.stem)
    if name is None:
        raise InvalidInstance("a kept file is not named by its content")
    with storage_errors(), path.open("rb") as file:
        meta, data_set_at = read_file_meta(file)
        status = os.fstat(file.fileno())
        with _mapped(file.fileno()) as buffer:
            facts = walk(
                buffer, Encoding.of(meta.transfer_syntax_uid), start=data_set_at
            )
    return InboxEntry(
        path,
        filed_instance(
            meta,
            facts,
            sha256=name["sha256"],
            size=status.st_size - data_set_at,
            received_at=status.st_mtime,
        ),
    )


@contextmanager
def _mapped(descriptor: int) -> Iterator[mmap.mmap]:
    buffer = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    try:
        yield buffer
    finally:
        buffer.close()


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
