"""Display images to DX and CR objects that pass a validator.

Stored values are made so that the standard's own pipeline (modality LUT, VOI LUT,
photometric interpretation) leads back to the image that went in, whatever the
number of bits, the sign or the polarity.
"""

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from core.errors import InternalError
from core.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    derived_uid,
)
from worker.phantom.encode import Stored, write_pixel_data
from worker.phantom.identity import PhantomIdentity

__all__ = ["file_meta", "patient_and_study", "to_dicom"]

Polarity = Literal["MONOCHROME1", "MONOCHROME2", "RGB"]
FIELD_MM = 300.0
"""Longer side of the detector, for the pixel spacing."""

_SOP_CLASSES = {
    "DX": uid.DigitalXRayImageStorageForPresentation,
    "CR": uid.ComputedRadiographyImageStorage,
}


def to_dicom(
    image: npt.NDArray[np.float32],
    *,
    bits_stored: int = 12,
    photometric_interpretation: Polarity = "MONOCHROME2",
    transfer_syntax_uid: str = uid.ExplicitVRLittleEndian,
    signed: bool = False,
    modality: Literal["DX", "CR"] = "DX",
    identity: PhantomIdentity | None = None,
) -> Dataset:
    """Make a radiograph object of a display image.

    Parameters
    ----------
    image
        (rows, columns), or (rows, columns, 3) for `RGB`; 0 to 1, MONOCHROME2 sense.
    bits_stored
        8 to 16; above 8 two bytes are allocated.
    photometric_interpretation
        `RGB` needs `modality="CR"` and 8 bits, and breaks the CR IOD knowingly: it is
        there because such objects exist.
    signed
        Two's complement stored values with a Rescale Intercept; CR only, as DX allows
        Pixel Representation 0 alone.
    identity
        None: the default one.

    Returns
    -------
    A data set with file meta, ready for `save_as(path, enforce_file_format=True)`.

    Raises
    ------
    InternalError
        If the combination cannot be written.

    Source
    ------
    PS3.3 A.26 (DX), A.2 (CR), C.8.11 (DX modules), C.8.1 (CR modules).
    """
    if modality == "DX" and (signed or photometric_interpretation == "RGB"):
        raise InternalError("a DX image is unsigned and monochrome; use modality CR")
    if not 8 <= bits_stored <= 16:
        raise InternalError(f"{bits_stored} bits stored; a phantom has 8 to 16")
    identity = identity or PhantomIdentity()
    stored = _stored_values(
        image, bits_stored, photometric_interpretation == "MONOCHROME1", signed=signed
    )
    dataset = patient_and_study(identity)
    dataset.SOPClassUID = _SOP_CLASSES[modality]
    dataset.Modality = modality
    _describe_series(dataset, identity)
    _describe_pixels(dataset, stored, bits_stored, photometric_interpretation)
    _describe_display(dataset, bits_stored, signed=signed)
    if modality == "DX":
        _describe_dx(dataset, photometric_interpretation)
    _name_instance(dataset, stored, identity, transfer_syntax_uid)
    write_pixel_data(
        dataset, stored[np.newaxis], transfer_syntax_uid=transfer_syntax_uid
    )
    dataset.file_meta = file_meta(dataset, transfer_syntax_uid)
    return dataset


def patient_and_study(identity: PhantomIdentity) -> Dataset:
    """Write the modules that every object of one phantom study shares.

    Source
    ------
    PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.5.1.
    """
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = identity.patient_name
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = identity.patient_birth_date
    dataset.PatientSex = identity.patient_sex
    dataset.PatientAge = identity.patient_age
    dataset.StudyInstanceUID = derived_uid("phantom study", identity.study_seed)
    dataset.StudyDate = identity.study_date
    dataset.StudyTime = identity.study_time
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.AccessionNumber = identity.accession_number
    dataset.StudyDescription = "PHANTOM chest"
    dataset.Manufacturer = "secondread"
    dataset.ManufacturerModelName = "PHANTOM"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = IMPLEMENTATION_VERSION_NAME
    dataset.InstitutionName = ""
    return dataset


