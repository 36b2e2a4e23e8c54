"""Studies in a store, catalogued: what queries and retrieves are tried on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from core.settings import DicomwebSettings
from dicom_node.file_meta import FileMeta
from dicom_node.query.cataloguer import Cataloguer
from dicom_node.query.search import Search
from dicom_node.statuses import SUCCESS
from tests.receiving import Receiving, eventually, receiving, settings_for

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "2.25.1000"


def uid(*parts: int) -> str:
    return ".".join([ROOT, *map(str, parts)])


def make_instance(
    study: int = 1, series: int = 1, number: int = 1, **attributes: Any
) -> Dataset:
    """A small CT slice; each attribute may be set, None leaves it out."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = uid(study, series, number)
    dataset.StudyInstanceUID = uid(study)
    dataset.SeriesInstanceUID = uid(study, series)
    dataset.PatientName = f"Test^Patient{study}"
    dataset.PatientID = f"ID{study}"
    dataset.PatientBirthDate = "19700102"
    dataset.PatientSex = "O"
    dataset.StudyDate = f"202601{(study - 1) % 28 + 1:02d}"
    dataset.StudyTime = "101500"
    dataset.StudyID = str(study)
    dataset.AccessionNumber = f"ACC{study}"
    dataset.StudyDescription = "Chest"
    dataset.ReferringPhysicianName = "Doctor^Who"
    dataset.Modality = "CT"
    dataset.SeriesNumber = series
    dataset.SeriesDescription = f"axial {series}"
    dataset.InstanceNumber = number
    dataset.Rows, dataset.Columns = 4, 6
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.SamplesPerPixel = 1
    dataset.PixelRepresentation = 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = (np.arange(24) + 100 * number).astype("<u2").tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def encoded(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The bytes of a data set without File Meta Information."""
    buffer = BytesIO()
    implicit = syntax == "1.2.840.10008.1.2"
    dcmwrite(
        buffer,
        dataset,
        implicit_vr=implicit,
        little_endian=syntax != "1.2.840.10008.1.2.2",
        enforce_file_format=False,
    )
    return buffer.getvalue()


def part10(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A whole file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    copy = Dataset(dataset)
    copy.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, copy, enforce_file_format=True)
    return buffer.getvalue()


@dataclass
class Stored:
    """A node's parts with studies in them."""

    parts: Receiving
    cataloguer: Cataloguer
    search: Search

    def add(self, *datasets: Dataset, syntax: str = ExplicitVRLittleEndian) -> None:
        """Receive instances and catalogue their studies."""
        for dataset in datasets:
            self.add_bytes(encoded(dataset, syntax), dataset, syntax)
        self.catch_up()

    def add_bytes(
        self, data: bytes, dataset: Dataset, syntax: str = ExplicitVRLittleEndian
    ) -> None:
        sink = self.parts.receiver.begin(
            FileMeta(
                sop_class_uid=str(dataset.SOPClassUID),
                sop_instance_uid=str(dataset.SOPInstanceUID),
                transfer_syntax_uid=str(syntax),
                calling_ae_title="SCANNER",
                called_ae_title="SECONDREAD",
                peer_address="127.0.0.1",
            )
        )
        sink.write(data)
        answer = sink.commit()
        assert answer.status == SUCCESS, answer

    def catch_up(self) -> None:
        """Wait for the index, then catalogue everything."""
        self.catch_up_index()
        while self.cataloguer.compare(100):
            pass

    def catch_up_index(self) -> None:
        """Wait for the index."""
        assert eventually(self.parts.nothing_waits)


@contextmanager
def stored_studies(
    data_dir: Path, *datasets: Dataset, **dicomweb: Any
) -> Iterator[Stored]:
    """Run a node's parts with these instances in them."""
    settings = settings_for(data_dir)
    settings = settings.model_copy(
        update={"dicomweb": DicomwebSettings(port=0, **dicomweb)}
    )
    with receiving(settings) as parts:
        stored = Stored(
            parts,
            Cataloguer(parts.database, parts.store),
            Search(parts.database, parts.store),
        )
        stored.add(*datasets)
        yield stored


__all__ = [
    "CT",
    "Stored",
    "encoded",
    "make_instance",
    "part10",
    "stored_studies",
    "uid",
]
