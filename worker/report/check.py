"""The read-back: no report leaves that does not say what its reading says.

It reads the bytes with nothing but a DICOM parser and compares them with the reading,
independently of the code that wrote them. The validators used in tests know the
standard; this knows the reading.

Source
------
PS3.16 TID 1500, TID 1501, TID 1410; PS3.3 C.17.2, C.17.3; PS3.10 7.1.
"""

import math
import struct
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO

from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.errors import InvalidDicomError
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from core.domain import Analysed, Failed, Finding, ImageReference, Presence, Reading
from core.errors import InvalidReport
from core.uids import IMPLEMENTATION_CLASS_UID
from worker.report import codes
from worker.report.context import STATUS_IDENTIFIER, ReportContext

__all__ = ["check_report"]

# What pydicom raises at bytes that it cannot make sense of.
_UNREADABLE = (
    InvalidDicomError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
)

# DS keeps 16 characters, FD 53 bits; a wrong probability differs by far more.
TOLERANCE = 1e-9
# Percentages are rounded to two decimals for people.
ROUNDING = 0.005 + 1e-9


def check_report(data: bytes, reading: Reading, context: ReportContext) -> None:
    """Read a report back and compare it with what it should say.

    Parameters
    ----------
    data
        The complete DICOM file.
    reading, context
        As they were given to `worker.report.sr.build_report`.

    Raises
    ------
    InvalidReport
        At the first difference; the message names the report and what was expected.
    """
    try:
        with config.disable_value_validation():
            dataset = _parsed(data)
            _check_identity(dataset, reading, context)
            _check_flags(dataset, reading)
            _check_tree(dataset)
            _check_references(dataset, reading)
            _check_content(dataset, reading, context)
    except InvalidReport as error:
        raise InvalidReport(
            f"report {context.sop_instance_uid} of study "
            f"{context.study_instance_uid} failed its read-back: {error}"
        ) from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # A parsed file that lacks what every report has; which one is in the cause.
        raise InvalidReport(
            f"report {context.sop_instance_uid} of study "
            f"{context.study_instance_uid} failed its read-back: it could not be "
            f"read as a report ({type(error).__name__})"
        ) from error


def _require(condition: bool, expectation: str) -> None:
    if not condition:
        raise InvalidReport(expectation)


def _parsed(data: bytes) -> Dataset:
    """Parse to the last byte.

    pydicom reads a truncated file without complaint, so what was understood is
    written again and must be the same bytes.
    """
    _require(data[:128] == bytes(128), "expected a preamble of 128 zeros")
    again = BytesIO()
    try:
        dataset = dcmread(BytesIO(data))
        for _ in dataset.iterall():
            pass  # parses sequences, which are otherwise carried as bytes
        dcmwrite(again, dataset, enforce_file_format=True)
    except _UNREADABLE as error:
        raise InvalidReport("expected a file of PS3.10 that can be parsed") from error
    _require(
        again.getvalue() == data,
        f"expected a file that parses to its end, {len(data)} bytes; "
        f"{len(again.getvalue())} bytes were understood",
    )
    return dataset


