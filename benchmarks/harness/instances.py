"""Instances to send: synthetic studies of noise, in the sizes that hospitals send."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from core.uids import derived_uid

__all__ = ["KINDS", "Kind", "Studies", "write_studies"]


@dataclass(frozen=True)
class Kind:
    """What one kind of instance is like."""

    label: str
    sop_class_uid: str
    modality: str
    rows: int
    """And as many columns; 16 bits a pixel."""
    frames: int
    usual: int
    """How many are sent, if not said otherwise."""


KINDS = {
    "MR": Kind("MR 34 KB", MRImageStorage, "MR", 128, 1, 2000),
    "CT": Kind("CT 0.5 MB", CTImageStorage, "CT", 512, 1, 300),
    "DX": Kind("DX 16 MB", DigitalXRayImageStorageForPresentation, "DX", 2800, 1, 16),
    "MF": Kind("multi-frame 524 MB", EnhancedCTImageStorage, "CT", 512, 1000, 1),
}


@dataclass(frozen=True)
class Studies:
    """What is sent in one run: a folder, and so a study, for each association."""

    folders: tuple[Path, ...]
    sources: dict[str, Path]
    """File by SOP Instance UID."""
    bytes: int
    """Of all files."""

    @property
    def count(self) -> int:
        """Number of instances."""
        return len(self.sources)


def write_studies(
    folder: Path, kind: Kind, *, count: int | None = None, associations: int = 1
) -> Studies:
    """Write one study for each association; no two instances have the same UID.

    Parameters
    ----------
    folder
        Made here. Its name goes into the UIDs: two folders give different ones.
    count
        Instances of all studies together; about as many go into each.
    """
    count = count or kind.usual
    pixels = np.random.default_rng(1).integers(
        0, 4096, (kind.rows, kind.rows), np.uint16
    )
    folders = tuple(folder / str(part) for part in range(associations))
    sources, written = {}, 0
    for place in folders:
        place.mkdir(parents=True)
    for number in range(count):
        part = number % associations
        dataset = _instance(kind, f"{folder.name} {part}", number)
        dataset.PixelData = np.roll(pixels, number).tobytes() * kind.frames
        path = folders[part] / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        sources[str(dataset.SOPInstanceUID)] = path
        written += path.stat().st_size
    return Studies(folders, sources, written)


def _instance(kind: Kind, study: str, number: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = kind.sop_class_uid
    dataset.SOPInstanceUID = derived_uid("benchmark", study, str(number))
    dataset.StudyInstanceUID = derived_uid("benchmark", study)
    dataset.SeriesInstanceUID = derived_uid("benchmark", study, "series")
    dataset.Modality = kind.modality
    dataset.PatientName = "PHANTOM^BENCHMARK"
    dataset.PatientID = "PHANTOM"
    dataset.InstanceNumber = number + 1
    dataset.Rows = dataset.Columns = kind.rows
    if kind.frames > 1:
        dataset.NumberOfFrames = kind.frames
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset
