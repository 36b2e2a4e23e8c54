"""What a report repeats of its source images: patient, study, request, evidence.

The report says what the sources say, re-encoded as Unicode. Attributes that must be
present and are not become empty; a value that breaks its own representation is left
out, except where it identifies the patient, the study or the order.
"""

import re
from collections.abc import Sequence

from pydicom import Dataset, config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import RTDoseStorage
from pydicom.valuerep import STR_VR, validate_value

from core.domain import ImageReference
from core.errors import InvalidInstance, InvalidReport

__all__ = [
    "check_sources",
    "copy_patient_and_study",
    "is_image",
    "referenced_requests",
    "references_by_study",
    "text_of",
]

# PS3.3 C.7.1.1: type 2 of the Patient Module and of the General Study Module (C.7.2.1).
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)

# Archives match by these; they are repeated even where they break their VR.
IDENTIFYING = {"PatientName", "PatientID", "StudyID", "AccessionNumber"}

PATIENT_AND_STUDY = (
    *TYPE_2,
    # PS3.3 C.7.1.1, Patient
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientBirthTime",
    "QualityControlSubject",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    # PS3.3 C.7.2.1, General Study
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "ProcedureCodeSequence",
    "ReferencedStudySequence",
    # PS3.3 C.7.2.2, Patient Study
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSexNeutered",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
)

# PS3.3 C.7.1.3 and C.7.2.3; half a module would break the report.
CLINICAL_TRIAL = (
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialTimePointID",
)

# PS3.3 Table 10-9 into C.17-2 (Referenced Request Sequence), all type 2 there.
REQUEST_TYPE_2 = (
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
)


# Laxer than PS3.5 9.1: archives hold components with leading zeros and find them.
_UID_CHARACTERS = re.compile(r"[0-9.]{1,64}")


def check_sources(
    sources: Sequence[Dataset],
    images: Sequence[ImageReference],
    study_instance_uid: str,
) -> None:
    """Make sure that the sources are one patient's study and hold what was analysed.

    Raises
    ------
    InvalidInstance
        If a source does not say which object it is, or sources name two patients.
    InvalidReport
        If there is no source, one of another study, or an image without its source.
    """
    if not sources:
        raise InvalidReport(
            f"report for study {study_instance_uid}: no source header was given; "
            "expected at least one, it says whose report this is"
        )
    for source in sources:
        _check_identity(source, study_instance_uid)
    patients = {text_of(source, "PatientID") for source in sources}
    if len(patients) > 1:
        raise InvalidInstance(
            f"study {study_instance_uid} holds instances of {len(patients)} Patient "
            "IDs; expected one; have the study corrected at its source"
        )
    known = {(str(s.SOPClassUID), str(s.SOPInstanceUID)) for s in sources}
    for image in images:
        if (image.sop_class_uid, image.sop_instance_uid) not in known:
            raise InvalidReport(
                f"report for study {study_instance_uid}: image "
                f"{image.sop_instance_uid} was analysed but is not among the sources"
            )


def _check_identity(source: Dataset, study_instance_uid: str) -> None:
    keywords = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
    for keyword in ("StudyInstanceUID", *keywords):
        if _UID_CHARACTERS.fullmatch(text_of(source, keyword)) is None:
            raise InvalidInstance(
                f"instance {source.get('SOPInstanceUID', '(unnamed)')} of study "
                f"{study_instance_uid} has no usable {keyword}; a report cannot refer "
                "to it; expected at most 64 digits and dots"
            )
    if source.StudyInstanceUID != study_instance_uid:
        raise InvalidReport(
            f"report for study {study_instance_uid}: instance {source.SOPInstanceUID} "
            f"belongs to study {source.StudyInstanceUID}; expected one study"
        )


def is_image(source: Dataset) -> bool:
    """Tell whether a content item of type IMAGE may refer to this object.

    Source
    ------
    PS3.3 C.18.4 (Image Reference Macro).
    """
    return (
        "Rows" in source and "Columns" in source and source.SOPClassUID != RTDoseStorage
    )


def copy_patient_and_study(source: Dataset, report: Dataset) -> None:
    """Repeat in `report` what `source` says of patient, study and clinical trial.

    Source
    ------
    PS3.3 C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2, C.7.2.3.
    """
    for keyword in PATIENT_AND_STUDY:
        _copy(source, report, keyword)
    for keyword in TYPE_2:
        if keyword not in report:
            setattr(report, keyword, "")
    required = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID")
    subject = "ClinicalTrialSubjectID"
    if all(text_of(source, keyword) for keyword in (*required, subject)):
        for keyword in CLINICAL_TRIAL:
            _copy(source, report, keyword)
        for keyword in CLINICAL_TRIAL[2:5]:
            if keyword not in report:
                setattr(report, keyword, "")


