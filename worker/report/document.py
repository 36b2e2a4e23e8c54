"""The form of every document of ours: one tree of TID 1500 and its bytes.

What goes into the measurement groups, and who observed it, is the caller's.

Source
------
PS3.16 TID 1500 (Measurement Report); PS3.3 C.18.8; PS3.10 7.1.
"""

from collections.abc import Sequence
from io import BytesIO

from highdicom.sr import (
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from core.domain import Reading
from core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from worker.report import codes
from worker.report.context import DeviceIdentity
from worker.report.groups import Group
from worker.report.library import image_library
from worker.report.sources import is_image, text_of

__all__ = [
    "analysed_sources",
    "comment_items",
    "content_tree",
    "device_observer",
    "encoded",
    "separate",
]

_CONTAINS = RelationshipTypeValues.CONTAINS


def content_tree(
    analysed: Sequence[Dataset],
    groups: Sequence[Group],
    observers: ObservationContext,
    evaluations: Sequence[ContentItem],
) -> Dataset:
    """Put a document's tree together.

    Parameters
    ----------
    analysed
        Headers of what the reading rests on, the first first; images among them make
        the library.
    groups
        Measurement groups, in their order.
    observers
        Who speaks.
    evaluations
        What is said outside the groups (TID 1500 rows 12 and 14); may be empty.
    """
    report = MeasurementReport(
        observation_context=observers,
        procedure_reported=codes.procedure_of(text_of(analysed[0], "Modality")),
        imaging_measurements=list(groups),
        title=codes.REPORT_TITLE,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept.from_code(codes.LANGUAGE_ENGLISH)
        ),
    )
    root = report[0]
    items = list(root.ContentSequence)
    # PS3.16 TID 1500: the library (row 5) comes before the measurements (row 6).
    images = [source for source in analysed if is_image(source)]
    items.insert(len(items) - 1, image_library(images))
    if evaluations:
        container = ContainerContentItem(
            codes.QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS
        )
        container.ContentSequence = ContentSequence(evaluations)
        items.append(container)
    root.ContentSequence = ContentSequence(items)
    document = Dataset()
    document.update(root)
    separate(document)
    return document


def analysed_sources(reading: Reading, sources: Sequence[Dataset]) -> list[Dataset]:
    """Pick the sources the reading rests on; all of them where it names none."""
    wanted = {image.sop_instance_uid for image in reading.images}
    return [s for s in sources if s.SOPInstanceUID in wanted] or list(sources)


def device_observer(device: DeviceIdentity) -> ObserverContext:
    """Name the installation as observer (TID 1004)."""
    return ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device.observer_uid,
            name=device.name,
            manufacturer_name=device.manufacturer,
            model_name=device.model_name,
            serial_number=device.serial_number,
        ),
    )


def comment_items(comments: Sequence[str]) -> list[TextContentItem]:
    """Make a comment of each sentence that is not empty."""
    return [
        TextContentItem(codes.COMMENT, text, _CONTAINS) for text in comments if text
    ]


def separate(item: Dataset) -> None:
    """Mark all containers SEPARATE, so that renderers print the names of the items.

    Source
    ------
    PS3.3 C.18.8 (Container Macro): CONTINUOUS reads as one running text.
    """
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence") or ():
        separate(child)


def encoded(document: Dataset) -> bytes:
    """Write a document as a DICOM file, Explicit VR Little Endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = document.SOPClassUID
    meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    document.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, document, enforce_file_format=True)
    return buffer.getvalue()
