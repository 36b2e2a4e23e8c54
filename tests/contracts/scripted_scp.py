"""A storage SCP of raw PDUs that does what its script says, right or wrong."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from pynetdicom.pdu import A_ASSOCIATE_RQ

from dicom_node.data_transfer.command_set import (
    Request,
    encode_response,
    parse_request,
)
from dicom_node.data_transfer.protocol import (
    Abort,
    encode_abort,
    encode_message,
    encode_release_response,
)

__all__ = ["ScriptedScp", "Visit", "answer_bytes"]


def answer_bytes(request: Request, context_id: int, status: int = 0) -> bytes:
    """A C-STORE-RSP or C-ECHO-RSP as it should be."""
    return encode_message(encode_response(request, status), context_id, 0)


@dataclass
class Visit:
    """One association: what a script may use."""

    connection: socket.socket
    number: int
    lengths: list[int] = field(default_factory=list)
    """Of the P-DATA-TF PDUs."""
    has_ended: bool = False

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def reset(self) -> None:
        """Go without a word."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def abort(self, abort: Abort = Abort.NOT_SPECIFIED) -> None:
        self.send(encode_abort(abort))
        self.connection.close()


Script = Callable[[Visit, Request, int], None]
"""Answers one message; the number is that of its presentation context."""
Middle = Callable[[Visit, int], None]
"""Called after each P-DATA-TF PDU with the bytes of this data set so far."""


def accept(visit: Visit, request: Request, context_id: int) -> None:
    visit.send(answer_bytes(request, context_id))


class ScriptedScp:
    """Takes associations one after another, all contexts in their first syntax.

    Parameters
    ----------
    script, middle
        What it does.
    maximum_length
        Longest PDU that it says it takes.
    keep
        Whether data sets are kept in `received`; a large one is not.
    """

    def __init__(
        self,
        script: Script = accept,
        middle: Middle = lambda _visit, _size: None,
        *,
        maximum_length: int = 16384,
        keep: bool = True,
    ) -> None:
        self.script = script
        self.middle = middle
        self.received: list[bytes] = []
        self.sizes: list[int] = []
        self.visits: list[Visit] = []
        self.released = 0
        self.aborts: list[tuple[int, int]] = []
        self.refused: set[str] = set()
        self._maximum_length = maximum_length
        self._keep = keep
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> "ScriptedScp":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for visit in self.visits:
            with suppress(OSError):
                visit.connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for visit in self.visits:
            visit.connection.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            visit = Visit(connection, len(self.visits))
            self.visits.append(visit)
            with suppress(OSError, EOFError, ValueError):
                self._serve(visit)
            connection.close()
            visit.has_ended = True

    def _serve(self, visit: Visit) -> None:
        kind, body = self._pdu(visit)
        assert kind == 1
        visit.send(self._acceptance(body))
        message = _Message()
        while True:
            kind, body = self._pdu(visit)
            if kind == 5:
                self.released += 1
                visit.send(encode_release_response())
                return
            if kind == 6:  # to a release that the script asked for
                return
            if kind == 7:
                self.aborts.append((body[2], body[3]))
                return
            visit.lengths.append(len(body))
            whole = message.take(body, keep=self._keep)
            self.middle(visit, message.size)
            if whole and message.request is not None:
                if message.request.has_data_set:
                    self.received.append(bytes(message.data_set))
                    self.sizes.append(message.size)
                ended, message = message, _Message()
                assert ended.request is not None
                self.script(visit, ended.request, ended.context_id)

    def _pdu(self, visit: Visit) -> tuple[int, bytes]:
        head = _exactly(visit.connection, 6)
        return head[0], _exactly(visit.connection, int.from_bytes(head[2:], "big"))

    def _acceptance(self, body: bytes) -> bytes:
        request = A_ASSOCIATE_RQ()
        request.decode(struct.pack(">BxL", 1, len(body)) + body)
        items = _item(0x10, b"1.2.840.10008.3.1.1.1")
        for context in request.presentation_context:
            result = 3 if str(context.abstract_syntax) in self.refused else 0
            syntax = str(context.transfer_syntax[0]).encode()
            answer = bytes((context.context_id, 0, result, 0)) + _item(0x40, syntax)
            items += _item(0x21, answer)
        user = _item(0x51, struct.pack(">L", self._maximum_length))
        items += _item(0x50, user + _item(0x52, b"1.2.3.4"))
        content = struct.pack(">HH", 1, 0) + body[4:68] + items
        return struct.pack(">BxL", 2, len(content)) + content


class _Message:
    """What has come of one message."""

    def __init__(self) -> None:
        self.request: Request | None = None
        self.context_id = 0
        self.size = 0
        self.data_set = bytearray()
        self._command = bytearray()

    def take(self, body: bytes, *, keep: bool) -> bool:
        """Take a P-DATA-TF PDU; tells whether the message is whole."""
        whole = False
        for context_id, control, content in _values(body):
            self.context_id = context_id
            if control & 1:
                self._command += content
                if control & 2:
                    self.request = parse_request(self._command)
                    whole = not self.request.has_data_set
                continue
            self.size += len(content)
            if keep:
                self.data_set += content
            whole = bool(control & 2)
        return whole


def _values(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    while body:
        length, context_id, control = struct.unpack(">LBB", body[:6])
        yield context_id, control, body[6 : 4 + length]
        body = body[4 + length :]


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)
