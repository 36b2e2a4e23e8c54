"""Source headers and readings from which the report tests build their reports.

All patients here are invented.
"""

from datetime import UTC, datetime

from pydicom import Dataset

from core.domain import (
    AlgorithmIdentity,
    Analysed,
    Code,
    Failed,
    Finding,
    ImageReference,
    Laterality,
    NotAnalysed,
    NotAnalysedReason,
    Presence,
    Region,
)
from worker.report.context import DeviceIdentity, ReportContext

STUDY = "1.2.826.0.1.3680043.10.1.1"
SERIES = "1.2.826.0.1.3680043.10.1.2"
INSTANCE = "1.2.826.0.1.3680043.10.1.3"
CR_CLASS = "1.2.840.10008.5.1.4.1.1.1"
DX_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"

PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
LUNG = Code("39607008", "SCT", "Lung")

ALGORITHM = AlgorithmIdentity(
    name="chest-pneumonia",
    version="1.0.0",
    manufacturer="secondread",
    weights_sha256="ab" * 32,
    bundle_sha256="cd" * 32,
    parameters=("preprocessing=area resize to 224 x 224",),
)


def radiograph(modality: str = "CR", **attributes: object) -> Dataset:
    """Make the header of a frontal chest radiograph."""
    source = Dataset()
    source.SpecificCharacterSet = "ISO_IR 100"
    source.SOPClassUID = DX_CLASS if modality == "DX" else CR_CLASS
    source.SOPInstanceUID = INSTANCE
    source.StudyInstanceUID = STUDY
    source.SeriesInstanceUID = SERIES
    source.Modality = modality
    source.PatientName = "Phantom^Report"
    source.PatientID = "PH-1"
    source.PatientBirthDate = "19700102"
    source.PatientSex = "F"
    source.StudyDate = "20261120"
    source.StudyTime = "101500"
    source.StudyID = "S1"
    source.AccessionNumber = ""
    source.ReferringPhysicianName = ""
    source.Manufacturer = "ACME"
    source.Rows = 2048
    source.Columns = 2000
    source.ImagerPixelSpacing = ["0.15", "0.15"]
    source.PatientOrientation = ["L", "F"]
    for keyword, value in attributes.items():
        if value is None:
            delattr(source, keyword)
        else:
            setattr(source, keyword, value)
    return source


def slices(count: int = 3) -> list[Dataset]:
    """Make the headers of a small CT series."""
    headers = []
    for number in range(count):
        source = radiograph("CT", ImagerPixelSpacing=None, PatientOrientation=None)
        source.SOPClassUID = CT_CLASS
        source.SOPInstanceUID = f"{INSTANCE}.{number + 1}"
        source.FrameOfReferenceUID = f"{STUDY}.9"
        source.Rows = source.Columns = 512
        source.PixelSpacing = ["0.7", "0.8"]
        source.SliceThickness = "2.5"
        source.ImagePositionPatient = ["-150", "-150", str(2.5 * number)]
        source.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        headers.append(source)
    return headers


def reference(source: Dataset) -> ImageReference:
    """Refer to a source as a reading does."""
    return ImageReference(
        source.SOPClassUID, source.SOPInstanceUID, source.SeriesInstanceUID
    )


def finding(
    probability: float,
    source: Dataset,
    *,
    presence: Presence | None = None,
    identifier: str = "pneumonia",
    regions: tuple[Region, ...] = (),
) -> Finding:
    """Make a finding against the threshold 0.5."""
    decided = Presence.PRESENT if probability >= 0.5 else Presence.ABSENT
    return Finding(
        tracking_identifier=identifier,
        code=PNEUMONIA,
        probability=probability,
        threshold=0.5,
        presence=presence or decided,
        site=LUNG,
        laterality=Laterality.RIGHT if regions else None,
        images=(reference(source),),
        regions=regions,
    )


def analysed(*findings: Finding, notes: tuple[str, ...] = ()) -> Analysed:
    """Make a reading of the findings' images."""
    images = dict.fromkeys(image for f in findings for image in f.images)
    return Analysed(ALGORITHM, tuple(images), findings, notes)


def region(source: Dataset) -> Region:
    """Outline a rectangle."""
    corners = ((100.0, 200.0), (300.5, 200.0), (300.5, 400.25), (100.0, 400.25))
    return Region(reference(source), corners)


def not_analysed(source: Dataset) -> NotAnalysed:
    """Make a refusal."""
    return NotAnalysed(
        ALGORITHM,
        (reference(source),),
        NotAnalysedReason.WRONG_BODY_PART,
        "Body Part Examined is HAND; the model reads CHEST",
    )


def failed(source: Dataset) -> Failed:
    """Make a failure."""
    return Failed(
        ALGORITHM,
        (reference(source),),
        "time limit",
        "three attempts ended at 300 seconds",
    )


def context(**changes: object) -> ReportContext:
    """Make a report context; `changes` replace its fields."""
    fields: dict[str, object] = {
        "report_key": (STUDY, "cd" * 32, "ef" * 32),
        "device": DeviceIdentity(
            observer_uid="2.25.42",
            name="secondread",
            model_name="secondread",
            serial_number="0001",
            software_versions=("0.1.0",),
        ),
        "created_at": datetime(2026, 11, 23, 9, 30, 15, 250000, tzinfo=UTC),
        "series_number": 901,
    }
    return ReportContext(**{**fields, **changes})  # type: ignore[arg-type]
