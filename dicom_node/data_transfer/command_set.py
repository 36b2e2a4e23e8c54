"""Command sets: requests and responses, those of peers and our own."""

import struct
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "Command",
    "InvalidCommand",
    "Request",
    "Response",
    "SubOperations",
    "encode_request",
    "encode_response",
    "parse_request",
    "parse_response",
]


class Command(IntEnum):
    """Command Field (0000,0100) of the messages that an acceptor reads.

    Source
    ------
    PS3.7 Table E.1-1.
    """

    C_STORE_RQ = 0x0001
    C_GET_RQ = 0x0010
    C_FIND_RQ = 0x0020
    C_MOVE_RQ = 0x0021
    C_ECHO_RQ = 0x0030
    C_CANCEL_RQ = 0x0FFF
    C_STORE_RSP = 0x8001


_RESPONSE = 0x8000  # PS3.7 E.1: the Command Field of a response has this bit
_NO_DATA_SET = 0x0101
_DATA_SET_FOLLOWS = 0x0000
_MEDIUM = 0x0000  # PS3.7 9.3.1.1: Priority
_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
_MOVE_DESTINATION = 0x0600
_PRIORITY = 0x0700
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE_UID = 0x1000
_NUMBERS_OF_SUB_OPERATIONS = (0x1020, 0x1021, 0x1022, 0x1023)

_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<H")


class InvalidCommand(Exception):
    """A command set that cannot be read or is not offered; its text fits a log."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a request says, unchecked beyond what every request must have."""

    command: Command
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    """Affected SOP Class UID (0000,0002), empty if it is missing."""
    sop_instance_uid: str
    """Affected SOP Instance UID (0000,1000), empty if it is missing."""
    move_destination: str = ""
    """Move Destination (0000,0600) of a C-MOVE-RQ."""
    responds_to: int = 0
    """Message ID Being Responded To (0000,0120), of a response or a C-CANCEL-RQ."""
    status: int = 0
    """Status (0000,0900) of a response."""


@dataclass(frozen=True, slots=True)
class SubOperations:
    """How far a C-GET or C-MOVE is; the numbers of its responses.

    Source
    ------
    PS3.7 9.1.3.1 and 9.1.4.1.
    """

    remaining: int | None
    """None leaves it out, as a last response does."""
    completed: int
    failed: int
    warning: int


@dataclass(frozen=True, slots=True)
class Response:
    """What a response says, as far as one who asked must know."""

    command: Command
    """Of the request that it answers."""
    message_id: int
    """Message ID Being Responded To (0000,0120)."""
    has_data_set: bool
    status: int
    error_comment: str
    """Error Comment (0000,0902): a peer's own words, unchecked."""


