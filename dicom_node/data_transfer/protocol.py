"""The data transfer phase as a state table and a parser: bytes in, events out.

There is no socket here and no clock. The parser takes the bytes as the network cut them
and never waits for a whole PDU: fragments of a data set are passed on as views of what
was just received, so an instance of any size needs no more memory than one read.
"""

import struct
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NoReturn

from dicom_node.data_transfer.command_set import InvalidCommand, Request, parse_request

__all__ = [
    "TRANSITIONS",
    "Abort",
    "AbortReceived",
    "Action",
    "DataTransfer",
    "Event",
    "Fragment",
    "Limits",
    "MessageBegan",
    "MessageEnded",
    "PduType",
    "ProtocolError",
    "ReleaseRequested",
    "State",
    "encode_abort",
    "encode_data_set",
    "encode_message",
    "encode_release_request",
    "encode_release_response",
    "largest_fragment",
]


class PduType(IntEnum):
    """Types of protocol data units, PS3.8 9.3.1."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07


class State(Enum):
    """States of an acceptor from its A-ASSOCIATE-AC on, PS3.8 Table 9-5."""

    DATA_TRANSFER = "Sta6"
    AWAITING_CLOSE = "Sta13"


class Action(Enum):
    """What a PDU makes us do, PS3.8 Tables 9-7 to 9-9."""

    INDICATE_DATA = "DT-2"
    INDICATE_RELEASE = "AR-2"
    INDICATE_ABORT = "AA-3"
    ABORT = "AA-8"
    IGNORE = "AA-6"


# PS3.8 Table 9-10, the rows of received PDUs. The acceptor never asks for a release,
# and its response to one follows at once, so Sta7 to Sta12 do not occur. In Sta13 our
# side has said its last word and waits for the end of the connection only.
_LAST = State.AWAITING_CLOSE
TRANSITIONS: Mapping[tuple[State, PduType], tuple[Action, State]] = {
    (State.DATA_TRANSFER, PduType.A_ASSOCIATE_RQ): (Action.ABORT, _LAST),
    (State.DATA_TRANSFER, PduType.A_ASSOCIATE_AC): (Action.ABORT, _LAST),
    (State.DATA_TRANSFER, PduType.A_ASSOCIATE_RJ): (Action.ABORT, _LAST),
    (State.DATA_TRANSFER, PduType.P_DATA_TF): (
        Action.INDICATE_DATA,
        State.DATA_TRANSFER,
    ),
    (State.DATA_TRANSFER, PduType.A_RELEASE_RQ): (Action.INDICATE_RELEASE, _LAST),
    (State.DATA_TRANSFER, PduType.A_RELEASE_RP): (Action.ABORT, _LAST),
    (State.DATA_TRANSFER, PduType.A_ABORT): (Action.INDICATE_ABORT, _LAST),
    **{(_LAST, pdu): (Action.IGNORE, _LAST) for pdu in PduType},
}


class Abort(Enum):
    """Source and reason of an A-ABORT, PS3.8 9.3.8.

    What breaks PS3.8 is aborted by the provider with a reason; what breaks PS3.7 by its
    user, whose reason is not significant.
    """

    SERVICE_USER = (0, 0)
    NOT_SPECIFIED = (2, 0)
    UNRECOGNIZED_PDU = (2, 1)
    UNEXPECTED_PDU = (2, 2)
    INVALID_PARAMETER_VALUE = (2, 6)


class ProtocolError(Exception):
    """What a peer did that ends its association; its text is fit for a log."""

    def __init__(self, abort: Abort, message: str) -> None:
        super().__init__(message)
        self.abort = abort


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may make us hold."""

    maximum_pdu_length: int
    """Of a P-DATA-TF PDU as offered; some bytes more are forgiven."""
    maximum_command_bytes: int
    maximum_data_set_bytes: int


@dataclass(frozen=True, slots=True)
class MessageBegan:
    """A whole command set arrived; its data set follows if it has one."""

    context_id: int
    request: Request


@dataclass(frozen=True, slots=True)
class Fragment:
    """Bytes of the data set: a view that is valid until the next event is asked for."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """Command and data set are complete."""


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer wants to end the association in order."""


@dataclass(frozen=True, slots=True)
class AbortReceived:
    """The peer ended the association."""


Event = MessageBegan | Fragment | MessageEnded | ReleaseRequested | AbortReceived

_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
_SHORT_BODY = 4  # of A-RELEASE-RQ and A-ABORT, PS3.8 9.3.6 and 9.3.8
_PDU_MARGIN = 64
_COMMAND = 0x01  # message control header, PS3.8 E.2
_LAST_FRAGMENT = 0x02
_SMALLEST_FRAGMENT = 2  # fragments have an even number of bytes, PS3.8 E.1
_LONGEST_FRAGMENT = 1 << 17
_PDV_OVERHEAD = 2  # context ID and message control header count as length