def _check_identity(dataset: Dataset, reading: Reading, context: ReportContext) -> None:
    meta = dataset.file_meta
    expected = (
        (meta.TransferSyntaxUID, ExplicitVRLittleEndian, "transfer syntax"),
        (meta.ImplementationClassUID, IMPLEMENTATION_CLASS_UID, "implementation"),
        (meta.MediaStorageSOPInstanceUID, context.sop_instance_uid, "SOP instance"),
        (meta.MediaStorageSOPClassUID, context.sop_class_uid, "SOP class"),
        (dataset.SOPInstanceUID, context.sop_instance_uid, "SOP instance"),
        (dataset.SOPClassUID, context.sop_class_uid, "SOP class"),
        (dataset.SeriesInstanceUID, context.series_instance_uid, "series"),
        (dataset.StudyInstanceUID, context.study_instance_uid, "study"),
        (dataset.Modality, "SR", "modality"),
        (dataset.SpecificCharacterSet, "ISO_IR 192", "character set"),
    )
    for found, wanted, what in expected:
        _require(found == wanted, f"{what}: expected {wanted}, found {found}")
    stamp = dataset.ContentDate + dataset.ContentTime + dataset.TimezoneOffsetFromUTC
    created_at = datetime.strptime(stamp, "%Y%m%d%H%M%S.%f%z")
    _require(
        created_at == context.created_at,
        f"content date and time: expected {context.created_at}, found {created_at}",
    )
    _require(
        (context.document_kind == "failure") == isinstance(reading, Failed),
        f"a {reading.outcome} reading is no {context.document_kind!r} document",
    )
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        _require(keyword in dataset, f"expected {keyword}, at least empty")


def _check_flags(dataset: Dataset, reading: Reading) -> None:
    """Hold the document to what a machine may say of it (PS3.3 C.17.2)."""
    complete = isinstance(reading, Analysed)
    flag = "COMPLETE" if complete else "PARTIAL"
    _require(dataset.CompletionFlag == flag, f"Completion Flag: expected {flag}")
    _require(
        bool(dataset.get("CompletionFlagDescription")) != complete,
        "a partial report says why in Completion Flag Description, a complete one not",
    )
    _require(
        dataset.VerificationFlag == "UNVERIFIED"
        and "VerifyingObserverSequence" not in dataset,
        "Verification Flag: expected UNVERIFIED; only a person verifies",
    )
    _require(
        dataset.PreliminaryFlag == "PRELIMINARY",
        "Preliminary Flag: expected PRELIMINARY",
    )


def _check_tree(dataset: Dataset) -> None:
    template = dataset.ContentTemplateSequence[0]
    _require(
        (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500"),
        "expected the template DCMR 1500",
    )
    _require(
        _is_named(dataset, codes.REPORT_TITLE),
        "expected the root concept (126000, DCM, Imaging Measurement Report)",
    )
    for item in _walk(dataset):
        if item.get("ValueType") == "CONTAINER":
            _require(
                item.get("ContinuityOfContent") == "SEPARATE",
                "expected SEPARATE containers",
            )
        for measured in item.get("MeasuredValueSequence") or ():
            _require(
                math.isfinite(measured.NumericValue)
                and math.isfinite(measured.get("FloatingPointValue", 0.0)),
                "expected finite numbers",
            )


def _check_references(dataset: Dataset, reading: Reading) -> None:
    """See that the evidence holds every object that the tree points at."""
    evidence = {
        (str(reference.ReferencedSOPClassUID), str(reference.ReferencedSOPInstanceUID))
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    for item in _walk(dataset):
        for reference in item.get("ReferencedSOPSequence") or ():
            uid = reference.ReferencedSOPInstanceUID
            _require(
                (str(reference.ReferencedSOPClassUID), str(uid)) in evidence,
                f"image {uid} is referenced but not in the evidence",
            )
    for image in reading.images:
        _require(
            (image.sop_class_uid, image.sop_instance_uid) in evidence,
            f"image {image.sop_instance_uid} was looked at but is not in the evidence",
        )
    library = _child(dataset, codes.IMAGE_LIBRARY)
    listed = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in _walk(library)
        if item.get("ValueType") == "IMAGE"
    }
    # What was refused may be no image at all; what was analysed is one.
    for image in reading.images if isinstance(reading, Analysed) else ():
        _require(
            image.sop_instance_uid in listed,
            f"image {image.sop_instance_uid} was analysed but is not in the library",
        )


def _check_content(dataset: Dataset, reading: Reading, context: ReportContext) -> None:
    measurements = _child(dataset, codes.IMAGING_MEASUREMENTS)
    groups: dict[str, Dataset] = {}
    for group in _children(measurements, codes.MEASUREMENT_GROUP):
        identifier = _child(group, codes.TRACKING_IDENTIFIER).TextValue
        _require(identifier not in groups, f"two groups are named {identifier!r}")
        groups[identifier] = group
        _check_algorithm(group, reading)
    if isinstance(reading, Analysed):
        expected = _check_findings(groups, reading, context)
        sentences = reading.notes
    else:
        _check_status(groups[STATUS_IDENTIFIER], reading, context)
        expected = {STATUS_IDENTIFIER}
        sentences = (reading.explanation,)
    _require(set(groups) == expected, f"expected the groups {sorted(expected)}")
    _check_sentences(dataset, sentences)


def _check_algorithm(group: Dataset, reading: Reading) -> None:
    algorithm = reading.algorithm
    stated = [item.TextValue for item in _children(group, codes.ALGORITHM_PARAMETERS)]
    _require(
        _child(group, codes.ALGORITHM_NAME).TextValue == algorithm.name
        and _child(group, codes.ALGORITHM_VERSION).TextValue == algorithm.version
        and f"weights sha256={algorithm.weights_sha256}" in stated,
        f"expected algorithm {algorithm.name} {algorithm.version} and its weights",
    )


def _check_findings(
    groups: dict[str, Dataset], reading: Analysed, context: ReportContext
) -> set[str]:
    _require(bool(reading.findings), "an analysed reading has at least one finding")
    expected = set()
    for finding in reading.findings:
        identifier = finding.tracking_identifier
        _require(identifier in groups, f"finding {identifier!r} is missing")
        expected.add(identifier)
        group = groups[identifier]
        _require(
            _tracking_uid(group) == context.tracking_uid(identifier),
            f"finding {identifier!r}: another tracking UID than derived",
        )
        _check_finding(group, finding)
        for number, region in enumerate(finding.regions, start=1):
            name = f"{identifier}-{number}"
            _require(name in groups, f"region {name!r} is missing")
            expected.add(name)
            outline = _child(groups[name], codes.IMAGE_REGION)
            _require(
                _tracking_uid(groups[name]) == context.region_tracking_uid(name),
                f"region {name!r}: another tracking UID than derived",
            )
            _check_outline(outline, region.image, region.points, name)
    return expected


def _check_finding(group: Dataset, finding: Finding) -> None:
    name = finding.tracking_identifier
    code = codes.concept(finding.code)
    _require(
        _is_coded(_child(group, codes.FINDING), code), f"{name}: expected {code.value}"
    )
    _require(
        _is_coded(_child(group, code), codes.PRESENCE[finding.presence]),
        f"{name}: expected {finding.presence}",
    )
    shown = _check_percent(group, codes.PROBABILITY, finding.probability, name)
    limit = _check_percent(group, codes.THRESHOLD_VALUE, finding.threshold, name)
    if finding.presence is not Presence.UNDETERMINED:
        present = finding.presence is Presence.PRESENT
        undecidable = abs(finding.probability - finding.threshold) < TOLERANCE
        _require(
            (finding.probability >= finding.threshold) == present
            and ((shown >= limit) == present or undecidable),
            f"{name}: {finding.presence} contradicts its probability and threshold",
        )
    if finding.site is not None:
        site = _child(group, codes.FINDING_SITE)
        _require(_is_coded(site, codes.concept(finding.site)), f"{name}: another site")
        if finding.laterality is not None:
            side = _child(site, codes.SITE_LATERALITY)
            _require(
                _is_coded(side, codes.LATERALITY[finding.laterality]),
                f"{name}: another side",
            )
    sources = [_reference(i) for i in _children(group, codes.SOURCE_OF_MEASUREMENT)]
    _require(
        sources == [_triple(image) for image in finding.images],
        f"{name}: other source images than analysed",
    )


def _check_percent(group: Dataset, concept: Code, value: float, name: str) -> float:
    """Compare a number with the reading's; give what people see, in percent."""
    item = _child(group, concept)
    measured = item.MeasuredValueSequence[0]
    unit = measured.MeasurementUnitsCodeSequence[0]
    _require(unit.CodeValue == "%", f"{name}: expected percent")
    shown = float(measured.NumericValue)
    _require(
        abs(measured.FloatingPointValue / 100 - value) <= TOLERANCE
        and abs(shown - 100 * value) <= ROUNDING,
        f"{name}: {concept.meaning} {shown} % is not the reading's {value}",
    )
    return shown


def _check_outline(
    item: Dataset,
    image: ImageReference,
    points: tuple[tuple[float, float], ...],
    name: str,
) -> None:
    numbers = [number for point in (*points, points[0]) for number in point]
    found = list(item.GraphicData)
    # Graphic Data is FL: 24 bits of mantissa.
    same = len(found) == len(numbers) and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)
        for a, b in zip(found, numbers, strict=True)
    )
    _require(item.GraphicType == "POLYLINE" and same, f"{name}: another outline")
    _require(
        _reference(item.ContentSequence[0]) == _triple(image), f"{name}: another image"
    )


