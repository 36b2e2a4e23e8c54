"""Information models, and the statuses of their services."""

from dataclasses import dataclass
from enum import StrEnum

from dicom_node.contexts import QUERY_RETRIEVE_CLASSES
from dicom_node.data_transfer.command_set import Command

__all__ = ["MODELS", "Model", "Root", "Status"]


class Root(StrEnum):
    """Which level a model begins at, PS3.4 C.6."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"


@dataclass(frozen=True)
class Model:
    """One SOP class of the service."""

    root: Root
    command: Command


_COMMANDS = (Command.C_FIND_RQ, Command.C_MOVE_RQ, Command.C_GET_RQ)
MODELS = dict(
    zip(
        QUERY_RETRIEVE_CLASSES,
        (Model(root, command) for root in Root for command in _COMMANDS),
        strict=True,
    )
)


class Status:
    """Statuses of C-FIND, C-GET and C-MOVE.

    Source
    ------
    PS3.4 C.4.1.1.4, C.4.2.1.5, C.4.3.1.4; PS3.7 C.5.
    """

    SUCCESS = 0x0000
    PENDING = 0xFF00
    PENDING_KEYS_NOT_SUPPORTED = 0xFF01
    CANCEL = 0xFE00
    SOME_FAILED = 0xB000
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    OUT_OF_RESOURCES = 0xA700
    TOO_MANY_MATCHES = 0xA701
    ALL_FAILED = 0xA702
    UNKNOWN_DESTINATION = 0xA801
    WRONG_IDENTIFIER = 0xA900
    UNABLE_TO_PROCESS = 0xC000
