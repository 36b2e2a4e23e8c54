"""Just enough DICOM upper layer to send instances that were encoded beforehand.

A sender that parses and encodes while it is timed is measured itself. This one does
both first; what is timed is writing to the socket and waiting for each answer.
"""

import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Association", "Encoded", "data_set_of", "encode"]

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
EXPLICIT_VR_LITTLE_ENDIAN = b"1.2.840.10008.1.2.1"
_IMPLEMENTATION = b"2.25.1"
_MAXIMUM_PDU = 131072
_CONTEXT_ID = 1

Encoded = tuple[bytes, bytes]
"""SOP Instance UID and data set of one instance."""


def data_set_of(file: bytes) -> bytes:
    """Return what follows the file meta information of a DICOM file (PS3.10 7.1).

    Raises
    ------
    ValueError
        If it is no such file, or its meta information has no length.
    """
    if file[128:138] != b"DICM\x02\x00\x00\x00UL":
        raise ValueError("no DICOM file with a File Meta Information Group Length")
    (length,) = struct.unpack_from("<I", file, 140)
    return file[144 + length :]


def encode(path: Path, sop_instance_uid: str) -> Encoded:
    """Read a file as it will be sent."""
    return sop_instance_uid.encode(), data_set_of(path.read_bytes())


class Association:
    """One association with one presentation context, Explicit VR Little Endian.

    Raises
    ------
    RuntimeError
        If the peer does not accept exactly that.
    """

    def __init__(self, port: int, called_ae_title: str, sop_class_uid: str) -> None:
        self._sop_class = sop_class_uid.encode()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._largest = self._negotiate(called_ae_title)
        except RuntimeError:
            self._socket.close()
            raise

    def _negotiate(self, called_ae_title: str) -> int:
        self._socket.sendall(_request(called_ae_title, self._sop_class))
        kind, answer = self._pdu()
        if kind != 0x02:
            raise RuntimeError(f"the association was not accepted: PDU type {kind}")
        return _accepted(answer)

    def prepare(self, instances: Sequence[Encoded]) -> list[list[bytes]]:
        """Encode C-STORE requests as P-DATA-TF PDUs of the size the peer takes."""
        return [
            list(self._request_pdus(number, uid, data))
            for number, (uid, data) in enumerate(instances, start=1)
        ]

    def store(self, pdus: Sequence[bytes]) -> int:
        """Send one prepared request; returns the status of the answer."""
        for pdu in pdus:
            self._socket.sendall(pdu)
        kind, answer = self._pdu()
        if kind != 0x04:
            raise RuntimeError(f"no answer came but a PDU of type {kind}")
        return _status(answer)

    def release(self) -> None:
        """Release the association and close the connection."""
        self._socket.sendall(struct.pack(">BxI4x", 0x05, 4))
        self._pdu()
        self._socket.close()

    def _request_pdus(self, number: int, uid: bytes, data: bytes) -> Iterator[bytes]:
        yield _p_data(0x03, _store_request(self._sop_class, uid, number))
        size = self._largest - 6
        for start in range(0, len(data), size):
            last = start + size >= len(data)
            yield _p_data(0x02 if last else 0x00, data[start : start + size])

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._receive(6))
        return kind, self._receive(length)

    def _receive(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            part = self._socket.recv(count - len(received))
            if not part:
                raise RuntimeError("the peer closed the connection")
            received += part
        return received


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _request(called_ae_title: str, sop_class: bytes) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    context = _item(
        0x20,
        struct.pack(">B3x", _CONTEXT_ID)
        + _item(0x30, sop_class)
        + _item(0x40, EXPLICIT_VR_LITTLE_ENDIAN),
    )
    user = _item(
        0x50,
        _item(0x51, struct.pack(">I", _MAXIMUM_PDU)) + _item(0x52, _IMPLEMENTATION),
    )
    titles = called_ae_title.encode().ljust(16) + b"REPLAY".ljust(16)
    body = (
        struct.pack(">H2x", 1)
        + titles
        + bytes(32)
        + _item(0x10, _APPLICATION_CONTEXT)
        + context
        + user
    )
    return struct.pack(">BxI", 0x01, len(body)) + body


def _accepted(body: bytes) -> int:
    """Return the peer's longest PDU, if it took the one context as it was proposed."""
    largest, at, taken = _MAXIMUM_PDU, 68, False
    while at < len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        content = body[at + 4 : at + 4 + length]
        if kind == 0x21:
            syntax = content[8 : 8 + struct.unpack_from(">H", content, 6)[0]]
            taken = content[2] == 0 and syntax == EXPLICIT_VR_LITTLE_ENDIAN
        elif kind == 0x50:
            limit = struct.unpack_from(">I", content, 4)[0]
            largest = min(_MAXIMUM_PDU, limit or _MAXIMUM_PDU)
        at += 4 + length
    if not taken:
        raise RuntimeError("the peer did not accept Explicit VR Little Endian")
    return largest


def _p_data(control: int, fragment: bytes) -> bytes:
    """P-DATA-TF with one PDV (PS3.8 9.3.5)."""
    length = len(fragment)
    header = struct.pack(">BxIIBB", 0x04, length + 6, length + 2, _CONTEXT_ID, control)
    return header + fragment


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0x0000, number, len(value)) + value


def _store_request(sop_class: bytes, uid: bytes, number: int) -> bytes:
    """C-STORE-RQ (PS3.7 9.3.1.1)."""
    elements = b"".join(
        (
            _element(0x0002, sop_class),
            _element(0x0100, struct.pack("<H", 0x0001)),
            _element(0x0110, struct.pack("<H", number % 65536)),
            _element(0x0700, struct.pack("<H", 0)),
            _element(0x0800, struct.pack("<H", 0x0001)),
            _element(0x1000, uid),
        )
    )
    return _element(0x0000, struct.pack("<I", len(elements))) + elements


def _status(body: bytes) -> int:
    """Status (0000,0900) of the response in a P-DATA-TF's first PDV."""
    at = 6
    while at + 8 <= len(body):
        group, number, length = struct.unpack_from("<HHI", body, at)
        if (group, number) == (0x0000, 0x0900):
            return int(struct.unpack_from("<H", body, at + 8)[0])
        at += 8 + length
    raise RuntimeError("an answer without a status")
