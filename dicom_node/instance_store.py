"""Where instances and reports lie: files named by the hash of what is in them.

No text of a peer ever becomes a path. An object's name is the SHA-256 of the data set
as the peer sent it; a report's that of the whole file, because these bytes are what
every delivery sends.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from core.errors import InvalidInstance, StoreUnavailable
from dicom_node.durable_files import (
    make_folder,
    storage_errors,
    sync_folder,
    write_file,
)
from dicom_node.file_meta import read_file_meta

__all__ = ["InstanceStore"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


class InstanceStore:
    """The content-addressed files of one data directory; safe to share.

    Parameters
    ----------
    root
        The data directory. `objects/` holds what was received, `reports/` what was
        written by the worker.
    durable
        Sync before returning. Off only for measurements.
    """

    def __init__(self, root: Path, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self._objects = root / "objects"
        self._reports = root / "reports"
        self._folders: set[str] = set()
        with storage_errors():
            make_folder(self._objects, durable=durable)
            make_folder(self._reports, durable=durable)

    def path_of(self, sha256: str) -> Path:
        """Return where the instance with this data set lies, if it is there."""
        return self._objects / _checked(sha256)[:2] / f"{sha256}.dcm"

    def report_path(self, sha256: str) -> Path:
        """Return where the report with this content lies, if it is there."""
        return self._reports / _checked(sha256)[:2] / f"{sha256}.dcm"

    def adopt(self, files: Mapping[str, Path]) -> None:
        """Give files of the inbox their place among the objects; the inbox keeps them.

        Parameters
        ----------
        files
            SHA-256 of the data set to the file, on the file system of the store. A file
            that is gone counts as adopted if its object is there.

        Raises
        ------
        StoreFull, StoreUnavailable
            Some may have been adopted; adopting again is harmless.
        """
        folders = set()
        with storage_errors():
            for sha256, file in files.items():
                target = self.path_of(sha256)
                make_folder(target.parent, durable=self.durable)
                try:
                    target.hardlink_to(file)
                except FileExistsError:
                    pass  # the same content is kept already
                except FileNotFoundError:
                    if not target.exists():
                        raise
                folders.add(target.parent)
            if self.durable:
                for folder in sorted(folders):
                    sync_folder(folder)

    def unpack(
        self, sha256: str, file: bytes, *, staging: Path, again: bool = False
    ) -> None:
        """Write an instance that the segment log keeps durable until all is synced.

        Parameters
        ----------
        sha256
            Of the data set in `file`.
        file
            A whole Part 10 file.
        staging
            Folder on the same file system for files that are not whole yet.
        again
            Whether what is there already is not to be trusted, after a loss of power.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then it may be tried again.
        """
        # Text and not `Path`: it runs for each instance, and took as long as the disk.
        folder = f"{self._objects}/{_checked(sha256)[:2]}"
        target = f"{folder}/{sha256}.dcm"
        part = f"{staging}/{sha256}.part"
        with storage_errors():
            if not again and os.path.exists(target):  # noqa: PTH110
                return
            try:
                descriptor = os.open(
                    part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
                )
                try:
                    view = memoryview(file)
                    while view:
                        view = view[os.write(descriptor, view) :]
                finally:
                    os.close(descriptor)
                if folder not in self._folders:
                    make_folder(Path(folder), durable=False)
                    self._folders.add(folder)
                os.rename(part, target)  # noqa: PTH104
            except OSError:
                Path(part).unlink(missing_ok=True)
                # Somebody may have tidied up behind us.
                self._folders.discard(folder)
                raise

    def put_report(self, data: bytes) -> str:
        """Keep a report's file; it is durable when this returns.

        Parameters
        ----------
        data
            A whole Part 10 file.

        Returns
        -------
        SHA-256 of `data`, the report's name from now on.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then nothing was kept.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.report_path(sha256)
        with storage_errors():
            write_file(path, data, durable=self.durable)
        return sha256

    def read_report(self, sha256: str) -> bytes:
        """Return a report's bytes, checked against their name.

        Raises
        ------
        StoreUnavailable
            If the file is missing or no longer what it was.
        """
        with storage_errors():
            data = self.report_path(sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreUnavailable(
                f"report {sha256} has changed on the disk; restore it from a backup"
            )
        return data

    def verify(self, sha256: str) -> bool:
        """Tell whether an instance is there and its data set is what was received."""
        try:
            with storage_errors(), self.path_of(sha256).open("rb") as file:
                read_file_meta(file)
                digest = hashlib.sha256()
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except (InvalidInstance, StoreUnavailable):
            return False
        return digest.hexdigest() == sha256

    def remove(self, sha256s: Iterable[str]) -> None:
        """Forget instances; those that are not there are no error."""
        self._remove(self.path_of(sha256) for sha256 in sha256s)

    def remove_reports(self, sha256s: Iterable[str]) -> None:
        """Forget reports; those that are not there are no error."""
        self._remove(self.report_path(sha256) for sha256 in sha256s)

    def objects(self) -> Iterator[str]:
        """Name every instance that is there, by its SHA-256."""
        yield from _names(self._objects)

    def _remove(self, paths: Iterable[Path]) -> None:
        folders = set()
        with storage_errors():
            for path in paths:
                path.unlink(missing_ok=True)
                folders.add(path.parent)
            if self.durable:
                for folder in folders:
                    if folder.is_dir():
                        sync_folder(folder)


def _names(root: Path) -> Iterator[str]:
    with storage_errors():
        for folder in sorted(root.iterdir()):
            for path in folder.iterdir():
                if path.suffix == ".dcm" and _SHA256.fullmatch(path.stem):
                    yield path.stem


def _checked(sha256: str) -> str:
    # Names come from our own hashes; this holds even if a row were tampered with.
    if not _SHA256.fullmatch(sha256):
        raise StoreUnavailable("a name in the store is not a SHA-256; check the index")
    return sha256
