"""The values secondread thinks in: frozen, and free of any DICOM library.

A *reading* is what one model said of one content set. It is one of three types, so that
"not analysed" can never be taken for "nothing found".
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "AlgorithmIdentity",
    "Analysed",
    "Code",
    "Failed",
    "Finding",
    "ImageReference",
    "Laterality",
    "ModelIdentity",
    "NotAnalysed",
    "NotAnalysedReason",
    "Presence",
    "Reading",
    "Region",
    "reading_from_json",
    "reading_to_json",
]


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme designator, meaning (PS3.3 8.1-8.3)."""

    value: str
    scheme: str
    meaning: str


class Presence(StrEnum):
    """What a model says of a finding at its operating threshold."""

    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


class Laterality(StrEnum):
    """Side of a finding site, where a model tells it."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"


class NotAnalysedReason(StrEnum):
    """Why a model gave no answer; each value is stable and ends in the report."""

    NO_IMAGE = "no-image"
    NO_SUITABLE_SERIES = "no-suitable-series"
    WRONG_SOP_CLASS = "wrong-sop-class"
    WRONG_MODALITY = "wrong-modality"
    WRONG_BODY_PART = "wrong-body-part"
    WRONG_VIEW = "wrong-view"
    AGE_OUT_OF_RANGE = "age-out-of-range"
    OUT_OF_SCOPE = "out-of-scope"
    PIXELS_MISSING = "pixels-missing"
    PIXELS_UNREADABLE = "pixels-unreadable"
    PIXELS_EMPTY = "pixels-empty"
    PIXELS_TOO_LARGE = "pixels-too-large"
    PIXELS_INCONSISTENT = "pixels-inconsistent"
    TRANSFER_SYNTAX_UNSUPPORTED = "transfer-syntax-unsupported"
    PHOTOMETRIC_UNSUPPORTED = "photometric-unsupported"
    LOCALIZER = "localizer"
    GEOMETRY_MISSING = "geometry-missing"
    GANTRY_TILT = "gantry-tilt"
    SLICES_MISSING = "slices-missing"
    SLICES_DUPLICATED = "slices-duplicated"
    ORIENTATION_MIXED = "orientation-mixed"
    INSTANCES_MISSING = "instances-missing"


@dataclass(frozen=True)
class ImageReference:
    """One image a reading rests on."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    frame_number: int | None = None
    """From 1, as DICOM counts; None means the whole object."""


@dataclass(frozen=True)
class AlgorithmIdentity:
    """Which algorithm spoke (TID 4019)."""

    name: str
    version: str
    manufacturer: str
    weights_sha256: str
    """Of the weights file, in hexadecimal."""
    bundle_sha256: str
    """Of the whole package: the key by which jobs are told apart."""
    parameters: tuple[str, ...] = ()
    """Further facts that shaped the answer, one sentence each (`preprocessing=...`)."""


@dataclass(frozen=True)
class ModelIdentity:
    """A model package as the node and the queue know it."""

    name: str
    version: str
    bundle_sha256: str


@dataclass(frozen=True)
class Region:
    """A closed outline on one image.

    `points` are (column, row) in pixels of the stored image, with the origin at the top
    left *corner* of the first pixel (PS3.3 C.18.6.1.2), first point not repeated.
    """

    image: ImageReference
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Finding:
    """One coded answer with its probability, as it stands against its threshold."""

    tracking_identifier: str
    """Readable and unique within the model, e.g. `pneumonia`."""
    code: Code
    probability: float
    """0 to 1, calibrated."""
    threshold: float
    """0 to 1; at or above it the finding is present."""
    presence: Presence
    site: Code | None = None
    laterality: Laterality | None = None
    images: tuple[ImageReference, ...] = ()
    """The images this answer was computed from."""
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Analysed:
    """The model answered: at least one finding, present or absent or undetermined."""

    algorithm: AlgorithmIdentity
    images: tuple[ImageReference, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """Sentences for the reader, e.g. that the age lies outside the training data."""
    outcome: Literal["analysed"] = "analysed"


@dataclass(frozen=True)
class NotAnalysed:
    """The model was asked and must not answer, for a reason one can act on."""

    algorithm: AlgorithmIdentity
    images: tuple[ImageReference, ...]
    """What was looked at; may be empty."""
    reason: NotAnalysedReason
    explanation: str
    """What was found and what was expected; no patient data."""
    outcome: Literal["not-analysed"] = "not-analysed"


@dataclass(frozen=True)
class Failed:
    """The reading was tried as often as allowed and did not come to an end."""

    algorithm: AlgorithmIdentity
    images: tuple[ImageReference, ...]
    reason: str
    """e.g. `worker died`, `memory`, `time limit`, or an error's class name."""
    explanation: str
    outcome: Literal["failed"] = "failed"


Reading = Analysed | NotAnalysed | Failed


@cache
def _reading() -> "TypeAdapter[Reading]":
    # Built when first used: a list of studies reads no reading.
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(Reading)


def reading_to_json(reading: Reading) -> str:
    """Write a reading as the JSON that the job's row keeps."""
    return _reading().dump_json(reading).decode()


def reading_from_json(text: str) -> Reading:
    """Read what `reading_to_json` wrote.

    Raises
    ------
    pydantic.ValidationError
        If `text` is no such reading.
    """
    return _reading().validate_json(text)
