"""Reads one connection until it is an association, with limits and a deadline.

pynetdicom's own read waits for ever once a PDU has begun, so its timers never fire; it
also believes any length. `guard_connection` puts this one in its place. What comes
after the acceptance is read by `dicom_node.data_transfer`.
"""

import socket
import struct
import time
from typing import Any, cast

from pynetdicom import evt
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.transport import AssociationSocket

from core.log import get_log
from core.settings import NodeSettings

__all__ = ["guard_connection"]

_HEADER = struct.Struct(">BBL")
_A_ASSOCIATE_RQ = 0x01
_P_DATA_TF = 0x04
_KNOWN_TYPES = range(0x01, 0x08)
# 128 presentation contexts with forty transfer syntaxes each.
_LONGEST_ASSOCIATE = 262144
# Release and abort have four bytes, a rejection as well.
_LONGEST_OTHER = 256
# PS3.8 9.3.8: source service provider; 9.3.4: rejected permanent, by the service user.
_A_ABORT = bytes((0x07, 0, 0, 0, 0, 4, 0, 0, 2, 6))
_A_ASSOCIATE_RJ = bytes((0x03, 0, 0, 0, 0, 4, 0, 1, 1))
_CALLED_AE_TITLE = slice(4, 20)
_CALLING_AE_TITLE = slice(20, 36)
_DIAGNOSTIC_CALLING = 3
_DIAGNOSTIC_CALLED = 7
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)


class Violation(Exception):
    """What a peer did that ends its connection; its text is fit for a log."""


class _Rejected(Violation):
    def __init__(self, diagnostic: int, message: str) -> None:
        super().__init__(message)
        self.answer = _A_ASSOCIATE_RJ + bytes((diagnostic,))


class _GuardedConnection:
    """Stands in for `AssociationSocket.recv` of one connection."""

    def __init__(self, association: evt.Event, settings: NodeSettings) -> None:
        self._association = association.assoc
        self._transport = cast("AssociationSocket", self._association.dul.socket)
        self._settings = settings
        self._request_deadline = time.monotonic() + settings.request_timeout_s
        self._associated = False
        self._body_of: int | None = None
        self._body_deadline = 0.0

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, or less if the peer is gone.

        Raises
        ------
        OSError
            If the deadline passed or the peer was refused; the connection is of no use
            any more.
        """
        try:
            if self._body_of is None:
                return self._header(nr_bytes)
            kind, self._body_of = self._body_of, None
            return self._body(kind, nr_bytes)
        except Violation as violation:
            answer = getattr(violation, "answer", _A_ABORT)
            self._refuse(answer, str(violation))
            raise ConnectionAbortedError(str(violation)) from violation
        except OSError:
            self._wake()
            raise

    def _header(self, nr_bytes: int) -> bytearray:
        # The deadline of an association runs anew for each PDU.
        self._body_deadline = (
            time.monotonic() + self._settings.network_timeout_s
            if self._associated
            else self._request_deadline
        )
        header = self._read(nr_bytes)
        if len(header) < _HEADER.size:
            self._wake()
            return header
        kind, _, length = _HEADER.unpack(header)
        if kind not in _KNOWN_TYPES:
            raise Violation("no DICOM: unknown PDU type")
        if not self._associated and kind != _A_ASSOCIATE_RQ:
            raise Violation("PDU before an association was requested")
        if kind == _P_DATA_TF:
            raise Violation("P-DATA before the association was accepted")
        if length > self._longest(kind):
            raise Violation(f"PDU of type {kind} and {length} bytes")
        self._body_of = kind
        return header

    def _longest(self, kind: int) -> int:
        return _LONGEST_ASSOCIATE if kind == _A_ASSOCIATE_RQ else _LONGEST_OTHER

    def _body(self, kind: int, nr_bytes: int) -> bytearray:
        body = self._read(nr_bytes)
        if len(body) < nr_bytes:
            self._wake()
        elif kind == _A_ASSOCIATE_RQ and not self._associated:
            _check_request(body)
            self._associated = True
        return body

    def _read(self, nr_bytes: int) -> bytearray:
        peer = self._transport.socket
        if peer is None:
            return bytearray()
        buffer = bytearray(nr_bytes)
        view = memoryview(buffer)
        while view:
            remaining = self._body_deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the peer is too slow")
            if _QUICK_ACK is not None:
                # A sender with Nagle's algorithm on waits 40 ms for each ACK otherwise;
                # the kernel forgets the option, so it is set for each read.
                peer.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
            peer.settimeout(remaining)
            count = peer.recv_into(view)
            if not count:
                got = nr_bytes - len(view)
                view.release()
                return buffer[:got]
            view = view[count:]
        # Sending has this limit, too.
        peer.settimeout(self._settings.network_timeout_s)
        return buffer

    def _refuse(self, answer: bytes, reason: str) -> None:
        get_log().warning(
            "peer_refused",
            reason=reason,
            peer_address=self._association.requestor.address,
        )
        peer = self._transport.socket
        if peer is not None:
            try:
                peer.settimeout(1.0)
                peer.sendall(answer)
                peer.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # gone already
        self._wake()

    def _wake(self) -> None:
        # The association's thread would wait for a request until its own timeout. None
        # is what that timeout gives it.
        if not self._associated:
            nothing: Any = None
            self._association.dul.to_user_queue.put(nothing)


def guard_connection(event: evt.Event, settings: NodeSettings) -> None:
    """Handle `EVT_CONN_OPEN`: put limits and deadlines on a new connection."""
    connection = _GuardedConnection(event, settings)
    # The one instance attribute that is replaced; everything else is a public hook.
    transport: Any = event.assoc.dul.socket
    transport.recv = connection.recv
    # pynetdicom does not close a socket whose shutdown fails, that is when the peer was
    # first to go.
    peer = transport.socket
    event.assoc.bind(evt.EVT_CONN_CLOSE, lambda _event: peer.close())


def _check_request(body: bytearray) -> None:
    """Look at an A-ASSOCIATE-RQ first: the state machine dies of a broken one."""
    for place, diagnostic, name in (
        (_CALLED_AE_TITLE, _DIAGNOSTIC_CALLED, "called"),
        (_CALLING_AE_TITLE, _DIAGNOSTIC_CALLING, "calling"),
    ):
        title = bytes(body[place]).strip(b" \x00")
        if not title or not all(0x20 <= c <= 0x7E and c != 0x5C for c in title):
            raise _Rejected(diagnostic, f"{name} AE title with forbidden characters")
    header = _HEADER.pack(_A_ASSOCIATE_RQ, 0, len(body))
    try:
        pdu = A_ASSOCIATE_RQ()
        pdu.decode(header + bytes(body))
        pdu.to_primitive()
    except Exception as error:
        raise Violation("A-ASSOCIATE-RQ that cannot be read") from error