def referenced_requests(sources: Sequence[Dataset]) -> list[Dataset]:
    """Say which orders the report answers, from the sources' request attributes.

    Returns
    -------
    One item for each requested procedure; none where no source names an order.

    Source
    ------
    PS3.3 C.17.2 (Referenced Request Sequence), Table 10-9 (Request Attributes).
    """
    found: dict[tuple[str, str], Dataset] = {}
    for source in sources:
        accession_number = text_of(source, "AccessionNumber")
        requests = list(source.get("RequestAttributesSequence") or ())
        if not requests and accession_number:
            requests = [Dataset()]
        for request in requests:
            item = _request_item(request, source)
            if not item.AccessionNumber and not item.RequestedProcedureID:
                continue
            found.setdefault(
                (str(item.AccessionNumber), str(item.RequestedProcedureID)), item
            )
    return list(found.values())


def _request_item(request: Dataset, source: Dataset) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = text_of(request, "StudyInstanceUID") or str(
        source.StudyInstanceUID
    )
    item.ReferencedStudySequence = []
    accession_number = text_of(request, "AccessionNumber")
    item.AccessionNumber = accession_number or text_of(source, "AccessionNumber")
    issuer = request if accession_number else source
    _copy(issuer, item, "IssuerOfAccessionNumberSequence")
    for keyword in REQUEST_TYPE_2:
        setattr(item, keyword, "")
        _copy(request, item, keyword)
    item.RequestedProcedureCodeSequence = []
    _copy(request, item, "RequestedProcedureCodeSequence")
    return item


def references_by_study(
    instances: Sequence[tuple[str, str, str, str]],
) -> list[Dataset]:
    """Arrange references as study, series, instance.

    Parameters
    ----------
    instances
        (Study, Series, SOP Instance, SOP Class) UIDs; order is kept.

    Source
    ------
    PS3.3 Table C.17-3 (Hierarchical SOP Instance Reference Macro).
    """
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for study, series, instance, sop_class in instances:
        studies.setdefault(study, {}).setdefault(series, {})[instance] = sop_class
    items = []
    for study, all_series in studies.items():
        item = Dataset()
        item.ReferencedSeriesSequence = [
            _series_item(series, members) for series, members in all_series.items()
        ]
        item.StudyInstanceUID = study
        items.append(item)
    return items


def _series_item(series_instance_uid: str, members: dict[str, str]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    references = []
    for sop_instance_uid, sop_class_uid in members.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedSOPInstanceUID = sop_instance_uid
        references.append(reference)
    item.ReferencedSOPSequence = references
    return item


def text_of(dataset: Dataset, keyword: str) -> str:
    """Read an attribute as text, empty where it is absent or has no value."""
    value = dataset.get(keyword)
    return "" if value is None or isinstance(value, bytes) else str(value)


def _copy(source: Dataset, target: Dataset, keyword: str) -> None:
    """Copy one attribute if it has a value that its representation can hold."""
    if keyword not in source:
        return
    element = _plain(source[keyword], identifying=keyword in IDENTIFYING)
    if element is not None:
        target[element.tag] = element


def _plain(element: DataElement, *, identifying: bool = False) -> DataElement | None:
    """Rebuild an element free of its source's encoding; None if nothing is left."""
    tag = BaseTag(element.tag)
    # A charset of an inner item would contradict the report's; private tags mean
    # nothing without their creator.
    if not dictionary_has_tag(tag) or tag == Tag("SpecificCharacterSet"):
        return None
    vr = dictionary_VR(tag)
    if vr == "SQ" and element.VR == "SQ":
        return _plain_sequence(element)
    texts = _texts(element.value) if vr in STR_VR else None
    if texts is None:
        return None
    if not identifying and not all(_fits(vr, text) for text in texts):
        return None
    return DataElement(tag, vr, texts[0] if len(texts) == 1 else texts)


def _texts(value: object) -> list[str] | None:
    """Read a value as texts; None for one that was never decoded."""
    values = list(value) if isinstance(value, MultiValue | list) else [value]
    if any(v is None or isinstance(v, bytes) for v in values):
        return None
    return [str(v) for v in values]


def _plain_sequence(element: DataElement) -> DataElement | None:
    items = []
    for source in element.value:
        item = Dataset()
        for member in source:
            # Codes and issuers hold no type 2: what is empty there must be absent.
            copied = None if member.is_empty else _plain(member)
            if copied is not None:
                item[copied.tag] = copied
        if len(item):
            items.append(item)
    return DataElement(element.tag, "SQ", items) if items else None


def _fits(vr: str, text: str) -> bool:
    try:
        validate_value(vr, text, config.RAISE)
    except ValueError:
        return False
    return True
