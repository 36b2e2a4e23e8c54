"""The codes by which a decision is stated; each site may have its own.

No published code says that an AI result was accepted or rejected, so the default ones
are private, and a document that uses a private scheme says whose it is.

Source
------
PS3.3 Table C.12-1 (Coding Scheme Identification Sequence); PS3.16 8.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom import Dataset

from core.assessment import Decision
from core.domain import Code
from core.settings import ReviewSettings, code_of

__all__ = ["Vocabulary", "scheme_identification"]

PRIVATE_PREFIX = "99"
"""PS3.16 8.2: designators that begin so are nobody's but the site's."""


@dataclass(frozen=True)
class Vocabulary:
    """How a decision and its reason are called."""

    concept: Code
    decisions: Mapping[Decision, Code]
    reason_concept: Code

    @classmethod
    def of(cls, settings: ReviewSettings) -> "Vocabulary":
        """Take the vocabulary that the settings name."""
        return cls(
            concept=code_of(settings.decision_concept),
            decisions={
                Decision.ACCEPTED: code_of(settings.accepted),
                Decision.AMENDED: code_of(settings.amended),
                Decision.REJECTED: code_of(settings.rejected),
            },
            reason_concept=code_of(settings.reason_concept),
        )


def scheme_identification(document: Dataset) -> list[Dataset]:
    """Describe the private coding schemes that a document uses.

    Returns
    -------
    Items of Coding Scheme Identification Sequence (0008,0110); none without need.
    """
    used = {
        str(element.value)
        for element in document.iterall()
        if element.keyword == "CodingSchemeDesignator"
    }
    items = []
    for designator in sorted(used):
        if designator.startswith(PRIVATE_PREFIX):
            item = Dataset()
            item.CodingSchemeDesignator = designator
            item.CodingSchemeName = f"{designator}: private codes of this installation"
            item.CodingSchemeResponsibleOrganization = "secondread"
            items.append(item)
    return items
