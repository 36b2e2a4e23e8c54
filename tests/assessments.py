"""Assessments of the readings in `tests.reports`, and their documents."""

from core.assessment import Assessment, Decision, FindingChange, Reader, assess
from core.domain import Analysed, Presence
from core.settings import ReviewSettings
from tests.reports import LUNG, STUDY, context
from worker.report.context import (
    COMPREHENSIVE_3D_SR,
    KEY_OBJECT_SELECTION,
    PredecessorReport,
    ReportContext,
)
from worker.report.vocabulary import Vocabulary

READER = Reader("jdoe", "Doe", "Jane", "Department of Radiology")
AI_REPORT = PredecessorReport(
    sop_class_uid=COMPREHENSIVE_3D_SR,
    sop_instance_uid="2.25.1001",
    series_instance_uid="2.25.1002",
    study_instance_uid=STUDY,
)
VOCABULARY = Vocabulary.of(ReviewSettings())


def accepted(reading: Analysed, comment: str = "") -> Assessment:
    """Accept all that the model said."""
    return assess(reading, Decision.ACCEPTED, READER, comment=comment)


def amended(reading: Analysed, presence: Presence = Presence.ABSENT) -> Assessment:
    """Answer the first finding otherwise."""
    change = FindingChange(presence, LUNG, None, "Old scar, unchanged.")
    name = reading.findings[0].tracking_identifier
    return assess(reading, Decision.AMENDED, READER, changes={name: change})


def rejected(reading: Analysed) -> Assessment:
    """Reject for a reason in words."""
    return assess(reading, Decision.REJECTED, READER, comment="Hand over the lung.")


def withdrawn(reading: Analysed) -> Assessment:
    """Withdraw for a reason in words."""
    return assess(reading, Decision.WITHDRAWN, READER, comment="Another patient.")


def assessment_context(number: int = 1, **changes: object) -> ReportContext:
    """Make the context of a decision's document."""
    return context(
        document_kind="assessment",
        assessment_number=number,
        predecessor=AI_REPORT,
        **changes,
    )


def withdrawal_context(number: int = 1) -> ReportContext:
    """Make the context of a rejection note."""
    return context(
        document_kind="withdrawal",
        assessment_number=number,
        sop_class_uid=KEY_OBJECT_SELECTION,
    )
