"""What a peer sends to one who asked for the association: bytes in, answers out.

The other side of `protocol`: there peers ask and we answer, here we ask. No socket and
no clock. Answers are short, so a PDU is read when it is whole.
"""

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from dicom_node.data_transfer.command_set import (
    InvalidCommand,
    Response,
    parse_response,
)
from dicom_node.data_transfer.protocol import Abort, PduType, ProtocolError

__all__ = [
    "OFFERED_PDU_LENGTH",
    "TRANSITIONS",
    "Aborted",
    "Action",
    "Answers",
    "Event",
    "PeerReleases",
    "Released",
    "State",
]

OFFERED_PDU_LENGTH = 16384
"""Maximum length that we offer: answers fit into much less."""


class State(Enum):
    """States of a requestor from the A-ASSOCIATE-AC on, PS3.8 Table 9-5."""

    DATA_TRANSFER = "Sta6"
    AWAITING_RELEASE_RP = "Sta7"
    AWAITING_RELEASE_RP_AFTER_COLLISION = "Sta11"
    ENDED = "Sta1"


class Action(Enum):
    """What a PDU makes us do, PS3.8 Tables 9-7 to 9-9."""

    INDICATE_DATA = "DT-2"
    INDICATE_RELEASE = "AR-2"
    CONFIRM_RELEASE = "AR-3"
    IGNORE_DATA = "AR-6"
    INDICATE_COLLISION = "AR-8"
    INDICATE_ABORT = "AA-3"
    ABORT = "AA-8"


# PS3.8 Table 9-10, the rows of received PDUs for a requestor. A response to the peer's
# own A-RELEASE-RQ is sent at once, so Sta8 and Sta9 do not occur.
_OPEN, _ASKED = State.DATA_TRANSFER, State.AWAITING_RELEASE_RP
_COLLIDED, _ENDED = State.AWAITING_RELEASE_RP_AFTER_COLLISION, State.ENDED
_NO_PLACE = (PduType.A_ASSOCIATE_RQ, PduType.A_ASSOCIATE_AC, PduType.A_ASSOCIATE_RJ)
TRANSITIONS: Mapping[tuple[State, PduType], tuple[Action, State]] = {
    (_OPEN, PduType.P_DATA_TF): (Action.INDICATE_DATA, _OPEN),
    (_OPEN, PduType.A_RELEASE_RQ): (Action.INDICATE_RELEASE, _ENDED),
    (_OPEN, PduType.A_RELEASE_RP): (Action.ABORT, _ENDED),
    (_ASKED, PduType.P_DATA_TF): (Action.IGNORE_DATA, _ASKED),
    (_ASKED, PduType.A_RELEASE_RQ): (Action.INDICATE_COLLISION, _COLLIDED),
    (_ASKED, PduType.A_RELEASE_RP): (Action.CONFIRM_RELEASE, _ENDED),
    (_COLLIDED, PduType.P_DATA_TF): (Action.ABORT, _ENDED),
    (_COLLIDED, PduType.A_RELEASE_RQ): (Action.ABORT, _ENDED),
    (_COLLIDED, PduType.A_RELEASE_RP): (Action.CONFIRM_RELEASE, _ENDED),
    **{
        (state, pdu): (Action.ABORT, _ENDED)
        for state in (_OPEN, _ASKED, _COLLIDED)
        for pdu in _NO_PLACE
    },
    **{
        (state, PduType.A_ABORT): (Action.INDICATE_ABORT, _ENDED)
        for state in (_OPEN, _ASKED, _COLLIDED)
    },
}


@dataclass(frozen=True, slots=True)
class PeerReleases:
    """The peer asks for a release and waits for our A-RELEASE-RP."""


@dataclass(frozen=True, slots=True)
class Released:
    """The peer agreed to the release that we asked for."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer ended the association."""

    source: int
    reason: int


Event = Response | PeerReleases | Released | Aborted

_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
_PDV_OVERHEAD = 2  # context ID and message control header count as length
_COMMAND = 0x01
_LAST_FRAGMENT = 0x02
_SHORT_BODY = 4
_PDU_MARGIN = 64
_LONGEST_COMMAND = 65536


