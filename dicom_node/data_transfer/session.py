"""One association on its socket: reads, serves, answers, and ends in order.

The thread waits in the read and nowhere else, except while a query or a retrieval is
served: then it looks between two messages of ours whether the peer cancelled. One
buffer is read into again and again; the fragments of a data set go to the disk as views
of it.
"""

import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum

from core.log import get_log
from dicom_node.data_transfer.command_set import Command, Request
from dicom_node.data_transfer.exchange import Operation
from dicom_node.data_transfer.protocol import (
    Abort,
    AbortReceived,
    DataTransfer,
    Event,
    Fragment,
    MessageBegan,
    MessageEnded,
    ProtocolError,
    ReleaseRequested,
    encode_abort,
    encode_data_set,
    encode_message,
    encode_release_response,
)
from dicom_node.data_transfer.services import Response, Services

__all__ = ["OUTSTANDING", "Outcome", "Session"]

# We offer no asynchronous window, so a peer waits for each answer. A few requests that
# came without waiting are forgiven.
OUTSTANDING = 4
# Two PDUs of the default length. More made no difference that could be measured.
_READ_BYTES = 1 << 18
# How far a deadline may be passed, as a share of it: the kernel is not told anew about
# each read.
_TOLERANCE = 0.1
# After our last word: long enough for a peer to read it, so that it learns why.
_LINGER_S = 1.0
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)