def file_meta(dataset: Dataset, transfer_syntax_uid: str) -> FileMetaDataset:
    """Write the file meta information of a data set (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = uid.UID(transfer_syntax_uid)
    meta.ImplementationClassUID = uid.UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _stored_values(
    image: npt.NDArray[np.float32], bits_stored: int, inverted: bool, *, signed: bool
) -> Stored:
    largest = (1 << bits_stored) - 1
    values = np.rint(np.clip(image, 0.0, 1.0).astype(np.float64) * largest)
    values = values.astype(np.int64)
    if inverted:
        values = largest - values
    if signed:
        values -= 1 << (bits_stored - 1)
    kind = "i" if signed else "u"
    return values.astype(f"{kind}{1 if bits_stored <= 8 else 2}")


def _describe_series(dataset: Dataset, identity: PhantomIdentity) -> None:
    dataset.SeriesInstanceUID = derived_uid(
        "phantom series",
        identity.study_seed,
        str(identity.series_number),
        dataset.Modality,
    )
    dataset.SeriesNumber = identity.series_number
    dataset.SeriesDescription = "PHANTOM chest radiograph"
    dataset.SeriesDate = identity.study_date
    dataset.SeriesTime = identity.study_time
    dataset.AcquisitionDate = identity.study_date
    dataset.AcquisitionTime = identity.study_time
    dataset.ContentDate = identity.study_date
    dataset.ContentTime = identity.study_time
    dataset.BodyPartExamined = identity.body_part_examined
    dataset.ViewPosition = identity.view_position
    # PS3.3 C.7.6.1.1.1: towards the patient's left and towards the feet.
    dataset.PatientOrientation = ["L", "F"]
    dataset.InstanceNumber = identity.instance_number
    dataset.ImageComments = "PHANTOM: drawn, not a patient"


def _describe_pixels(
    dataset: Dataset, stored: Stored, bits_stored: int, photometric: Polarity
) -> None:
    dataset.ImageType = ["DERIVED" if photometric == "RGB" else "ORIGINAL", "PRIMARY"]
    dataset.SamplesPerPixel = 3 if photometric == "RGB" else 1
    dataset.PhotometricInterpretation = photometric
    if photometric == "RGB":
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    spacing = f"{FIELD_MM / max(stored.shape[:2]):.6g}"
    dataset.ImagerPixelSpacing = [spacing, spacing]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"


def _describe_display(dataset: Dataset, bits_stored: int, *, signed: bool) -> None:
    half = 1 << (bits_stored - 1)
    dataset.RescaleIntercept = str(half if signed else 0)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "US"
    # PS3.3 C.11.2.1.2.1: this LINEAR window maps 0 to black and the largest to white.
    dataset.WindowCenter = str(half)
    dataset.WindowWidth = str(2 * half)


def _describe_dx(dataset: Dataset, photometric: Polarity) -> None:
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.PresentationLUTShape = (
        "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    )
    dataset.PixelIntensityRelationship = "LOG"
    # C.8.11.3.1.2: -1, lower stored values where more X-rays came through.
    dataset.PixelIntensityRelationshipSign = 1 if photometric == "MONOCHROME1" else -1
    dataset.ImageLaterality = "U"
    dataset.DetectorType = "DIRECT"
    dataset.PositionerType = "NONE"
    dataset.AcquisitionContextSequence = Sequence()
    dataset.AnatomicRegionSequence = Sequence([_code("816094009", "SCT", "Chest")])
    view = {
        "AP": ("399348003", "antero-posterior"),
        "PA": ("272479007", "postero-anterior"),
        "LL": ("399173006", "left lateral"),
    }.get(str(dataset.ViewPosition))
    if view is not None:
        item = _code(view[0], "SCT", view[1])
        item.ViewModifierCodeSequence = Sequence()
        dataset.ViewCodeSequence = Sequence([item])
    dataset.PatientOrientationCodeSequence = Sequence(
        [_code("102538003", "SCT", "recumbent")]
    )


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def _name_instance(
    dataset: Dataset, stored: Stored, identity: PhantomIdentity, syntax: str
) -> None:
    # Other pixels or another encoding are another object, so they need another UID.
    dataset.SOPInstanceUID = derived_uid(
        "phantom instance",
        dataset.SeriesInstanceUID,
        str(identity.instance_number),
        dataset.PhotometricInterpretation,
        f"{dataset.BitsStored} {stored.dtype.kind} {syntax} {identity.view_position}",
        hashlib.sha256(stored.tobytes()).hexdigest(),
    )
