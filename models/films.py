"""Labelled images from a folder: `index.csv` beside image files.

The form is that of the published chest-radiograph folder: columns `file`, `label` and
`group_id` (or `patient_id`), optionally `duplicate_of`; other columns are ignored.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from core.errors import InvalidSettings, UnsupportedImage

__all__ = ["INDEX_NAME", "Film", "load_image", "read_index"]

INDEX_NAME = "index.csv"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Film:
    """One labelled image."""

    path: Path
    label: str
    group: str
    """Images that share it are of one patient, or may be: never split them."""


def read_index(folder: Path, *, drop_duplicates: bool = True) -> tuple[Film, ...]:
    """Read the list of labelled images.

    Parameters
    ----------
    folder
        Holds `index.csv`; the column `file` is relative to it.
    drop_duplicates
        Leave out rows whose column `duplicate_of` names an earlier file.

    Returns
    -------
    In the order of the file.

    Raises
    ------
    InvalidSettings
        If the index is missing, lacks a column, is empty or names a file outside the
        folder.
    """
    index = folder / INDEX_NAME
    try:
        with index.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise InvalidSettings(
            f"{index} cannot be read ({error.strerror}). A data folder needs an "
            "index.csv with the columns file, label and group_id (or patient_id)."
        ) from error
    if not rows:
        raise InvalidSettings(f"{index} lists no image.")
    group_column = "group_id" if "group_id" in rows[0] else "patient_id"
    missing = {"file", "label", group_column} - set(rows[0])
    if missing:
        raise InvalidSettings(
            f"{index} lacks the column(s) {', '.join(sorted(missing))}; needed are "
            "file, label and group_id (or patient_id)."
        )
    kept = [row for row in rows if not (drop_duplicates and row.get("duplicate_of"))]
    return tuple(
        Film(_inside(folder, row["file"]), row["label"], row[group_column])
        for row in kept
    )


def load_image(path: Path) -> FloatArray:
    """Read an image file as a display image.

    Returns
    -------
    (rows, columns), float32, 0 (black) to 1 (white); colour becomes luma.

    Raises
    ------
    UnsupportedImage
        If the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                return np.asarray(image, np.float32) / np.float32(65535)
            return np.asarray(image.convert("L"), np.float32) / np.float32(255)
    except (OSError, UnidentifiedImageError) as error:
        raise UnsupportedImage(
            "pixels-unreadable",
            f"The file {path.name} cannot be read as an image; JPEG or PNG is "
            "expected.",
        ) from error


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InvalidSettings(
            f"{folder / INDEX_NAME} names the file {name!r}, which lies outside the "
            "folder; every file must be inside it."
        )
    return path