class Outcome(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    CLOSED = "closed"


class _Ended(Exception):
    """The association ended while an operation was served."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class Session:
    """The data transfer phase of one association.

    Parameters
    ----------
    peer
        Connected; this session closes it. TLS or not.
    protocol
        Fresh.
    services
        Of this association.
    network_timeout_s
        Longest wait for a whole PDU, and for a peer that takes no answer.
    peer_maximum
        Longest PDU that the peer takes; 0 is no limit.
    """

    def __init__(
        self,
        peer: socket.socket,
        *,
        protocol: DataTransfer,
        services: Services,
        network_timeout_s: float,
        peer_maximum: int,
        peer_address: str,
    ) -> None:
        self._peer = peer
        self._protocol = protocol
        self._services = services
        self._timeout_s = network_timeout_s
        self._peer_maximum = peer_maximum
        self._peer_address = peer_address
        self._stopping = False
        self._unwaited = 0
        self._patience_s = network_timeout_s
        self._armed_s = 0.0
        self._serving: Operation | None = None
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._cancelled: set[int] = set()
        self._responses: dict[int, Request] = {}

    def run(self) -> Outcome:
        """Serve until the association ends; never raises.

        Returns
        -------
        How it ended. The connection is closed and no instance is left half received.
        """
        try:
            outcome = self._serve()
        except ProtocolError as error:
            outcome = self._abort(error.abort, str(error))
        except _Ended as ended:
            outcome = ended.outcome
        except TimeoutError:
            outcome = self._abort(Abort.NOT_SPECIFIED, "the peer is too slow")
        except OSError:
            outcome = Outcome.CLOSED
        except Exception as error:  # noqa: BLE001 - a bug must not leave a peer waiting
            get_log().error("association_failed", error=type(error).__name__)
            outcome = self._abort(Abort.NOT_SPECIFIED, "fault of this node")
        finally:
            self._services.abandon()
        self._close(linger=outcome is not Outcome.CLOSED)
        return outcome

    def stop(self) -> None:
        """Abort the association, from any thread; an answer begun is sent first."""
        self._stopping = True
        with suppress(OSError):  # it ended meanwhile
            self._peer.shutdown(socket.SHUT_RD)

    def send(
        self,
        context_id: int,
        command_set: bytes,
        data_set: Iterable[bytes] | None = None,
    ) -> None:
        """Send a message, as `Exchange.send` promises."""
        if self._stopping:
            raise ProtocolError(Abort.SERVICE_USER, "the node is stopping")
        self._wait_at_most(self._timeout_s)
        self._peer.sendall(encode_message(command_set, context_id, self._peer_maximum))
        if data_set is not None:
            for pdu in encode_data_set(data_set, context_id, self._peer_maximum):
                self._peer.sendall(pdu)

    def cancelled(self, message_id: int) -> bool:
        """Tell whether a request was cancelled, as `Exchange.cancelled` promises."""
        while select.select([self._peer], [], [], 0)[0]:
            self._receive()
        return message_id in self._cancelled

    def response(self, message_id: int) -> Request:
        """Wait for a response, as `Exchange.response` promises."""
        while message_id not in self._responses:
            self._receive()
        return self._responses.pop(message_id)

    def _serve(self) -> Outcome:
        while True:
            self._receive()
            operation = self._serving
            if operation is not None:
                operation.run(self)
                self._cancelled.clear()
                self._responses.clear()
                self._serving = None
                self._patience_s = self._timeout_s

    def _receive(self) -> None:
        """Take what the peer sent next; waits for it.

        Raises
        ------
        _Ended
            With the association.
        """
        count = self._read(self._buffer)
        if self._stopping:
            raise ProtocolError(Abort.SERVICE_USER, "the node is stopping")
        if not count:
            raise _Ended(Outcome.CLOSED)
        pdus = self._protocol.pdus
        self._unwaited = 0
        for event in self._protocol.receive(self._buffer[:count]):
            outcome = self._handle(event)
            if outcome is not None:
                raise _Ended(outcome)
        if self._protocol.pdus != pdus:
            self._patience_s = self._timeout_s

    def _handle(self, event: Event) -> Outcome | None:
        match event:
            case Fragment(data):
                self._services.data_set(data)
            case MessageBegan():
                self._begin(event)
            case MessageEnded():
                self._answer()
            case ReleaseRequested():
                self._peer.sendall(encode_release_response())
                return Outcome.RELEASED
            case AbortReceived():
                return Outcome.ABORTED
        return None

    def _begin(self, message: MessageBegan) -> None:
        request = message.request
        if self._serving is not None:
            self._take_aside(request)
        elif request.command is Command.C_STORE_RSP:
            raise ProtocolError(Abort.SERVICE_USER, "a response to no request")
        else:
            self._services.begin(message)

    def _take_aside(self, request: Request) -> None:
        """Take what a peer may send while an operation is served."""
        if request.command is Command.C_CANCEL_RQ:
            self._cancelled.add(request.responds_to)
        elif request.command is Command.C_STORE_RSP:
            self._responses[request.responds_to] = request
        else:
            raise ProtocolError(
                Abort.SERVICE_USER, "a request while another one is served"
            )

    def _answer(self) -> None:
        # Requests that came in one read were sent before our answer to the first.
        self._unwaited += 1
        if self._unwaited > OUTSTANDING:
            raise ProtocolError(
                Abort.SERVICE_USER, "requests are sent without waiting for answers"
            )
        response = self._services.end()
        if response is not None and not isinstance(response, Response):
            self._serving = response
        elif response is not None:
            self._peer.sendall(
                encode_message(
                    response.command_set, response.context_id, self._peer_maximum
                )
            )

    def _wait_at_most(self, seconds: float) -> None:
        if abs(seconds - self._armed_s) > _TOLERANCE * self._timeout_s:
            self._peer.settimeout(seconds)
            self._armed_s = seconds

    def _read(self, buffer: memoryview) -> int:
        # Only waiting counts, not what our disk needs.
        if self._patience_s <= 0:
            raise TimeoutError
        self._wait_at_most(self._patience_s)
        if _QUICK_ACK is not None:
            # A sender with Nagle's algorithm on waits 40 ms for each ACK otherwise; the
            # kernel forgets the option, so it is set for each read.
            self._peer.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        began = time.monotonic()
        count = self._peer.recv_into(buffer)
        self._patience_s -= time.monotonic() - began
        return count

    def _abort(self, abort: Abort, reason: str) -> Outcome:
        get_log().warning(
            "peer_refused", reason=reason, peer_address=self._peer_address
        )
        try:
            self._peer.settimeout(_LINGER_S)
            self._peer.sendall(encode_abort(abort))
        except OSError:
            pass  # gone already
        return Outcome.ABORTED

    def _close(self, *, linger: bool) -> None:
        # A close with bytes unread resets the connection, and our last word is lost.
        try:
            if linger:
                self._peer.shutdown(socket.SHUT_WR)
                self._drain()
        except OSError:
            pass  # the peer was quicker
        finally:
            self._peer.close()

    def _drain(self) -> None:
        scrap = bytearray(_READ_BYTES)
        deadline = time.monotonic() + _LINGER_S
        while (remaining := deadline - time.monotonic()) > 0:
            self._peer.settimeout(remaining)
            if not self._peer.recv_into(scrap):
                return