class DataTransfer:
    """Parser of what a peer sends within one association.

    Parameters
    ----------
    context_ids
        Of the accepted presentation contexts.
    limits
        What ends the association when it is exceeded.
    """

    def __init__(self, context_ids: Collection[int], limits: Limits) -> None:
        self.state = State.DATA_TRANSFER
        self.pdus = 0
        """How many PDUs are complete, by which a session sees progress."""
        self._context_ids = frozenset(context_ids)
        self._limits = limits
        self._head = bytearray()
        self._expect(_PDU.size, self._pdu_header)
        self._pdu_type = PduType.P_DATA_TF
        self._pdu_left = 0
        self._pdv_left = 0
        self._control = 0
        self._context_id = 0
        self._command = bytearray()
        self._within_command = False
        self._awaits_data_set = False
        self._data_set_bytes = 0

    def receive(self, data: memoryview) -> Iterator[Event]:
        """Take the next bytes, cut anyhow.

        Parameters
        ----------
        data
            Must not change until the iterator is exhausted.

        Returns
        -------
        What they complete. Bytes after the end of the association are ignored.

        Raises
        ------
        ProtocolError
            Then the association must be aborted; no further bytes are taken.
        """
        while data and self.state is State.DATA_TRANSFER:
            if self._pdv_left:
                part = data[: self._pdv_left]
                data = data[len(part) :]
                yield from self._content(part)
                continue
            taken = self._needed - len(self._head)
            self._head += data[:taken]
            data = data[taken:]
            if len(self._head) == self._needed:
                head = bytes(self._head)
                self._head.clear()
                yield from self._step(head)

    def _expect(self, needed: int, step: Callable[[bytes], Sequence[Event]]) -> None:
        self._needed = needed
        self._step = step

    def _pdu_header(self, head: bytes) -> Sequence[Event]:
        number, length = _PDU.unpack(head)
        try:
            self._pdu_type = PduType(number)
        except ValueError:
            self._refuse(Abort.UNRECOGNIZED_PDU, "no DICOM: unknown PDU type")
        action, _ = TRANSITIONS[self.state, self._pdu_type]
        if action is Action.ABORT:
            self._refuse(
                Abort.UNEXPECTED_PDU, f"{self._pdu_type.name} within an association"
            )
        if action is Action.INDICATE_DATA:
            longest = self._limits.maximum_pdu_length + _PDU_MARGIN
            fits = _PDV.size <= length <= longest
            self._pdu_left = length
            self._expect(_PDV.size, self._pdv_header)
        else:
            fits = length == _SHORT_BODY
            self._expect(_SHORT_BODY, self._short_body)
        if not fits:
            self._refuse(
                Abort.INVALID_PARAMETER_VALUE,
                f"{self._pdu_type.name} of {length} bytes",
            )
        return ()

    def _short_body(self, _body: bytes) -> Sequence[Event]:
        self.pdus += 1
        action, self.state = TRANSITIONS[self.state, self._pdu_type]
        if action is Action.INDICATE_RELEASE:
            return (ReleaseRequested(),)
        return (AbortReceived(),)

    def _pdv_header(self, head: bytes) -> Sequence[Event]:
        length, context_id, self._control = _PDV.unpack(head)
        size = length - _PDV_OVERHEAD
        self._pdu_left -= _PDV.size + size
        if size < 0 or self._pdu_left < 0:
            self._refuse(
                Abort.INVALID_PARAMETER_VALUE,
                "presentation data value with a wrong length",
            )
        if context_id not in self._context_ids:
            self._refuse(
                Abort.INVALID_PARAMETER_VALUE,
                "presentation context that was not accepted",
            )
        if self._control & _COMMAND:
            self._check_command_fragment(size, context_id)
        else:
            self._check_data_fragment(size, context_id)
        self._context_id = context_id
        self._pdv_left = size
        return () if size else self._pdv_end()

    def _check_command_fragment(self, size: int, context_id: int) -> None:
        if self._awaits_data_set:
            self._refuse(Abort.SERVICE_USER, "command in the middle of a data set")
        if self._within_command and context_id != self._context_id:
            self._refuse(Abort.SERVICE_USER, "fragments of one message in two contexts")
        if len(self._command) + size > self._limits.maximum_command_bytes:
            self._refuse(
                Abort.SERVICE_USER, "command set longer than node.maximum_command_bytes"
            )
        self._within_command = True

    def _check_data_fragment(self, size: int, context_id: int) -> None:
        if not self._awaits_data_set:
            self._refuse(Abort.SERVICE_USER, "data set without a command")
        if context_id != self._context_id:
            self._refuse(Abort.SERVICE_USER, "fragments of one message in two contexts")
        self._data_set_bytes += size
        if self._data_set_bytes > self._limits.maximum_data_set_bytes:
            self._refuse(
                Abort.SERVICE_USER, "data set longer than node.maximum_instance_bytes"
            )

    def _content(self, part: memoryview) -> Iterator[Event]:
        self._pdv_left -= len(part)
        if self._control & _COMMAND:
            self._command += part
        else:
            yield Fragment(part)
        if not self._pdv_left:
            yield from self._pdv_end()

    def _pdv_end(self) -> Sequence[Event]:
        if self._pdu_left:
            if self._pdu_left < _PDV.size:
                self._refuse(
                    Abort.INVALID_PARAMETER_VALUE,
                    "P-DATA ends within a presentation data value",
                )
            self._expect(_PDV.size, self._pdv_header)
        else:
            self.pdus += 1
            self._expect(_PDU.size, self._pdu_header)
        if not self._control & _LAST_FRAGMENT:
            return ()
        if self._control & _COMMAND:
            return self._command_end()
        self._awaits_data_set = False
        return (MessageEnded(),)

    def _command_end(self) -> Sequence[Event]:
        try:
            request = parse_request(self._command)
        except InvalidCommand as error:
            self._refuse(Abort.SERVICE_USER, str(error))
        self._command.clear()
        self._within_command = False
        self._awaits_data_set = request.has_data_set
        self._data_set_bytes = 0
        began = MessageBegan(self._context_id, request)
        return (began,) if request.has_data_set else (began, MessageEnded())

    def _refuse(self, abort: Abort, message: str) -> NoReturn:
        self.state = State.AWAITING_CLOSE
        raise ProtocolError(abort, message) from None


