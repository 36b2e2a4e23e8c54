"""The header of a report: everything outside its content tree.

Source
------
PS3.3 C.17.1 (SR Document Series), C.17.2 (SR Document General), C.7.5.1 and C.7.5.2
(General and Enhanced General Equipment), C.12.1 (SOP Common).
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

from pydicom import Dataset
from pydicom.sr.coding import Code

from core.domain import Analysed, Failed, Reading
from worker.report import codes
from worker.report.context import ReportContext
from worker.report.sources import (
    copy_patient_and_study,
    referenced_requests,
    references_by_study,
    text_of,
)

__all__ = [
    "completion_flag",
    "completion_flag_description",
    "long_string",
    "write_header",
]

LONG_STRING = 64  # PS3.5 Table 6.2-1: characters of a value of LO


def write_header(
    report: Dataset,
    reading: Reading,
    sources: Sequence[Dataset],
    context: ReportContext,
) -> None:
    """Add to a content tree all that makes it a document of its patient and study.

    Parameters
    ----------
    report
        The root content item; it is completed in place.
    reading, sources, context
        As for `worker.report.sr.build_report`.
    """
    report.SpecificCharacterSet = "ISO_IR 192"
    copy_patient_and_study(sources[0], report)
    report.StudyInstanceUID = context.study_instance_uid
    report.SOPClassUID = context.sop_class_uid
    report.SOPInstanceUID = context.sop_instance_uid
    report.InstanceNumber = 1
    _series(report, reading, context)
    _equipment(report, reading, sources[0], context)
    _times(report, sources[0], context.created_at)
    _document(report, reading, context)
    _references(report, sources, context)


def completion_flag(reading: Reading) -> str:
    """Say whether the report holds the whole answer (0040,A491)."""
    return "COMPLETE" if isinstance(reading, Analysed) else "PARTIAL"


def completion_flag_description(reading: Reading) -> str | None:
    """Say why a report is partial (0040,A492); None for a complete one."""
    match reading:
        case Analysed():
            return None
        case Failed():
            return long_string(f"Analysis failed: {reading.reason}")
        case _:
            return long_string(f"Not analysed: {reading.reason}")


def _series(report: Dataset, reading: Reading, context: ReportContext) -> None:
    report.Modality = "SR"
    report.SeriesInstanceUID = context.series_instance_uid
    report.SeriesNumber = context.series_number
    report.SeriesDescription = long_string(
        f"AI result, unverified: {reading.algorithm.name}"
    )
    report.ReferencedPerformedProcedureStepSequence = []


def _equipment(
    report: Dataset, reading: Reading, source: Dataset, context: ReportContext
) -> None:
    device = context.device
    report.Manufacturer = long_string(device.manufacturer)
    report.ManufacturerModelName = long_string(device.model_name)
    report.DeviceSerialNumber = long_string(device.serial_number)
    report.SoftwareVersions = [long_string(v) for v in device.software_versions]
    contributors = []
    if text_of(source, "Manufacturer"):
        scanner = _contributor(codes.ACQUISITION_EQUIPMENT)
        for keyword in (
            "Manufacturer",
            "ManufacturerModelName",
            "DeviceSerialNumber",
            "StationName",
        ):
            text = text_of(source, keyword)
            if text:
                setattr(scanner, keyword, long_string(text))
        contributors.append(scanner)
    algorithm = reading.algorithm
    model = _contributor(codes.PROCESSING_EQUIPMENT)
    model.Manufacturer = long_string(algorithm.manufacturer)
    model.ManufacturerModelName = long_string(algorithm.name)
    model.SoftwareVersions = long_string(algorithm.version)
    report.ContributingEquipmentSequence = [*contributors, model]


def _contributor(purpose: Code) -> Dataset:
    code = Dataset()
    code.CodeValue = purpose.value
    code.CodingSchemeDesignator = purpose.scheme_designator
    code.CodeMeaning = purpose.meaning
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code]
    return item


def _times(report: Dataset, source: Dataset, created_at: datetime) -> None:
    """Date the report in its source's time zone, or in UTC where that tells none.

    One offset rules all dates and times of an object, Study Date and Time included,
    which are repeated as the source wrote them (PS3.3 C.12.1.1.8).
    """
    zone = _zone(text_of(source, "TimezoneOffsetFromUTC"))
    local = created_at.astimezone(zone)
    date, time = local.strftime("%Y%m%d"), local.strftime("%H%M%S.%f")
    report.TimezoneOffsetFromUTC = local.strftime("%z")
    for what in ("InstanceCreation", "Content", "Series"):
        setattr(report, f"{what}Date", date)
        setattr(report, f"{what}Time", time)


def _zone(offset: str) -> timezone:
    match = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", offset)
    if match is None:
        return UTC
    sign, hours, minutes = match.groups()
    distance = timedelta(hours=int(hours), minutes=int(minutes))
    # PS3.3 C.12.1.1.8: from -1200 to +1400.
    if distance > timedelta(hours=14 if sign == "+" else 12):
        return UTC
    return timezone(distance if sign == "+" else -distance)


def _document(report: Dataset, reading: Reading, context: ReportContext) -> None:
    """Set the flags: only a named person ever makes a document VERIFIED or FINAL."""
    report.CompletionFlag = completion_flag(reading)
    description = completion_flag_description(reading)
    if description is not None:
        report.CompletionFlagDescription = description
    report.VerificationFlag = "UNVERIFIED"
    report.PreliminaryFlag = "PRELIMINARY"
    report.PerformedProcedureCodeSequence = []
    predecessor = context.predecessor
    if predecessor is not None:
        report.PredecessorDocumentsSequence = references_by_study(
            [
                (
                    predecessor.study_instance_uid,
                    predecessor.series_instance_uid,
                    predecessor.sop_instance_uid,
                    predecessor.sop_class_uid,
                )
            ]
        )


def _references(
    report: Dataset, sources: Sequence[Dataset], context: ReportContext
) -> None:
    report.CurrentRequestedProcedureEvidenceSequence = references_by_study(
        [
            (
                context.study_instance_uid,
                str(source.SeriesInstanceUID),
                str(source.SOPInstanceUID),
                str(source.SOPClassUID),
            )
            for source in sources
        ]
    )
    requests = referenced_requests(sources)
    if requests:
        report.ReferencedRequestSequence = requests


def long_string(text: str) -> str:
    """Fit a text into a value of LO."""
    # A backslash would separate values.
    return text.replace("\\", "/").strip()[:LONG_STRING].strip()
