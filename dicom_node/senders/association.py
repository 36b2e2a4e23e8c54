"""An association that we asked for, on its socket: requests out, answers in.

pynetdicom negotiated it and has no part in it any more; nothing here knows pynetdicom.
One thread sends and then waits for the answer. Between the two the caller may open what
comes next.
"""

import select
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from dicom_node.data_transfer.command_set import Command, Response, encode_request
from dicom_node.data_transfer.data_set_pdus import DataSetPdus, UnreadableSource
from dicom_node.data_transfer.protocol import (
    Abort,
    ProtocolError,
    encode_abort,
    encode_message,
    encode_release_request,
    encode_release_response,
)
from dicom_node.data_transfer.requestor import Aborted, Answers, PeerReleases
from dicom_node.senders.part10 import Instance

__all__ = ["SLOWEST_BYTES_PER_S", "Association", "AssociationBroken"]

SLOWEST_BYTES_PER_S = 1_000_000
"""A slow line or archive needs longer for a large object than the longest silence."""

_READ_BYTES = 1 << 14
_LONGEST_RELEASE_S = 2.0
# How far a deadline may be passed: the kernel is not told anew about each read.
_TOLERANCE = 0.1
_MOST_MESSAGE_IDS = 0xFFFF
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)

# PS3.8 9.3.8: source 2 (service provider), reason -> words.
_ABORT_REASONS = {
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


class AssociationBroken(Exception):
    """It has ended without an answer; its text fits an operator."""


class Association:
    """An established association and the only user of its socket.

    Parameters
    ----------
    peer
        Connected, TLS or not; this object closes it.
    contexts
        Accepted pairs of SOP class and transfer syntax, and their context IDs.
    peer_maximum
        Longest PDU that the peer takes; 0 is no limit.
    timeout_s
        Longest silence: of a peer that takes nothing, or that does not answer.
    """

    def __init__(
        self,
        peer: socket.socket,
        *,
        contexts: Mapping[tuple[str, str], int],
        peer_maximum: int,
        timeout_s: float,
    ) -> None:
        self.contexts = contexts
        self._peer = peer
        self._peer_maximum = peer_maximum
        self._timeout_s = timeout_s
        self._answers = Answers(contexts.values())
        self._pdus = DataSetPdus(peer_maximum)
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._poll = select.poll()
        self._poll.register(peer, select.POLLIN)
        self._message_id = 0
        self._command = Command.C_ECHO_RQ
        self._patience_s = timeout_s
        self._armed_s = 0.0
        self._response: Response | None = None
        self._end = ""
        self._arm(timeout_s)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, as far as we have heard."""
        return bool(self._end)

    def send(self, instance: Instance, context_id: int) -> None:
        """Send a C-STORE-RQ with its data set; `answer` waits for what it brings.

        Raises
        ------
        AssociationBroken
            If the peer ended it, or takes nothing for too long.
        UnreadableSource
            If the file cannot be read to its end; the association is aborted then.
        """
        request = self._request(
            Command.C_STORE_RQ,
            context_id,
            instance.sop_class_uid,
            instance.sop_instance_uid,
        )
        self._patience_s += instance.data_set.size / SLOWEST_BYTES_PER_S
        with self._ending_when_broken("it takes no data"):
            self._pdus.begin(instance.data_set, context_id)
            parts = [memoryview(request), self._pdus.next()]
            while parts[-1]:
                self._write(parts)
                parts = [self._pdus.next()]
                if parts[-1] and self._poll.poll(0):
                    self._look()  # a peer may end it in the middle

    def echo(self, sop_class_uid: str, context_id: int) -> Response:
        """Send a C-ECHO-RQ and wait for its answer.

        Raises
        ------
        AssociationBroken
            If there is none.
        """
        request = self._request(Command.C_ECHO_RQ, context_id, sop_class_uid)
        with self._ending_when_broken("it takes no data"):
            self._write([memoryview(request)])
        return self.answer()

    def answer(self) -> Response:
        """Wait for the answer to what was sent last.

        Raises
        ------
        AssociationBroken
            If there is none in time, or none that is one.
        """
        deadline = time.monotonic() + self._patience_s
        with self._ending_when_broken("no answer in time"):
            while self._response is None:
                self._raise_if_over()
                self._receive(deadline)
        response, self._response = self._response, None
        return response

    def is_alive(self) -> bool:
        """Look, without waiting, whether the peer has ended it meanwhile."""
        with suppress(AssociationBroken), self._ending_when_broken(""):
            if not self._end and self._poll.poll(0):
                self._look()
        return not self._end

    def release(self) -> None:
        """End it in good order if it is still there; never raises."""
        if self._end:
            return
        deadline = time.monotonic() + min(self._timeout_s, _LONGEST_RELEASE_S)
        with suppress(OSError, ProtocolError):
            self._peer.sendall(encode_release_request())
            self._answers.release()
            while not self._end:
                self._arm(max(deadline - time.monotonic(), 0.01))
                self._receive(deadline)
        self._close("it was released")

    def abort(self, abort: Abort = Abort.SERVICE_USER) -> None:
        """End it at once; never raises."""
        with suppress(OSError):
            if not self._end:
                self._arm(min(self._timeout_s, 1.0))
                self._peer.sendall(encode_abort(abort))
        self._close("it was aborted by us")

    def _request(
        self,
        command: Command,
        context_id: int,
        sop_class_uid: str,
        sop_instance_uid: str = "",
    ) -> bytes:
        self._message_id = self._message_id % _MOST_MESSAGE_IDS + 1
        self._command = command
        self._patience_s = self._timeout_s
        self._response = None
        command_set = encode_request(
            command,
            self._message_id,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
        )
        return encode_message(command_set, context_id, self._peer_maximum)

    def _write(self, parts: list[memoryview]) -> None:
        self._raise_if_over()
        self._arm(self._timeout_s)
        while parts:
            sent = self._peer.sendmsg(parts)
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]

    def _receive(self, deadline: float) -> None:
        """Wait for the next bytes and take them."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._arm(remaining)
        if _QUICK_ACK is not None:
            # A peer with Nagle's algorithm on waits 40 ms for each ACK otherwise; the
            # kernel forgets the option, so it is set for each read.
            self._peer.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        self._take(self._peer.recv_into(self._buffer))

    def _look(self) -> None:
        """Take what has come, without waiting for more."""
        self._peer.settimeout(0)
        self._armed_s = 0.0
        with suppress(BlockingIOError):
            self._take(self._peer.recv_into(self._buffer))
        self._raise_if_over()
        self._arm(self._timeout_s)

    def _take(self, count: int) -> None:
        if not count:
            self._close("it closed the connection")
            return
        for event in self._answers.receive(self._buffer[:count]):
            match event:
                case Response():
                    self._keep(event)
                case PeerReleases():
                    self._peer.sendall(encode_release_response())
                    if self._answers.is_over:
                        self._close("it released the association")
                case Aborted(source, reason):
                    words = _ABORT_REASONS.get(reason, "") if source == 2 else ""
                    about = f" ({words})" if words else ""
                    self._close(f"it aborted the association{about}")
                case _:
                    self._close("it was released")

    def _keep(self, response: Response) -> None:
        expected = response.command is self._command and self._response is None
        if not expected or response.message_id != self._message_id:
            raise ProtocolError(Abort.SERVICE_USER, "answer to what was not asked")
        self._response = response

    def _arm(self, timeout_s: float) -> None:
        if abs(timeout_s - self._armed_s) > _TOLERANCE * self._timeout_s:
            self._peer.settimeout(timeout_s)
            self._armed_s = timeout_s

    def _raise_if_over(self) -> None:
        if self._end:
            raise AssociationBroken(self._end)

    @contextmanager
    def _ending_when_broken(self, when_silent: str) -> Iterator[None]:
        try:
            yield
        except ProtocolError as error:
            self.abort(error.abort)
            raise AssociationBroken(f"it broke the protocol: {error}") from error
        except UnreadableSource:
            self.abort()
            raise
        except TimeoutError as error:
            self.abort(Abort.NOT_SPECIFIED)
            raise AssociationBroken(when_silent) from error
        except OSError as error:
            self._hear_last_words()
            self._close("the connection was lost")
            raise AssociationBroken(self._end) from error

    def _hear_last_words(self) -> None:
        """Take what the peer said before sending to it failed: it tells why."""
        with suppress(OSError, ProtocolError, AssociationBroken):
            if not self._end:
                self._look()

    def _close(self, words: str) -> None:
        if self._end:
            return
        self._end = words
        with suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()