class Answers:
    """Parser of what a peer sends within an association that we asked for.

    Parameters
    ----------
    context_ids
        Of the accepted presentation contexts.
    """

    def __init__(self, context_ids: Collection[int]) -> None:
        self.state = State.DATA_TRANSFER
        self._context_ids = frozenset(context_ids)
        self._bytes = bytearray()
        self._command = bytearray()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return self.state is State.ENDED

    def release(self) -> None:
        """Note that we have sent an A-RELEASE-RQ."""
        self.state = State.AWAITING_RELEASE_RP

    def receive(self, data: bytes | memoryview) -> Iterator[Event]:
        """Take the next bytes, cut anyhow, and tell what they complete.

        Raises
        ------
        ProtocolError
            Then the association must be aborted; no further bytes are taken.
        """
        self._bytes += data
        while self.state is not State.ENDED and len(self._bytes) >= _PDU.size:
            number, length = _PDU.unpack_from(self._bytes)
            pdu = self._checked(number, length)
            if len(self._bytes) < _PDU.size + length:
                return
            body = bytes(self._bytes[_PDU.size : _PDU.size + length])
            del self._bytes[: _PDU.size + length]
            yield from self._pdu(pdu, body)

    def _checked(self, number: int, length: int) -> PduType:
        """Look at a head before its body is waited for."""
        try:
            pdu = PduType(number)
        except ValueError:
            self._refuse(Abort.UNRECOGNIZED_PDU, "no DICOM: unknown PDU type")
        action, _ = TRANSITIONS[self.state, pdu]
        if action is Action.ABORT:
            self._refuse(Abort.UNEXPECTED_PDU, f"{pdu.name} within an association")
        fits = (
            length <= OFFERED_PDU_LENGTH + _PDU_MARGIN
            if pdu is PduType.P_DATA_TF
            else length == _SHORT_BODY
        )
        if not fits:
            self._refuse(Abort.INVALID_PARAMETER_VALUE, f"{pdu.name} of {length} bytes")
        return pdu

    def _pdu(self, pdu: PduType, body: bytes) -> Iterator[Event]:
        action, self.state = TRANSITIONS[self.state, pdu]
        match action:
            case Action.INDICATE_DATA:
                yield from self._data(body)
            case Action.INDICATE_RELEASE | Action.INDICATE_COLLISION:
                yield PeerReleases()
            case Action.CONFIRM_RELEASE:
                yield Released()
            case Action.INDICATE_ABORT:
                yield Aborted(source=body[2], reason=body[3])

    def _data(self, body: bytes) -> Iterator[Event]:
        while body:
            if len(body) < _PDV.size:
                self._wrong_length()
            length, context_id, control = _PDV.unpack_from(body)
            size = length - _PDV_OVERHEAD
            content, body = body[_PDV.size : _PDV.size + size], body[_PDV.size + size :]
            if size < 0 or len(content) < size:
                self._wrong_length()
            if context_id not in self._context_ids:
                self._refuse(
                    Abort.INVALID_PARAMETER_VALUE,
                    "presentation context that was not accepted",
                )
            if not control & _COMMAND:
                self._refuse(Abort.SERVICE_USER, "data set in place of an answer")
            self._command += content
            if len(self._command) > _LONGEST_COMMAND:
                self._refuse(Abort.SERVICE_USER, "answer without an end")
            if control & _LAST_FRAGMENT:
                yield self._response()

    def _response(self) -> Response:
        try:
            response = parse_response(self._command)
        except InvalidCommand as error:
            self._refuse(Abort.SERVICE_USER, str(error))
        self._command.clear()
        if response.has_data_set:
            self._refuse(Abort.SERVICE_USER, "answer with a data set")
        return response

    def _wrong_length(self) -> NoReturn:
        self._refuse(
            Abort.INVALID_PARAMETER_VALUE,
            "presentation data value with a wrong length",
        )

    def _refuse(self, abort: Abort, message: str) -> NoReturn:
        self.state = State.ENDED
        raise ProtocolError(abort, message) from None
