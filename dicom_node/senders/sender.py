"""The contract of a sender, and what a destination's answer means for the next try."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

__all__ = [
    "BREAKS_BEFORE_GIVING_UP",
    "Answer",
    "Outcome",
    "OutgoingReport",
    "Sender",
    "answer_for_status",
]

# A connection that broke is made again for the next report of a round, in case it was
# that report's fault; but a sick destination does not cost its time limit for each.
BREAKS_BEFORE_GIVING_UP = 2


class Outcome(StrEnum):
    """What became of one report at its destination."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """Sending the same again will most likely bring the same answer."""
    UNAVAILABLE = "unavailable"
    """No answer, or one that says `later`."""


@dataclass(frozen=True)
class Answer:
    """What a destination said."""

    outcome: Outcome
    words: str
    """For the operator: the status with its meaning, and the peer's own words."""


@dataclass(frozen=True)
class OutgoingReport:
    """A stored report, sent byte for byte."""

    path: Path
    """A Part 10 file."""
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class Sender(Protocol):
    """Sends reports to one destination."""

    def send(self, reports: Sequence[OutgoingReport]) -> Iterator[Answer]:
        """Send reports one after another.

        Parameters
        ----------
        reports
            What to send. The next one is sent when the next answer is asked for, so
            that an answer can be kept before anything else happens.

        Returns
        -------
        One answer a report, in their order. Trouble with the destination is an answer
        and not an error.
        """
        ...

    def rest(self) -> None:
        """Hear that there is nothing to send; close what was kept open too long."""
        ...

    def close(self) -> None:
        """Close what was kept open between rounds."""
        ...


# PS3.4 Table B.2-1 and GG.4-1, PS3.7 Annex C; the first entry that matches counts.
_STATUSES: tuple[tuple[int, int, Outcome, str], ...] = (
    (0x0000, 0x0000, Outcome.ACCEPTED, "success"),
    (0x0001, 0x0001, Outcome.ACCEPTED, "warning"),
    (0x0107, 0x0107, Outcome.ACCEPTED, "warning: attribute list error"),
    (0x0116, 0x0116, Outcome.ACCEPTED, "warning: attribute value out of range"),
    # An answer that was lost is asked for again, and the object is there: derived UIDs
    # make sure that it is the same one.
    (0x0111, 0x0111, Outcome.ACCEPTED, "warning: it already has this object"),
    (0x0110, 0x0110, Outcome.UNAVAILABLE, "processing failure"),
    (0x0117, 0x0117, Outcome.REFUSED, "invalid SOP instance"),
    (0x0122, 0x0122, Outcome.REFUSED, "SOP class not supported"),
    (0x0124, 0x0124, Outcome.REFUSED, "not authorised"),
    (0x0213, 0x0213, Outcome.UNAVAILABLE, "resource limitation"),
    (0xA700, 0xA7FF, Outcome.UNAVAILABLE, "out of resources"),
    (0xA800, 0xA8FF, Outcome.REFUSED, "SOP class not supported"),
    (0xA900, 0xA9FF, Outcome.REFUSED, "data set does not match SOP class"),
    (0xB000, 0xB000, Outcome.ACCEPTED, "warning: elements coerced"),
    (0xB006, 0xB006, Outcome.ACCEPTED, "warning: elements discarded"),
    (0xB007, 0xB007, Outcome.ACCEPTED, "warning: data set does not match SOP class"),
    (0xB000, 0xBFFF, Outcome.ACCEPTED, "warning"),
    (0xC000, 0xCFFF, Outcome.REFUSED, "cannot understand"),
    (0xFE00, 0xFE00, Outcome.UNAVAILABLE, "cancelled"),
)


def answer_for_status(status: int, peer_words: str = "") -> Answer:
    """Translate a storage status, of C-STORE or of a STOW-RS failure reason.

    Parameters
    ----------
    status
        Status (0000,0900) or Failure Reason (0008,1197).
    peer_words
        Error Comment (0000,0902) or the like.

    Source
    ------
    PS3.4 B.2.3 and PS3.7 Annex C; PS3.18 10.5.3 names the same codes.
    """
    outcome, meaning = next(
        (
            (outcome, meaning)
            for low, high, outcome, meaning in _STATUSES
            if low <= status <= high
        ),
        (Outcome.REFUSED, "failure"),
    )
    words = f"{status:04X} {meaning}"
    # A peer's text goes to a terminal or a page: no control characters, and not long.
    shown = "".join(c if c.isprintable() else " " for c in peer_words).strip()[:200]
    return Answer(outcome, f"{words}: {shown}" if shown else words)
