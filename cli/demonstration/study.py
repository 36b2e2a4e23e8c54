"""What is sent: the built-in phantom, or what the user has."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from cli.network import dicom_files_of, has_dicom_prefix
from core.errors import InvalidInstance

__all__ = ["DemoStudies", "phantom_study", "studies_from"]

_PICTURES = frozenset({".jpg", ".jpeg", ".png"})
_MATRIX = 2048
MAXIMUM_STUDIES = 20


@dataclass(frozen=True)
class DemoStudies:
    """Files to send, and which studies they belong to."""

    description: str
    files: tuple[Path, ...]
    study_instance_uids: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files)


def phantom_study(folder: Path, *, opacity: bool) -> DemoStudies:
    """Make a study of the built-in phantom, a new one each time."""
    from worker.phantom import (  # noqa: PLC0415
        PhantomIdentity,
        chest_radiograph,
        to_dicom,
    )

    image = chest_radiograph(rows=_MATRIX, columns=_MATRIX, opacity=opacity)
    identity = PhantomIdentity(study_seed=uuid.uuid4().hex)
    dataset = to_dicom(image, identity=identity)
    path = _written(dataset, folder / "phantom.dcm")
    kind = "with an opacity" if opacity else "without an opacity"
    return DemoStudies(
        f"phantom chest radiograph {kind}", (path,), (str(dataset.StudyInstanceUID),)
    )


def studies_from(given: Path, folder: Path) -> DemoStudies:
    """Take DICOM files as they are; make a radiograph of each JPEG or PNG picture.

    Parameters
    ----------
    given
        A file, or a folder that is searched with all below it.
    folder
        Where the objects made of pictures are written.

    Raises
    ------
    InvalidInstance
        If there is nothing that can be sent; the message says what was found.
    """
    pictures = [path for path in _files(given) if path.suffix.lower() in _PICTURES]
    instances = [path for path in dicom_files_of([given]) if has_dicom_prefix(path)]
    if not pictures and not instances:
        what = "a folder without" if given.is_dir() else "no"
        raise InvalidInstance(
            f"{given} is {what} DICOM, JPEG or PNG file. A DICOM file (PS3.10) has "
            "`DICM` after its first 128 bytes; a picture ends in .jpg, .jpeg or .png"
        )
    made = [_from_picture(path, folder / f"{path.stem}.dcm") for path in pictures]
    files = (*instances, *made)
    uids = tuple(dict.fromkeys(_study_uid(path) for path in files))
    if len(uids) > MAXIMUM_STUDIES:
        raise InvalidInstance(
            f"{given} holds {len(uids)} studies; the demonstration takes up to "
            f"{MAXIMUM_STUDIES}. Send more with `secondread up` and `secondread send`"
        )
    return DemoStudies(_described(given, instances, pictures, uids), files, uids)


def _files(given: Path) -> Iterable[Path]:
    if given.is_dir():
        return sorted(path for path in given.rglob("*") if path.is_file())
    return [given]


def _from_picture(picture: Path, path: Path) -> Path:
    from worker.phantom import PhantomIdentity, from_picture  # noqa: PLC0415

    identity = PhantomIdentity(
        study_seed=uuid.uuid4().hex,
        patient_name="PHANTOM^PICTURE",
        patient_id="PHANTOM-PICTURE",
    )
    return _written(from_picture(picture, identity=identity), path)


def _written(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while path.exists():
        number += 1
        path = path.with_stem(f"{path.stem}-{number}")
    dataset.save_as(path, enforce_file_format=True)
    return path


def _study_uid(path: Path) -> str:
    try:
        dataset = dcmread(
            path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"]
        )
        return str(dataset.StudyInstanceUID)
    except (InvalidDicomError, AttributeError, ValueError, OSError, EOFError) as error:
        raise InvalidInstance(
            f"{path} has no Study Instance UID that can be read "
            f"({type(error).__name__}); the file is damaged or no image of a study"
        ) from error


def _described(
    given: Path, instances: list[Path], pictures: list[Path], uids: tuple[str, ...]
) -> str:
    parts = []
    if instances:
        parts.append(f"{len(instances)} DICOM file{'s' * (len(instances) > 1)}")
    if pictures:
        parts.append(f"{len(pictures)} picture{'s' * (len(pictures) > 1)}")
    several = f", {len(uids)} studies" if len(uids) > 1 else ""
    return f"{' and '.join(parts)} from {given}{several}"
