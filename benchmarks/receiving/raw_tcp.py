"""Limits without DICOM: `python -m benchmarks.receiving.raw_tcp file|log PORT FOLDER`.

Each message is a length (8 bytes, little endian) and that many bytes; the answer is one
byte, said when the bytes are durable:

- `file`: new file, fdatasync, rename, fsync of the directory;
- `log`: one write into a segment that was written full beforehand, fdatasync.

One connection at a time: the limit is that of one association.
"""

import os
import socket
import struct
import sys
from pathlib import Path

__all__ = ["main", "records"]

_SEGMENT = 256 * 2**20
_BLOCK = 2**20


def main() -> None:
    """Serve one connection after the other, until killed."""
    order, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    # Before the port is open, so that no sender waits for a segment to be written full.
    keeper = _FileOrder(folder) if order == "file" else _LogOrder(folder)
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _serve(connection, keeper)


def _serve(connection: socket.socket, keeper: "_FileOrder | _LogOrder") -> None:
    buffer = bytearray(_BLOCK)
    with connection:
        while True:
            header = connection.recv(8, socket.MSG_WAITALL)
            if len(header) < 8:
                return
            (length,) = struct.unpack("<Q", header)
            if length > len(buffer):
                buffer = bytearray(length)
            view = memoryview(buffer)[:length]
            received = 0
            while received < length:
                count = connection.recv_into(view[received:])
                if count == 0:
                    return
                received += count
            keeper.keep(view)
            connection.sendall(b"\0")


class _FileOrder:
    """A file of its own for each message."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._directory = os.open(self._folder, os.O_RDONLY)
        self._count = 0

    def keep(self, message: memoryview) -> None:
        self._count += 1
        path = self._folder / f"{self._count}.new"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        _write_all(file, message)
        os.fdatasync(file)
        os.close(file)
        path.rename(path.with_suffix(".dcm"))
        os.fsync(self._directory)


class _LogOrder:
    """Segments that exist before the first message comes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._segment = folder, 0
        self._open()

    def _open(self) -> None:
        path = self._folder / f"{self._segment:06}.log"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(_SEGMENT // _BLOCK):
            os.write(self._file, bytes(_BLOCK))
        os.fsync(self._file)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._at = 0

    def keep(self, message: memoryview) -> None:
        size = len(message) + 8
        if self._at + size > _SEGMENT:
            os.close(self._file)
            self._segment += 1
            self._open()
        os.writev(self._file, [struct.pack("<Q", len(message)), message])
        os.fdatasync(self._file)
        self._at += size


def _write_all(file: int, message: memoryview) -> None:
    while message:
        message = message[os.write(file, message) :]


def records(folder: Path) -> list[tuple[Path, int, int]]:
    """Return segment, offset and length of everything that `log` kept."""
    found = []
    for path in sorted(folder.glob("*.log")):
        at = 0
        with path.open("rb") as segment:
            while True:
                segment.seek(at)
                header = segment.read(8)
                length = struct.unpack("<Q", header)[0] if len(header) == 8 else 0
                if not length:
                    break
                found.append((path, at + 8, length))
                at += 8 + length
    return found


if __name__ == "__main__":
    main()
