"""The radiologist's answer to a report, as values.

A report of a model is never changed. Whoever assesses it makes an *assessment*: a
decision, by whom, why, and what the reader says of each finding instead of the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import TypeAdapter

from core.domain import Analysed, Code, Finding, Laterality, Presence
from core.errors import InvalidAssessment

__all__ = [
    "Assessment",
    "Decision",
    "FindingAssessment",
    "FindingChange",
    "Reader",
    "assess",
    "assessment_from_json",
    "assessment_to_json",
]

MAXIMUM_COMMENT = 2000
"""Characters; more is a report of one's own."""


class Decision(StrEnum):
    """What a reader says of an AI result."""

    ACCEPTED = "accepted"
    AMENDED = "amended"
    REJECTED = "rejected"
    """The result must not be used; it says nothing about the findings."""
    WITHDRAWN = "withdrawn"
    """It should never have existed (wrong patient, faulty model): archives hide it."""


@dataclass(frozen=True)
class Reader:
    """The person who answers for an assessment."""

    login: str
    family_name: str
    given_name: str
    organization: str

    @property
    def person_name(self) -> str:
        """As DICOM writes it (PS3.5 6.2, PN)."""
        return f"{self.family_name}^{self.given_name}".rstrip("^")

    @property
    def shown_name(self) -> str:
        """As people say it."""
        return f"{self.given_name} {self.family_name}".strip()


@dataclass(frozen=True)
class FindingChange:
    """What a reader puts in the place of the model's answer to one finding."""

    presence: Presence
    site: Code | None
    laterality: Laterality | None
    comment: str = ""


@dataclass(frozen=True)
class FindingAssessment:
    """What a reader says of one finding."""

    tracking_identifier: str
    decision: Decision
    presence: Presence | None
    """None where the result was rejected: then nothing is said of the finding."""
    site: Code | None = None
    laterality: Laterality | None = None
    keeps_regions: bool = False
    """Whether the model's outlines are the reader's as well."""
    comment: str = ""


@dataclass(frozen=True)
class Assessment:
    """A decision with everything that its document says."""

    decision: Decision
    reader: Reader
    findings: tuple[FindingAssessment, ...]
    reason: Code | None = None
    comment: str = ""


def assess(
    reading: Analysed,
    decision: Decision,
    reader: Reader,
    *,
    changes: Mapping[str, FindingChange] | None = None,
    reason: Code | None = None,
    comment: str = "",
) -> Assessment:
    """Make an assessment of a reading.

    Parameters
    ----------
    reading
        What the model said.
    decision, reader
        What was decided, and by whom.
    changes
        Tracking identifier to the reader's own answer; only for an amendment.
    reason, comment
        Why. One of them is needed to reject or to withdraw.

    Raises
    ------
    InvalidAssessment
        If it says nothing, contradicts itself, or names a finding that is not there.
    """
    changes = dict(changes or {})
    comment = _sentence(comment)
    known = {finding.tracking_identifier for finding in reading.findings}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InvalidAssessment(
            f"the result has no finding {', '.join(unknown)}; it has "
            f"{', '.join(sorted(known))}"
        )
    if decision is not Decision.AMENDED and changes:
        raise InvalidAssessment(f"{decision} changes no finding; amend instead")
    if decision in (Decision.REJECTED, Decision.WITHDRAWN) and not (reason or comment):
        raise InvalidAssessment(
            f"a result is {decision} for a reason; give one from the list or in words"
        )
    findings = tuple(
        _judged(finding, decision, changes.get(finding.tracking_identifier))
        for finding in reading.findings
    )
    if decision is Decision.AMENDED and not any(
        one.decision is Decision.AMENDED or one.comment for one in findings
    ):
        raise InvalidAssessment(
            "nothing was changed; accept the result, or change a finding"
        )
    return Assessment(decision, reader, findings, reason, comment)


def _judged(
    finding: Finding, decision: Decision, change: FindingChange | None
) -> FindingAssessment:
    name = finding.tracking_identifier
    if decision in (Decision.REJECTED, Decision.WITHDRAWN):
        return FindingAssessment(name, decision, presence=None)
    if change is None:
        return FindingAssessment(
            name,
            Decision.ACCEPTED,
            finding.presence,
            finding.site,
            finding.laterality,
            keeps_regions=True,
        )
    if change.laterality is not None and change.site is None:
        raise InvalidAssessment(
            f"finding {name!r} has a side and no site; a side is a side of something"
        )
    place = (change.presence, change.site, change.laterality)
    same = place == (finding.presence, finding.site, finding.laterality)
    return FindingAssessment(
        name,
        Decision.ACCEPTED if same else Decision.AMENDED,
        *place,
        # An outline drawn for another answer would be the reader's statement, too.
        keeps_regions=same,
        comment=_sentence(change.comment),
    )


def _sentence(text: str) -> str:
    kept = "".join(c if c.isprintable() else " " for c in text).strip()
    if len(kept) > MAXIMUM_COMMENT:
        raise InvalidAssessment(
            f"a comment has {len(kept)} characters; {MAXIMUM_COMMENT} is the most"
        )
    return kept


_ASSESSMENT: TypeAdapter[Assessment] = TypeAdapter(Assessment)


def assessment_to_json(assessment: Assessment) -> str:
    """Write an assessment as the JSON that its row keeps."""
    return _ASSESSMENT.dump_json(assessment).decode()


def assessment_from_json(text: str) -> Assessment:
    """Read what `assessment_to_json` wrote.

    Raises
    ------
    pydantic.ValidationError
        If `text` is no such assessment.
    """
    return _ASSESSMENT.validate_json(text)
