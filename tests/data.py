"""Where the shared sample data lie, and files as what a sender puts on the wire."""

import csv
import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from worker.phantom import PhantomIdentity, chest_radiograph, from_picture, to_dicom

__all__ = [
    "DICOM_FILES",
    "PICTURES",
    "Instance",
    "index_rows",
    "instance_of",
    "needs_dicom_files",
    "needs_pictures",
    "phantom_study",
    "picture_paths",
    "picture_study",
    "read_instance",
]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
DICOM_FILES = SHARED / "dicom"
PICTURES = SHARED / "chest-xray" / "full-resolution-samples"

needs_dicom_files = pytest.mark.skipif(
    not (DICOM_FILES / "index.csv").is_file(),
    reason=f"the folder of real DICOM files is not there ({DICOM_FILES})",
)
needs_pictures = pytest.mark.skipif(
    not (PICTURES / "index.csv").is_file(),
    reason=f"the full-resolution radiographs are not there ({PICTURES})",
)


@dataclass(frozen=True)
class Instance:
    """One object as it crosses the wire: UIDs of the command, and the data set."""

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes

    @cached_property
    def sha256(self) -> str:
        """Of the data set as it is sent."""
        return hashlib.sha256(self.data_set).hexdigest()


def read_instance(path: Path) -> Instance:
    """Read a file as a careful sender does: nothing in the data set is changed.

    A file without preamble or File Meta Information is sent in the syntax that its
    first element shows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd in a real file is sent as it is
        return _read_instance(path)


def _read_instance(path: Path) -> Instance:
    data = path.read_bytes()
    file = DicomBytesIO(data)
    read_preamble(file, force=True)
    meta = _read_file_meta_info(file)
    data_set = data[file.tell() :]
    header = dcmread(path, force=True, stop_before_pixels=True)
    syntax = meta.get("TransferSyntaxUID") or _guess(header)
    return Instance(
        name=path.name,
        sop_class_uid=str(
            header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID", "")
        ),
        sop_instance_uid=str(
            header.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID", "")
        ),
        study_instance_uid=str(header.get("StudyInstanceUID", "")),
        transfer_syntax_uid=str(syntax),
        data_set=data_set,
    )


def _guess(header: Dataset) -> str:
    implicit, little = header.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def instance_of(dataset: Dataset, folder: Path) -> Instance:
    """Write a data set to a file of its own and read it as a sender does."""
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return read_instance(path)


def phantom_study(
    folder: Path, seed: str, *, images: int = 1, first: int = 1, **options: Any
) -> list[Instance]:
    """Make a small study of drawn radiographs.

    Parameters
    ----------
    folder
        Where the files go.
    seed
        Another seed, another study.
    images
        How many radiographs.
    first
        Instance Number of the first one, for a late part of the same study.
    options
        As for `to_dicom`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        instance_of(
            to_dicom(
                chest_radiograph(rows=96, columns=80, seed=number),
                identity=PhantomIdentity(study_seed=seed, instance_number=number),
                **options,
            ),
            folder,
        )
        for number in range(first, first + images)
    ]


def picture_paths(label: str | None = None) -> list[Path]:
    """Return the full-resolution radiographs, of one label (`NORMAL`…) or all."""
    return sorted(PICTURES.glob(f"{label or '*'}/*.jpeg"))


def picture_study(path: Path, folder: Path, **options: Any) -> Path:
    """Make a DX file of a real radiograph; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    identity = PhantomIdentity(study_seed=f"picture {path.name}")
    dataset = from_picture(path, identity=identity, **options)
    target = folder / f"{path.stem}.dcm"
    dataset.save_as(target, enforce_file_format=True)
    return target


def index_rows() -> list[dict[str, str]]:
    """Return the index of the real DICOM files; empty if they are not there."""
    index = DICOM_FILES / "index.csv"
    if not index.is_file():
        return []
    with index.open(newline="") as file:
        return list(csv.DictReader(file))
