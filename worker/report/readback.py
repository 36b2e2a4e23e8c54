"""What every read-back shares: parsing to the last byte, and finding items in a tree.

It knows documents of TID 1500, nothing of what a particular one should say.

Source
------
PS3.16 TID 1500; PS3.3 C.17.2, C.17.3; PS3.10 7.1.
"""

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO

from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.errors import InvalidDicomError
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from core.domain import Analysed, Failed, ImageReference, Reading
from core.errors import InvalidReport
from core.uids import IMPLEMENTATION_CLASS_UID
from worker.report import codes
from worker.report.context import ReportContext

__all__ = [
    "check_identity",
    "check_outline",
    "check_references",
    "check_sentences",
    "check_tree",
    "child",
    "children",
    "is_coded",
    "parsed",
    "read_back",
    "reference",
    "require",
    "tracking_uid",
    "triple",
    "walk",
]

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


@contextmanager
def read_back(what: str, context: ReportContext) -> Iterator[None]:
    """Say of which document a difference was found; nothing is raised but that.

    Parameters
    ----------
    what
        `report` or `assessment`.
    context
        Of the document.

    Raises
    ------
    InvalidReport
        If the block finds a difference, or what every document has is missing.
    """
    name = (
        f"{what} {context.sop_instance_uid} of study {context.study_instance_uid} "
        "failed its read-back"
    )
    try:
        with config.disable_value_validation():
            yield
    except InvalidReport as error:
        raise InvalidReport(f"{name}: {error}") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # A parsed file that lacks what every report has; which one is in the cause.
        raise InvalidReport(
            f"{name}: it could not be read as a report ({type(error).__name__})"
        ) from error


def require(condition: bool, expectation: str) -> None:
    """Refuse the document unless `condition` holds."""
    if not condition:
        raise InvalidReport(expectation)


def parsed(data: bytes) -> Dataset:
    """Parse to the last byte.

    pydicom reads a truncated file without complaint, so what was understood is
    written again and must be the same bytes.
    """
    require(data[:128] == bytes(128), "expected a preamble of 128 zeros")
    again = BytesIO()
    try:
        dataset = dcmread(BytesIO(data))
        for _ in dataset.iterall():
            pass  # parses sequences, which are otherwise carried as bytes
        dcmwrite(again, dataset, enforce_file_format=True)
    except _UNREADABLE as error:
        raise InvalidReport("expected a file of PS3.10 that can be parsed") from error
    require(
        again.getvalue() == data,
        f"expected a file that parses to its end, {len(data)} bytes; "
        f"{len(again.getvalue())} bytes were understood",
    )
    return dataset


def check_identity(dataset: Dataset, reading: Reading, context: ReportContext) -> None:
    """Compare what names the object with its context (PS3.3 C.12.1, C.17.1)."""
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
        require(found == wanted, f"{what}: expected {wanted}, found {found}")
    stamp = dataset.ContentDate + dataset.ContentTime + dataset.TimezoneOffsetFromUTC
    created_at = datetime.strptime(stamp, "%Y%m%d%H%M%S.%f%z")
    require(
        created_at == context.created_at,
        f"content date and time: expected {context.created_at}, found {created_at}",
    )
    require(
        (context.document_kind == "failure") == isinstance(reading, Failed),
        f"a {reading.outcome} reading is no {context.document_kind!r} document",
    )
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        require(keyword in dataset, f"expected {keyword}, at least empty")


def check_tree(dataset: Dataset) -> None:
    """Hold the tree to what every document of ours is (PS3.16 TID 1500)."""
    template = dataset.ContentTemplateSequence[0]
    require(
        (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500"),
        "expected the template DCMR 1500",
    )
    require(
        _is_named(dataset, codes.REPORT_TITLE),
        "expected the root concept (126000, DCM, Imaging Measurement Report)",
    )
    for item in walk(dataset):
        if item.get("ValueType") == "CONTAINER":
            require(
                item.get("ContinuityOfContent") == "SEPARATE",
                "expected SEPARATE containers",
            )
        for measured in item.get("MeasuredValueSequence") or ():
            require(
                math.isfinite(measured.NumericValue)
                and math.isfinite(measured.get("FloatingPointValue", 0.0)),
                "expected finite numbers",
            )


def check_references(dataset: Dataset, reading: Reading) -> None:
    """See that the evidence holds every object that the tree points at."""
    evidence = {
        (str(reference.ReferencedSOPClassUID), str(reference.ReferencedSOPInstanceUID))
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    for item in walk(dataset):
        for reference in item.get("ReferencedSOPSequence") or ():
            uid = reference.ReferencedSOPInstanceUID
            require(
                (str(reference.ReferencedSOPClassUID), str(uid)) in evidence,
                f"image {uid} is referenced but not in the evidence",
            )
    for image in reading.images:
        require(
            (image.sop_class_uid, image.sop_instance_uid) in evidence,
            f"image {image.sop_instance_uid} was looked at but is not in the evidence",
        )
    library = child(dataset, codes.IMAGE_LIBRARY)
    listed = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in walk(library)
        if item.get("ValueType") == "IMAGE"
    }
    # What was refused may be no image at all; what was analysed is one.
    for image in reading.images if isinstance(reading, Analysed) else ():
        require(
            image.sop_instance_uid in listed,
            f"image {image.sop_instance_uid} was analysed but is not in the library",
        )


def check_outline(
    item: Dataset,
    image: ImageReference,
    points: tuple[tuple[float, float], ...],
    name: str,
) -> None:
    """Compare a drawn outline with the points it was made from (PS3.3 C.18.6)."""
    numbers = [number for point in (*points, points[0]) for number in point]
    found = list(item.GraphicData)
    # Graphic Data is FL: 24 bits of mantissa.
    same = len(found) == len(numbers) and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)
        for a, b in zip(found, numbers, strict=True)
    )
    require(item.GraphicType == "POLYLINE" and same, f"{name}: another outline")
    require(
        reference(item.ContentSequence[0]) == triple(image), f"{name}: another image"
    )


def check_sentences(dataset: Dataset, sentences: tuple[str, ...]) -> None:
    """See that the reader finds every sentence."""
    stated = {
        item.TextValue
        for container in children(dataset, codes.QUALITATIVE_EVALUATIONS)
        for item in children(container, codes.COMMENT)
    }
    missing = [s for s in sentences if s and s.rstrip() not in stated]
    require(not missing, f"{len(missing)} sentences for the reader are missing")


def walk(item: Dataset) -> Iterator[Dataset]:
    """Yield an item and everything below it."""
    yield item
    for child in item.get("ContentSequence") or ():
        yield from walk(child)


def _is_named(item: Dataset, concept: Code) -> bool:
    names = item.get("ConceptNameCodeSequence")
    return bool(names) and _is_code(names[0], concept)


def is_coded(item: Dataset, concept: Code) -> bool:
    """Tell whether an item has this coded value."""
    return _is_code(item.ConceptCodeSequence[0], concept)


def _is_code(item: Dataset, concept: Code) -> bool:
    value = item.get("CodeValue") or item.get("LongCodeValue")
    scheme = item.get("CodingSchemeDesignator")
    return (value, scheme) == (concept.value, concept.scheme_designator)


def children(item: Dataset, concept: Code) -> list[Dataset]:
    """Return the items right below that have this name."""
    return [c for c in item.get("ContentSequence") or () if _is_named(c, concept)]


def child(item: Dataset, concept: Code) -> Dataset:
    """Return the one item right below that has this name."""
    found = children(item, concept)
    require(len(found) == 1, f"expected one {concept.meaning}, found {len(found)}")
    return found[0]


def tracking_uid(group: Dataset) -> str:
    """Return the UID under which a measurement group is followed."""
    return str(child(group, codes.TRACKING_UNIQUE_IDENTIFIER).UID)


def reference(item: Dataset) -> tuple[str, str, int | None]:
    """Return class, instance and frame that an item refers to."""
    reference = item.ReferencedSOPSequence[0]
    frame = reference.get("ReferencedFrameNumber")
    return (
        str(reference.ReferencedSOPClassUID),
        str(reference.ReferencedSOPInstanceUID),
        None if frame is None else int(frame),
    )


def triple(image: ImageReference) -> tuple[str, str, int | None]:
    """Return class, instance and frame of a reference of the reading."""
    return (image.sop_class_uid, image.sop_instance_uid, image.frame_number)