def _check_status(group: Dataset, reading: Reading, context: ReportContext) -> None:
    failed = isinstance(reading, Failed)
    wanted = codes.ANALYSIS_FAILED if failed else codes.ANALYSIS_NOT_ATTEMPTED
    _require(
        _is_coded(_child(group, codes.ANALYSIS_PERFORMED), wanted),
        f"Analysis Performed: expected {wanted.meaning}",
    )
    _require(
        _tracking_uid(group) == context.tracking_uid(STATUS_IDENTIFIER),
        "the status has another tracking UID than derived",
    )
    _require(
        all(item.get("ValueType") != "NUM" for item in group.ContentSequence),
        "a study without an answer must not show a number",
    )


def _check_sentences(dataset: Dataset, sentences: tuple[str, ...]) -> None:
    stated = {
        item.TextValue
        for container in _children(dataset, codes.QUALITATIVE_EVALUATIONS)
        for item in _children(container, codes.COMMENT)
    }
    missing = [s for s in sentences if s and s.rstrip() not in stated]
    _require(not missing, f"{len(missing)} sentences for the reader are missing")


def _walk(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence") or ():
        yield from _walk(child)


def _is_named(item: Dataset, concept: Code) -> bool:
    names = item.get("ConceptNameCodeSequence")
    return bool(names) and _is_code(names[0], concept)


def _is_coded(item: Dataset, concept: Code) -> bool:
    return _is_code(item.ConceptCodeSequence[0], concept)


def _is_code(item: Dataset, concept: Code) -> bool:
    value = item.get("CodeValue") or item.get("LongCodeValue")
    scheme = item.get("CodingSchemeDesignator")
    return (value, scheme) == (concept.value, concept.scheme_designator)


def _children(item: Dataset, concept: Code) -> list[Dataset]:
    return [c for c in item.get("ContentSequence") or () if _is_named(c, concept)]


def _child(item: Dataset, concept: Code) -> Dataset:
    found = _children(item, concept)
    _require(len(found) == 1, f"expected one {concept.meaning}, found {len(found)}")
    return found[0]


def _tracking_uid(group: Dataset) -> str:
    return str(_child(group, codes.TRACKING_UNIQUE_IDENTIFIER).UID)


def _reference(item: Dataset) -> tuple[str, str, int | None]:
    reference = item.ReferencedSOPSequence[0]
    frame = reference.get("ReferencedFrameNumber")
    return (
        str(reference.ReferencedSOPClassUID),
        str(reference.ReferencedSOPInstanceUID),
        None if frame is None else int(frame),
    )


def _triple(image: ImageReference) -> tuple[str, str, int | None]:
    return (image.sop_class_uid, image.sop_instance_uid, image.frame_number)
