"""Every coded concept a report uses, once, with its meaning and its scheme.

Concepts of pydicom's dictionary are taken from there, so that a typing error fails at
import. The few written out by hand are genuine codes which that dictionary lacks.

Source
------
PS3.16 Annex D (DCM), CID 100, CID 218, CID 244, CID 6042, CID 7021; SNOMED CT; UCUM.
"""

from typing import Final

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from core import domain


def concept(code: domain.Code) -> Code:
    """Give a code of the domain the form that the content items take."""
    return Code(code.value, code.scheme, code.meaning)


# The document: TID 1500.
REPORT_TITLE: Final = codes.DCM.ImagingMeasurementReport
IMAGING_MEASUREMENTS: Final = codes.DCM.ImagingMeasurements
MEASUREMENT_GROUP: Final = codes.DCM.MeasurementGroup
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
PROCEDURE_REPORTED: Final = codes.DCM.ProcedureReported
COMMENT: Final = codes.DCM.Comment
LANGUAGE_ENGLISH: Final = Code("en-US", "RFC5646", "English (United States)")
DEVICE: Final = codes.DCM.Device

PERSON: Final = codes.DCM.Person

# A rejection note: TID 2010 and CID 7010.
REJECTED_FOR_QUALITY: Final = codes.DCM.RejectedForQualityReasons
REJECTED_FOR_SAFETY: Final = codes.DCM.RejectedForPatientSafetyReasons
KEY_OBJECT_DESCRIPTION: Final = codes.DCM.KeyObjectDescription
OBSERVER_TYPE: Final = codes.DCM.ObserverType
PERSON_OBSERVER_NAME: Final = codes.DCM.PersonObserverName

# A measurement group: TID 1501 and TID 1410.
TRACKING_IDENTIFIER: Final = codes.DCM.TrackingIdentifier
TRACKING_UNIQUE_IDENTIFIER: Final = codes.DCM.TrackingUniqueIdentifier
FINDING: Final = codes.DCM.Finding
FINDING_SITE: Final = codes.SCT.FindingSite
SITE_LATERALITY: Final = codes.SCT.Laterality
PROBABILITY: Final = codes.DCM.Probability
THRESHOLD_VALUE: Final = codes.DCM.ThresholdValue
IMAGE_REGION: Final = codes.DCM.ImageRegion
SOURCE_OF_MEASUREMENT: Final = codes.DCM.SourceOfMeasurement
PERCENT: Final = codes.UCUM.Percent
PNEUMONIA: Final = Code("233604007", "SCT", "Pneumonia")

PRESENCE: Final = {
    domain.Presence.PRESENT: codes.SCT.Present,
    domain.Presence.ABSENT: codes.SCT.Absent,
    domain.Presence.UNDETERMINED: codes.SCT.Undetermined,
}

LATERALITY: Final = {
    domain.Laterality.LEFT: codes.SCT.Left,
    domain.Laterality.RIGHT: codes.SCT.Right,
    domain.Laterality.BILATERAL: codes.SCT.Bilateral,
}

# The algorithm: TID 4019.
ALGORITHM_NAME: Final = codes.DCM.AlgorithmName
ALGORITHM_VERSION: Final = codes.DCM.AlgorithmVersion
ALGORITHM_PARAMETERS: Final = codes.DCM.AlgorithmParameters
ARTIFICIAL_INTELLIGENCE: Final = codes.DCM.ArtificialIntelligence

# What became of the analysis: CID 6042.
ANALYSIS_PERFORMED: Final = codes.DCM.AnalysisPerformed
ANALYSIS_FAILED: Final = codes.DCM.Failed
ANALYSIS_NOT_ATTEMPTED: Final = codes.DCM.NotAttempted

# Contributing equipment: CID 7005.
ACQUISITION_EQUIPMENT: Final = codes.DCM.AcquisitionEquipment
PROCESSING_EQUIPMENT: Final = codes.DCM.ProcessingEquipment

# The image library: TID 1600 to 1604.
IMAGE_LIBRARY: Final = codes.DCM.ImageLibrary
IMAGE_LIBRARY_GROUP: Final = codes.DCM.ImageLibraryGroup
LIBRARY_MODALITY: Final = codes.DCM.Modality
LIBRARY_SOURCE: Final = Code("260753009", "SCT", "Source")
FRAME_OF_REFERENCE_UID: Final = codes.DCM.FrameOfReferenceUID
PIXEL_DATA_ROWS: Final = codes.DCM.PixelDataRows
PIXEL_DATA_COLUMNS: Final = codes.DCM.PixelDataColumns
PATIENT_ORIENTATION_ROW: Final = codes.DCM.PatientOrientationRow
PATIENT_ORIENTATION_COLUMN: Final = codes.DCM.PatientOrientationColumn
HORIZONTAL_PIXEL_SPACING: Final = codes.DCM.HorizontalPixelSpacing
VERTICAL_PIXEL_SPACING: Final = codes.DCM.VerticalPixelSpacing
SPACING_BETWEEN_SLICES: Final = codes.DCM.SpacingBetweenSlices
SLICE_THICKNESS: Final = codes.DCM.SliceThickness
IMAGE_POSITION: Final = (
    codes.DCM.ImagePositionPatientX,
    codes.DCM.ImagePositionPatientY,
    codes.DCM.ImagePositionPatientZ,
)
IMAGE_ORIENTATION: Final = (
    codes.DCM.ImageOrientationPatientRowX,
    codes.DCM.ImageOrientationPatientRowY,
    codes.DCM.ImageOrientationPatientRowZ,
    codes.DCM.ImageOrientationPatientColumnX,
    codes.DCM.ImageOrientationPatientColumnY,
    codes.DCM.ImageOrientationPatientColumnZ,
)
PIXELS: Final = Code("{pixels}", "UCUM", "Pixels")
MILLIMETER: Final = codes.UCUM.Millimeter
COSINE: Final = Code("{-1:1}", "UCUM", "{-1:1}")

# CID 29 (acquisition modalities) by the value of Modality (0008,0060).
MODALITY: Final[dict[str, Code]] = {
    code.value: code for code in codes.CID29.concepts.values()
}

# CID 100 by Modality. A radiograph is "Imaging procedure": (43468-8,LN XR unspecified
# body region) is in today's CID 100 but not in the edition of 2019, by which the
# validators of archives and connectathons still call it an error.
IMAGING_PROCEDURE: Final[Code] = codes.CID100.ImagingProcedure
PROCEDURE: Final[dict[str, Code]] = {
    "CT": codes.CID100.CTUnspecifiedBodyRegion,
    "MR": codes.CID100.MRIUnspecifiedBodyRegion,
    "NM": codes.CID100.NMUnspecifiedBodyRegion,
    "PT": codes.CID100.PETUnspecifiedBodyRegion,
}


def procedure_of(modality: str) -> Code:
    """Name the imaging procedure that was analysed, by the images' Modality.

    Source
    ------
    PS3.16 TID 1500 row 4 and CID 100; IHE AIR (the procedure is that of the images,
    not the algorithm's).
    """
    return PROCEDURE.get(modality, IMAGING_PROCEDURE)
