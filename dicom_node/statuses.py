"""Which error is which DIMSE status: the one table."""

from dataclasses import dataclass
from enum import StrEnum

from core.errors import (
    ConflictingInstance,
    InvalidInstance,
    InvalidUid,
    MismatchedInstance,
    SecondreadError,
    SenderError,
    StoreFull,
    StoreUnavailable,
)

__all__ = [
    "LONGEST_ERROR_COMMENT",
    "PROCESSING_FAILURE",
    "SUCCESS",
    "StorageAnswer",
    "StorageOutcome",
    "answer_for",
]

SUCCESS = 0x0000
# PS3.7 C.5.6: what went wrong is our bug and nothing else fits.
PROCESSING_FAILURE = 0x0110
LONGEST_ERROR_COMMENT = 64  # LO, PS3.7 C.5

# First match counts. PS3.4 Table B.2-1 (A700, A900, Cxxx), PS3.7 C.5.6 (0117). C111 has
# the low byte of 0111 (duplicate SOP instance), which C-STORE does not know.
_STATUSES: tuple[tuple[type[SecondreadError], int], ...] = (
    (InvalidUid, 0x0117),
    (MismatchedInstance, 0xA900),
    (InvalidInstance, 0xC000),
    (ConflictingInstance, 0xC111),
    (StoreFull, 0xA700),
    (StoreUnavailable, 0xA700),
)
# What an operator must know is in our log and nothing for a peer.
_OPERATOR_COMMENT = "out of resources, try again later"
_BUG_COMMENT = "processing failure at the receiver"


class StorageOutcome(StrEnum):
    """What became of an instance."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


@dataclass(frozen=True)
class StorageAnswer:
    """What a C-STORE-RSP says."""

    status: int
    """Status (0000,0900)."""
    error_comment: str
    """Error Comment (0000,0902), empty for success; never with patient data in it."""
    outcome: StorageOutcome


def answer_for(error: Exception) -> StorageAnswer:
    """Return the answer to a request that ended with `error`.

    Source
    ------
    PS3.4 B.2.3 and Table B.2-1; PS3.7 C.5.
    """
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            comment = (
                str(error) if isinstance(error, SenderError) else _OPERATOR_COMMENT
            )
            return StorageAnswer(
                status, comment[:LONGEST_ERROR_COMMENT], StorageOutcome.REFUSED
            )
    return StorageAnswer(PROCESSING_FAILURE, _BUG_COMMENT, StorageOutcome.REFUSED)
