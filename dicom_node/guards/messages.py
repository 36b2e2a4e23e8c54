"""Looks at each PDU as it passes: sizes, order and the commands it carries.

It knows only what must hold before pynetdicom may see the bytes; whatever it refuses
ends the association with an A-ABORT.
"""

import struct

__all__ = ["MessageGuard", "Violation", "parse_command_set"]

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
_OFFERED = frozenset({C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ})
_NO_DATA_SET = 0x0101
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_DATA_SET_TYPE = 0x0800
# We offer no asynchronous window, so a peer waits for each answer; a few more are
# forgiven, but not an endless queue in our memory.
_OUTSTANDING = 4

_PDV = struct.Struct(">LBB")
_ELEMENT = struct.Struct("<HHL")


class Violation(Exception):
    """What a peer did that ends its association; its text is fit for a log."""


def parse_command_set(encoded: bytes | bytearray) -> dict[int, bytes]:
    """Split a command set into its elements.

    Returns
    -------
    Element number (the group is always 0000) to value.

    Raises
    ------
    Violation
        If it is no Implicit VR Little Endian sequence of group 0000.

    Source
    ------
    PS3.7 6.3.1.
    """
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + 8 > len(encoded):
            raise Violation("command set ends within an element")
        group, number, length = _ELEMENT.unpack_from(encoded, position)
        position += 8
        if group != 0 or length > len(encoded) - position:
            raise Violation("command set cannot be read")
        values[number] = bytes(encoded[position : position + length])
        position += length
    return values


class MessageGuard:
    """Follows the messages of one association.

    Parameters
    ----------
    maximum_command_bytes, maximum_data_set_bytes
        Largest command set and data set of one message.
    """

    def __init__(
        self, *, maximum_command_bytes: int, maximum_data_set_bytes: int
    ) -> None:
        self._maximum_command_bytes = maximum_command_bytes
        self._maximum_data_set_bytes = maximum_data_set_bytes
        self._command = bytearray()
        self._context_id = 0
        self._awaits_data_set = False
        self._data_set_bytes = 0
        self._outstanding = 0

    def answered(self) -> None:
        """Note that a response was sent."""
        self._outstanding = max(0, self._outstanding - 1)

    def check(self, p_data: bytes | bytearray) -> None:
        """Look at the body of a P-DATA-TF PDU.

        Raises
        ------
        Violation
            If it must not reach pynetdicom.

        Source
        ------
        PS3.8 9.3.5 (presentation data values), E.2 (message control header).
        """
        position = 0
        while position < len(p_data):
            if position + _PDV.size > len(p_data):
                raise Violation("P-DATA ends within a presentation data value")
            length, context_id, header = _PDV.unpack_from(p_data, position)
            position += 4
            if length < 2 or length > len(p_data) - position:
                raise Violation("presentation data value with a wrong length")
            fragment = (position + 2, position + length)
            if header & 1:
                self._command_fragment(
                    p_data[slice(*fragment)], context_id, last=bool(header & 2)
                )
            else:
                self._data_fragment(length - 2, context_id, last=bool(header & 2))
            position += length

    def _command_fragment(
        self, fragment: bytes | bytearray, context_id: int, *, last: bool
    ) -> None:
        if self._awaits_data_set:
            raise Violation("command in the middle of a data set")
        if self._command and context_id != self._context_id:
            raise Violation("fragments of one message in two contexts")
        self._context_id = context_id
        if len(self._command) + len(fragment) > self._maximum_command_bytes:
            raise Violation("command set longer than node.maximum_command_bytes")
        self._command += fragment
        if last:
            self._check_command(parse_command_set(self._command))
            self._command.clear()

    def _check_command(self, values: dict[int, bytes]) -> None:
        numbers = {}
        for number in (_COMMAND_FIELD, _DATA_SET_TYPE):
            if len(values.get(number, b"")) != 2:
                raise Violation(f"command set without a usable (0000,{number:04X})")
            (numbers[number],) = struct.unpack("<H", values[number])
        command = numbers[_COMMAND_FIELD]
        if command not in _OFFERED:
            raise Violation(f"command {command:04X} is not offered")
        if command != C_CANCEL_RQ:
            if len(values.get(_MESSAGE_ID, b"")) != 2:
                raise Violation("request without a Message ID")
            self._outstanding += 1
            if self._outstanding > _OUTSTANDING:
                raise Violation("requests are sent without waiting for answers")
        self._awaits_data_set = numbers[_DATA_SET_TYPE] != _NO_DATA_SET
        self._data_set_bytes = 0

    def _data_fragment(self, length: int, context_id: int, *, last: bool) -> None:
        if not self._awaits_data_set:
            raise Violation("data set without a command")
        if context_id != self._context_id:
            raise Violation("fragments of one message in two contexts")
        self._data_set_bytes += length
        if self._data_set_bytes > self._maximum_data_set_bytes:
            raise Violation("data set longer than node.maximum_instance_bytes")
        if last:
            self._awaits_data_set = False
