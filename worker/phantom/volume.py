"""A small CT series of a made-up head, whole or broken in one chosen way."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from core.uids import derived_uid
from worker.phantom.encode import write_pixel_data
from worker.phantom.identity import PhantomIdentity
from worker.phantom.objects import file_meta, patient_and_study

__all__ = ["ct_series", "head_hu"]

INTERCEPT = -1024
WATER_HU, AIR_HU, BONE_HU = 0, -1000, 1000


def ct_series(
    *,
    shape: tuple[int, int, int] = (8, 32, 24),
    spacing_mm: tuple[float, float, float] = (2.5, 0.7, 0.7),
    tilt_degrees: float = 0.0,
    missing: Collection[int] = (),
    duplicated: Collection[int] = (),
    localizer: bool = False,
    transfer_syntax_uid: str = uid.ExplicitVRLittleEndian,
    identity: PhantomIdentity | None = None,
) -> list[Dataset]:
    """Make the objects of one axial CT series.

    Parameters
    ----------
    shape
        Slices, rows, columns; slices from the feet, at z = 0, to the head.
    spacing_mm
        Between slices, between rows, between columns.
    tilt_degrees
        Gantry tilt: planes turned about the patient's x axis, positions along z.
    missing, duplicated
        Numbers of slices (from 0) that are left out, or sent a second time under
        another SOP Instance UID.
    localizer
        Puts a scout image before the slices, in the same series.

    Returns
    -------
    Data sets with file meta, in the order of Instance Number.

    Source
    ------
    PS3.3 A.3 (CT Image IOD), C.7.6.2, C.8.2.1.
    """
    identity = identity or PhantomIdentity(patient_name="PHANTOM^HEAD")
    slices, rows, columns = shape
    head = head_hu(slices, rows, columns)
    numbers = [n for n in range(slices) if n not in missing]
    numbers += [n for n in duplicated if n in numbers]
    series = []
    if localizer:
        scout = _image(head[:, rows // 2, :], (spacing_mm[0], spacing_mm[2]), identity)
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        scout.RescaleType = "US"
        _place(scout, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
        series.append(scout)
    tilt = np.radians(tilt_degrees)
    for number in numbers:
        image = _image(head[number], spacing_mm[1:], identity)
        position = (-10.0, -20.0, number * spacing_mm[0])
        cosines = (1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(np.sin(tilt)))
        _place(image, position, cosines)
        image.GantryDetectorTilt = f"{tilt_degrees:g}"
        image.SliceThickness = f"{spacing_mm[0]:g}"
        series.append(image)
    for instance_number, image in enumerate(series, start=1):
        _name(image, instance_number, identity, transfer_syntax_uid)
    return series


def head_hu(slices: int, rows: int, columns: int) -> npt.NDArray[np.int16]:
    """Draw the head that `ct_series` slices up.

    Returns
    -------
    (slices, rows, columns), HU: water in a ring of bone in air; each slice carries a
    column of its own brightness, `10 * slice`, in its middle.
    """
    row, column = np.mgrid[0:rows, 0:columns]
    radius = np.hypot(
        (row - (rows - 1) / 2) / (rows / 2),
        (column - (columns - 1) / 2) / (columns / 2),
    )
    plane = np.where(radius < 0.85, BONE_HU, AIR_HU)
    plane = np.where(radius < 0.70, WATER_HU, plane)
    head = np.repeat(plane[np.newaxis], slices, axis=0).astype(np.int16)
    middle = np.arange(slices, dtype=np.int16) * 10
    head[:, rows // 2, columns // 2] = middle
    return head


def _image(
    hu: npt.NDArray[np.int16],
    spacing_mm: tuple[float, float],
    identity: PhantomIdentity,
) -> Dataset:
    image = patient_and_study(identity)
    image.StudyDescription = "PHANTOM head"
    image.SeriesDescription = "PHANTOM head CT"
    image.SOPClassUID = uid.CTImageStorage
    image.Modality = "CT"
    image.SeriesInstanceUID = derived_uid(
        "phantom series", identity.study_seed, str(identity.series_number), "CT"
    )
    image.SeriesNumber = identity.series_number
    image.FrameOfReferenceUID = derived_uid("phantom frame", identity.study_seed)
    image.PositionReferenceIndicator = ""
    image.PatientPosition = "HFS"
    image.BodyPartExamined = "HEAD"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ContentDate = image.AcquisitionDate = identity.study_date
    image.ContentTime = image.AcquisitionTime = identity.study_time
    image.AcquisitionNumber = 1
    image.KVP = "120"
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = hu.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.PixelSpacing = [f"{value:g}" for value in spacing_mm]
    image.SliceThickness = f"{spacing_mm[0]:g}"
    image.RescaleIntercept, image.RescaleSlope = str(INTERCEPT), "1"
    image.RescaleType = "HU"
    image.WindowCenter, image.WindowWidth = "40", "400"
    image.PixelData = (hu.astype(np.int32) - INTERCEPT).astype("<u2").tobytes()
    return image


def _place(
    image: Dataset, position: tuple[float, ...], orientation: tuple[float, ...]
) -> None:
    image.ImagePositionPatient = [f"{value:.6g}" for value in position]
    image.ImageOrientationPatient = [f"{value:.6g}" for value in orientation]


def _name(
    image: Dataset, instance_number: int, identity: PhantomIdentity, syntax: str
) -> None:
    image.InstanceNumber = instance_number
    image.SOPInstanceUID = derived_uid(
        "phantom instance",
        image.SeriesInstanceUID,
        str(instance_number),
        f"{image.ImagePositionPatient} {image.ImageOrientationPatient}",
        f"{image.PixelSpacing} {image.Rows} {image.Columns} {syntax}",
    )
    stored = np.frombuffer(image.PixelData, "<u2").reshape(1, image.Rows, image.Columns)
    write_pixel_data(image, stored, transfer_syntax_uid=syntax)
    image.file_meta = file_meta(image, syntax)