def encode_release_request() -> bytes:
    """Write an A-RELEASE-RQ, PS3.8 9.3.6."""
    return _PDU.pack(PduType.A_RELEASE_RQ, _SHORT_BODY) + bytes(_SHORT_BODY)


def encode_release_response() -> bytes:
    """Write an A-RELEASE-RP, PS3.8 9.3.7."""
    return _PDU.pack(PduType.A_RELEASE_RP, _SHORT_BODY) + bytes(_SHORT_BODY)


def encode_abort(abort: Abort) -> bytes:
    """Write an A-ABORT, PS3.8 9.3.8."""
    source, reason = abort.value
    return _PDU.pack(PduType.A_ABORT, _SHORT_BODY) + bytes((0, 0, source, reason))


def encode_message(command_set: bytes, context_id: int, peer_maximum: int) -> bytes:
    """Write the P-DATA-TF PDUs of a message without a data set.

    Parameters
    ----------
    command_set
        Whole.
    context_id
        Of its presentation context.
    peer_maximum
        Longest PDU that the peer takes; 0 is no limit.

    Source
    ------
    PS3.8 9.3.5, D.1 (maximum length), E.2.
    """
    room = largest_fragment(peer_maximum) if peer_maximum else len(command_set)
    pieces = [command_set[at : at + room] for at in range(0, len(command_set), room)]
    pdus = []
    for number, piece in enumerate(pieces, start=1):
        last = _LAST_FRAGMENT if number == len(pieces) else 0
        pdv = _PDV.pack(len(piece) + _PDV_OVERHEAD, context_id, _COMMAND | last)
        pdus.append(_PDU.pack(PduType.P_DATA_TF, len(pdv) + len(piece)) + pdv + piece)
    return b"".join(pdus)


def largest_fragment(peer_maximum: int) -> int:
    """Return how many bytes a fragment may have in PDUs of this length at most.

    Source
    ------
    PS3.8 D.1: the length of the PDU's content counts; E.1: an even number.
    """
    return max((peer_maximum - _PDV.size) & ~1, _SMALLEST_FRAGMENT)


def encode_data_set(
    pieces: Iterable[bytes], context_id: int, peer_maximum: int
) -> Iterator[bytes]:
    """Write the P-DATA-TF PDUs of a data set, one piece held at a time.

    Parameters
    ----------
    pieces
        The data set, cut anyhow, of an even length in all.
    context_id, peer_maximum
        As for `encode_message`.

    Source
    ------
    PS3.8 9.3.5, E.1, E.2.
    """
    longest = _LONGEST_FRAGMENT
    if peer_maximum:
        longest = min(largest_fragment(peer_maximum), longest)
    held = bytearray()
    for piece in pieces:
        held += piece
        # The last fragment is marked, so one is kept until the next is there.
        while len(held) > longest:
            yield _data_pdu(bytes(held[:longest]), context_id, 0)
            del held[:longest]
    yield _data_pdu(bytes(held), context_id, _LAST_FRAGMENT)


def _data_pdu(fragment: bytes, context_id: int, control: int) -> bytes:
    pdv = _PDV.pack(len(fragment) + _PDV_OVERHEAD, context_id, control)
    return _PDU.pack(PduType.P_DATA_TF, len(pdv) + len(fragment)) + pdv + fragment