def parse_request(encoded: bytes | bytearray) -> Request:
    """Read a whole command set.

    Parameters
    ----------
    encoded
        Implicit VR Little Endian, group 0000 only.

    Raises
    ------
    InvalidCommand
        If it is no such thing, not offered, or lacks what no request can lack.

    Source
    ------
    PS3.7 6.3.1, 9.3.1 (C-STORE), 9.3.2.3 (C-CANCEL), 9.3.5 (C-ECHO).
    """
    values = _elements(encoded)
    number = _unsigned_short(values, _COMMAND_FIELD)
    try:
        command = Command(number)
    except ValueError:
        raise InvalidCommand(f"command {number:04X} is not offered") from None
    belongs = command in (Command.C_CANCEL_RQ, Command.C_STORE_RSP)
    return Request(
        command=command,
        # A response and a C-CANCEL-RQ name the message that they belong to instead.
        message_id=0 if belongs else _unsigned_short(values, _MESSAGE_ID),
        has_data_set=_unsigned_short(values, _DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class_uid=_string(values, _AFFECTED_SOP_CLASS_UID),
        sop_instance_uid=_string(values, _AFFECTED_SOP_INSTANCE_UID),
        move_destination=_string(values, _MOVE_DESTINATION).strip(),
        responds_to=_unsigned_short(values, _MESSAGE_ID_BEING_RESPONDED_TO)
        if belongs
        else 0,
        status=_unsigned_short(values, _STATUS)
        if command is Command.C_STORE_RSP
        else 0,
    )


def encode_request(
    command: Command,
    message_id: int,
    *,
    sop_class_uid: str,
    sop_instance_uid: str = "",
) -> bytes:
    """Write the command set of a C-STORE-RQ or C-ECHO-RQ.

    Parameters
    ----------
    command
        Which of them.
    message_id
        1 to 65535, of no other request that is open.
    sop_class_uid, sop_instance_uid
        Affected UIDs; a C-STORE-RQ has both and is followed by a data set.

    Source
    ------
    PS3.7 9.3.1.1, 9.3.5.1.
    """
    storing = command is Command.C_STORE_RQ
    return _command_set(
        _text(_AFFECTED_SOP_CLASS_UID, sop_class_uid, b"\0"),
        _number(_COMMAND_FIELD, command),
        _number(_MESSAGE_ID, message_id),
        _number(_PRIORITY, _MEDIUM) if storing else b"",
        _number(_DATA_SET_TYPE, _DATA_SET_FOLLOWS if storing else _NO_DATA_SET),
        _text(_AFFECTED_SOP_INSTANCE_UID, sop_instance_uid, b"\0"),
    )


def parse_response(encoded: bytes | bytearray) -> Response:
    """Read the whole command set of a response.

    Parameters
    ----------
    encoded
        Implicit VR Little Endian, group 0000 only.

    Raises
    ------
    InvalidCommand
        If it is none to a request of ours, or lacks what no response can lack.

    Source
    ------
    PS3.7 9.3.1.2, 9.3.5.2, C.
    """
    values = _elements(encoded)
    number = _unsigned_short(values, _COMMAND_FIELD)
    try:
        if not number & _RESPONSE:
            raise ValueError
        command = Command(number ^ _RESPONSE)
    except ValueError:
        raise InvalidCommand(f"command {number:04X} answers nothing of ours") from None
    return Response(
        command=command,
        message_id=_unsigned_short(values, _MESSAGE_ID_BEING_RESPONDED_TO),
        has_data_set=_unsigned_short(values, _DATA_SET_TYPE) != _NO_DATA_SET,
        status=_unsigned_short(values, _STATUS),
        error_comment=_string(values, _ERROR_COMMENT),
    )


def encode_response(
    request: Request,
    status: int,
    *,
    error_comment: str = "",
    sop_class_uid: str = "",
    sop_instance_uid: str = "",
    with_data_set: bool = False,
    progress: SubOperations | None = None,
) -> bytes:
    """Write the command set of a response.

    Parameters
    ----------
    request
        What is answered.
    status
        Status (0000,0900).
    error_comment
        Error Comment (0000,0902), at most 64 characters; empty leaves it out.
    sop_class_uid, sop_instance_uid
        Affected UIDs; empty leaves them out.
    with_data_set
        Whether an identifier follows.
    progress
        Of a C-GET-RSP or C-MOVE-RSP.

    Source
    ------
    PS3.7 9.3.1.2 to 9.3.5.2, C.5.
    """
    return _command_set(
        _text(_AFFECTED_SOP_CLASS_UID, sop_class_uid, b"\0"),
        _number(_COMMAND_FIELD, request.command | _RESPONSE),
        _number(_MESSAGE_ID_BEING_RESPONDED_TO, request.message_id),
        _number(_DATA_SET_TYPE, _DATA_SET_FOLLOWS if with_data_set else _NO_DATA_SET),
        _number(_STATUS, status),
        _text(_ERROR_COMMENT, error_comment, b" "),
        _text(_AFFECTED_SOP_INSTANCE_UID, sop_instance_uid, b"\0"),
        _numbers(progress),
    )


def _numbers(progress: SubOperations | None) -> bytes:
    if progress is None:
        return b""
    values = (
        progress.remaining, progress.completed, progress.failed, progress.warning
    )  # fmt: skip
    return b"".join(
        _number(number, min(value, 0xFFFF))
        for number, value in zip(_NUMBERS_OF_SUB_OPERATIONS, values, strict=True)
        if value is not None
    )


def _command_set(*elements: bytes) -> bytes:
    group = b"".join(elements)
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(group)) + group


def _elements(encoded: bytes | bytearray) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + _ELEMENT.size > len(encoded):
            raise InvalidCommand("command set ends within an element")
        group, number, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if group != 0 or length > len(encoded) - position:
            raise InvalidCommand("command set cannot be read")
        values[number] = bytes(encoded[position : position + length])
        position += length
    return values


def _unsigned_short(values: dict[int, bytes], number: int) -> int:
    value = values.get(number, b"")
    if len(value) != _US.size:
        raise InvalidCommand(f"command set without a usable (0000,{number:04X})")
    return int(_US.unpack(value)[0])


def _string(values: dict[int, bytes], number: int) -> str:
    return values.get(number, b"").decode("ascii", errors="replace").rstrip("\0 ")


def _number(number: int, value: int) -> bytes:
    return _ELEMENT.pack(0, number, _US.size) + _US.pack(value)


def _text(number: int, text: str, padding: bytes) -> bytes:
    if not text:
        return b""
    value = text.encode("ascii", errors="replace")
    if len(value) % 2:
        value += padding
    return _ELEMENT.pack(0, number, len(value)) + value
