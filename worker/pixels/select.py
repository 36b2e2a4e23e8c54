"""Which image of a study a radiograph model reads, and why no other.

Every instance is asked by its header. Among those that the model may read, images made
for presentation come before raw ones and known views before unknown ones; then the
first taken. What was passed over is told to the reader.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from core.domain import ImageReference, NotAnalysedReason
from core.errors import UnsupportedImage
from models.applicability import SeriesFacts
from worker.pixels.display import image_reference
from worker.pixels.facts import attribute_text, series_facts
from worker.pixels.limits import PixelLimits
from worker.pixels.source import open_image

__all__ = [
    "NothingSuitable",
    "SelectedImage",
    "SelectedSeries",
    "select_radiograph",
    "select_series",
]

Refusal = Callable[[SeriesFacts], tuple[NotAnalysedReason, str] | None]

# From the check that a candidate fails last to the one it fails first: the later, the
# nearer it came, and the more its reason tells.
_MOST_TELLING = (
    NotAnalysedReason.AGE_OUT_OF_RANGE,
    NotAnalysedReason.OUT_OF_SCOPE,
    NotAnalysedReason.LOCALIZER,
    NotAnalysedReason.WRONG_VIEW,
    NotAnalysedReason.WRONG_BODY_PART,
    NotAnalysedReason.WRONG_MODALITY,
    NotAnalysedReason.WRONG_SOP_CLASS,
    NotAnalysedReason.PIXELS_UNREADABLE,
    NotAnalysedReason.NO_IMAGE,
)


@dataclass(frozen=True)
class SelectedImage:
    """The image to read."""

    path: Path
    facts: SeriesFacts
    reference: ImageReference
    notes: tuple[str, ...] = ()
    """Sentences for the reader: what else there was."""


@dataclass(frozen=True)
class SelectedSeries:
    """The images to read, all of one series."""

    paths: tuple[Path, ...]
    """In the order of their numbers."""
    first: SelectedImage


@dataclass(frozen=True)
class NothingSuitable:
    """No image may be read, with the reason that tells most."""

    reason: NotAnalysedReason
    explanation: str
    images: tuple[ImageReference, ...]
    """Images that were considered, in the order of the study."""


@dataclass(frozen=True)
class _Candidate:
    path: Path
    facts: SeriesFacts
    reference: ImageReference
    rank: tuple[Any, ...]


def select_radiograph(
    paths: Sequence[Path], refusal: Refusal, limits: PixelLimits | None = None
) -> SelectedImage | NothingSuitable:
    """Choose the image that a radiograph model is to read.

    Parameters
    ----------
    paths
        Files of one study's instances, of any kind, in any order.
    refusal
        Says why an image with such facts must not be read; None if it may.

    Returns
    -------
    The image, or why there is none. The answer does not depend on the order of `paths`.
    """
    found = _candidates(paths, refusal, limits or PixelLimits())
    if isinstance(found, NothingSuitable):
        return found
    return _image(found)


def select_series(
    paths: Sequence[Path], refusal: Refusal, limits: PixelLimits | None = None
) -> SelectedSeries | NothingSuitable:
    """Choose the images that a model of single slices is to read.

    Parameters
    ----------
    paths, refusal, limits
        As for `select_radiograph`.

    Returns
    -------
    Every image that may be read of the series that the best one is of, or why there is
    none. The answer does not depend on the order of `paths`.
    """
    found = _candidates(paths, refusal, limits or PixelLimits())
    if isinstance(found, NothingSuitable):
        return found
    series = found[0].reference.series_instance_uid
    of_it = [one for one in found if one.reference.series_instance_uid == series]
    return SelectedSeries(tuple(one.path for one in of_it), _image([of_it[0]]))


def _image(accepted: Sequence[_Candidate]) -> SelectedImage:
    first = accepted[0]
    return SelectedImage(first.path, first.facts, first.reference, _notes(accepted))


def _candidates(
    paths: Sequence[Path], refusal: Refusal, limits: PixelLimits
) -> list[_Candidate] | NothingSuitable:
    """Ask every instance; return those that may be read, the best first."""
    accepted: list[_Candidate] = []
    refused: list[tuple[NotAnalysedReason, str]] = []
    seen: list[_Candidate] = []
    for path in paths:
        try:
            header = open_image(path, limits, header_only=True)
        except UnsupportedImage as error:
            refused.append((NotAnalysedReason(error.reason), str(error)))
            continue
        if not _is_image(header):
            continue
        candidate = _candidate(path, header)
        seen.append(candidate)
        answer = refusal(candidate.facts)
        if answer is None:
            accepted.append(candidate)
        else:
            refused.append(answer)
    seen.sort(key=lambda candidate: candidate.rank)
    if not accepted:
        return _nothing(refused, seen)
    accepted.sort(key=lambda candidate: candidate.rank)
    return accepted


def _is_image(header: Dataset) -> bool:
    return "Rows" in header and "Columns" in header


def _candidate(path: Path, header: Dataset) -> _Candidate:
    facts = series_facts(header)
    intent = (attribute_text(header, "PresentationIntentType") or "").upper()
    rank = (
        intent == "FOR PROCESSING",
        facts.view_position is None,
        attribute_text(header, "AcquisitionDate") or "",
        attribute_text(header, "AcquisitionTime") or "",
        _number(header, "SeriesNumber"),
        _number(header, "InstanceNumber"),
        attribute_text(header, "SOPInstanceUID") or "",
    )
    return _Candidate(path, facts, image_reference(header, None), rank)


def _number(header: Dataset, keyword: str) -> int:
    try:
        return int(attribute_text(header, keyword) or 0)
    except ValueError:
        return 0


def _notes(accepted: Sequence[_Candidate]) -> tuple[str, ...]:
    others = len(accepted) - 1
    if others == 0:
        return ()
    return (
        f"The study has {others} further image{'s' if others > 1 else ''} that the "
        "model could read; only the first one was read.",
    )


def _nothing(
    refused: Sequence[tuple[NotAnalysedReason, str]], seen: Sequence[_Candidate]
) -> NothingSuitable:
    images = tuple(candidate.reference for candidate in seen)
    if not refused:
        return NothingSuitable(
            NotAnalysedReason.NO_IMAGE,
            "The study has no image; a radiograph was expected.",
            images,
        )
    reason, explanation = min(
        refused, key=lambda answer: (_telling(answer[0]), answer[1])
    )
    return NothingSuitable(reason, explanation, images)


def _telling(reason: NotAnalysedReason) -> int:
    known = reason in _MOST_TELLING
    return _MOST_TELLING.index(reason) if known else len(_MOST_TELLING)
