"""What a report is told beside the reading: whose it is, when, by which device.

The UIDs of a report are a function of this, so that any retry writes the same object.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from core.errors import InvalidReport
from core.uids import derived_uid, is_valid_uid

__all__ = [
    "COMPREHENSIVE_3D_SR",
    "COMPREHENSIVE_SR",
    "ENHANCED_SR",
    "KEY_OBJECT_SELECTION",
    "STATUS_IDENTIFIER",
    "DeviceIdentity",
    "PredecessorReport",
    "ReportContext",
]

ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"

STATUS_IDENTIFIER = "analysis-status"
"""Tracking identifier of the group that says why there is no answer."""


@dataclass(frozen=True, kw_only=True)
class DeviceIdentity:
    """The installation as observer of its reports (TID 1004).

    All texts end in attributes of 64 characters at most; longer ones are cut there.
    """

    observer_uid: str
    """Stable for one installation."""
    name: str
    model_name: str
    serial_number: str
    software_versions: tuple[str, ...]
    manufacturer: str = "secondread"


@dataclass(frozen=True, kw_only=True)
class PredecessorReport:
    """The report that this one replaces, because instances came late."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """Identity, time and author of one report.

    Raises
    ------
    InvalidReport
        If the key is incomplete, the time has no zone, the SOP class is no enhanced
        structured report, or the device's UID is none.
    """

    report_key: tuple[str, str, str]
    """Study Instance UID, hash of the model package, hash of the content set."""
    device: DeviceIdentity
    created_at: datetime
    """With its time zone; nothing here reads a clock."""
    series_number: int
    document_kind: Literal["reading", "failure", "assessment", "withdrawal"] = "reading"
    """A failure is its own object: a later success must not carry its UID."""
    assessment_number: int = 0
    """From 1 for a reader's documents, so that each decision is an object of its own;
    0 for a machine's."""
    predecessor: PredecessorReport | None = None
    sop_class_uid: str = COMPREHENSIVE_3D_SR
    """The other two hold the same content, for archives that refuse this class."""

    def __post_init__(self) -> None:
        if len(self.report_key) != 3 or not all(self.report_key):
            raise InvalidReport(
                "a report's key has three parts, none of them empty: Study Instance "
                "UID, hash of the model package, hash of the content set"
            )
        if self.created_at.utcoffset() is None:
            raise InvalidReport(
                "a report's time of creation has no time zone; pass an aware datetime"
            )
        by_reader = self.document_kind in ("assessment", "withdrawal")
        if by_reader != (self.assessment_number > 0):
            raise InvalidReport(
                f"a document of kind {self.document_kind!r} has assessment number "
                f"{self.assessment_number}; a reader's have one from 1, others none"
            )
        classes: tuple[str, ...] = (
            ENHANCED_SR,
            COMPREHENSIVE_SR,
            COMPREHENSIVE_3D_SR,
        )
        if self.document_kind == "withdrawal":
            classes = (KEY_OBJECT_SELECTION,)
        if self.sop_class_uid not in classes:
            raise InvalidReport(
                f"SOP Class UID {self.sop_class_uid} cannot hold a report; "
                f"expected one of {', '.join(classes)}"
            )
        if not is_valid_uid(self.device.observer_uid):
            raise InvalidReport(
                f"device observer UID {self.device.observer_uid!r} is no UID (PS3.5 "
                "9.1); expected one that stays the same for this installation"
            )

    @property
    def study_instance_uid(self) -> str:
        """The study that the report belongs to."""
        return self.report_key[0]

    @property
    def sop_instance_uid(self) -> str:
        """Derived from kind, SOP class and key."""
        return derived_uid("report", *self._identity)

    @property
    def series_instance_uid(self) -> str:
        """Derived from kind, SOP class and key: viewers show one report of a series."""
        return derived_uid("report series", *self._identity)

    @property
    def _identity(self) -> tuple[str, ...]:
        number = (str(self.assessment_number),) if self.assessment_number else ()
        return (self.document_kind, *number, self.sop_class_uid, *self.report_key)

    def tracking_uid(self, tracking_identifier: str) -> str:
        """Derive the UID under which a finding is followed from report to report.

        It leaves the content set out: the answer to the same question on the completed
        study is the same tracked finding.
        """
        study, model, _ = self.report_key
        return derived_uid("tracking", study, model, tracking_identifier)

    def region_tracking_uid(self, tracking_identifier: str) -> str:
        """Derive the UID of one outline, which is bound to its content set."""
        return derived_uid("region tracking", *self.report_key, tracking_identifier)
