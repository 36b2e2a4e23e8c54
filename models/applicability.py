"""May this model read this series? Decided from its tags, before any pixel.

A tag that is absent forbids nothing: Body Part Examined and View Position are missing
from many sound images. A tag that is there and says something else does.
"""

import math
from dataclasses import dataclass

from core.domain import NotAnalysedReason
from models.specification import AgePolicy, AppliesTo

__all__ = ["SeriesFacts", "notes", "refusal"]

Refusal = tuple[NotAnalysedReason, str]

_HUMAN = frozenset({"", "HOMO SAPIENS", "HUMAN"})


@dataclass(frozen=True)
class SeriesFacts:
    """What the tags of a series say; None where they say nothing.

    Descriptions are left out on purpose: free text names patients and proves nothing.
    """

    sop_class_uid: str
    modality: str | None
    body_part_examined: str | None = None
    view_position: str | None = None
    patient_age_years: float | None = None
    """From Patient's Age, or from birth and study date."""
    image_type: tuple[str, ...] = ()
    laterality: str | None = None
    patient_species: str | None = None
    """Patient Species Description (0010,2201); empty for people."""


def refusal(applies_to: AppliesTo, facts: SeriesFacts) -> Refusal | None:
    """Say why a model must not read a series.

    Parameters
    ----------
    applies_to
        The bundle's scope.
    facts
        The series' tags.

    Returns
    -------
    The coded reason with what was found and what was expected, or None: it may read.

    Source
    ------
    PS3.3 C.7.3.1.1.1 (Modality), C.7.6.1.1.2 (Image Type), L (Body Part Examined).
    """
    checks = (_sop_class, _modality, _body_part, _view, _localizer, _species, _age)
    for check in checks:
        found = check(applies_to, facts)
        if found is not None:
            return found
    return None


def notes(applies_to: AppliesTo, facts: SeriesFacts) -> tuple[str, ...]:
    """Say what a reader must know of an answer that the model may give.

    Returns
    -------
    Sentences for the report, without patient data; often none.
    """
    if applies_to.age_years is None:
        return ()
    span = _span(applies_to.age_years)
    if facts.patient_age_years is None:
        return (
            f"The patient's age is not known; the model was made for {span} and must "
            "not be relied on outside it.",
        )
    if _age_fits(applies_to.age_years, facts.patient_age_years):
        return ()
    return (
        f"The patient's age lies outside the training population ({span}); the result "
        "is not validated for it.",
    )


def _sop_class(applies_to: AppliesTo, facts: SeriesFacts) -> Refusal | None:
    allowed = applies_to.sop_class_uids
    if not allowed or facts.sop_class_uid in allowed:
        return None
    return NotAnalysedReason.WRONG_SOP_CLASS, (
        f"SOP class {facts.sop_class_uid} found; expected {_list(allowed)}."
    )


def _modality(applies_to: AppliesTo, facts: SeriesFacts) -> Refusal | None:
    modality = _word(facts.modality)
    if not modality or modality in applies_to.modalities:
        return None
    return NotAnalysedReason.WRONG_MODALITY, (
        f"Modality {modality} found; expected {_list(applies_to.modalities)}."
    )


def _body_part(applies_to: AppliesTo, facts: SeriesFacts) -> Refusal | None:
    body_part = _word(facts.body_part_examined)
    if not body_part or not applies_to.body_parts or body_part in applies_to.body_parts:
        return None
    return NotAnalysedReason.WRONG_BODY_PART, (
        f"Body Part Examined {body_part} found; expected "
        f"{_list(applies_to.body_parts)}."
    )


def _view(applies_to: AppliesTo, facts: SeriesFacts) -> Refusal | None:
    view = _word(facts.view_position)
    if not view or not applies_to.views or view in applies_to.views:
        return None
    return NotAnalysedReason.WRONG_VIEW, (
        f"View Position {view} found; expected {_list(applies_to.views)}."
    )


def _localizer(_: AppliesTo, facts: SeriesFacts) -> Refusal | None:
    if "LOCALIZER" not in {_word(value) for value in facts.image_type}:
        return None
    return NotAnalysedReason.LOCALIZER, (
        "Image Type says LOCALIZER; an image for diagnosis was expected."
    )


def _species(_: AppliesTo, facts: SeriesFacts) -> Refusal | None:
    if _word(facts.patient_species) in _HUMAN:
        return None
    return NotAnalysedReason.OUT_OF_SCOPE, (
        "Patient Species Description names an animal; the model was made for people."
    )


def _age(applies_to: AppliesTo, facts: SeriesFacts) -> Refusal | None:
    age = facts.patient_age_years
    if applies_to.age_years is None or age is None:
        return None
    fits = _age_fits(applies_to.age_years, age)
    if fits or applies_to.age_policy is AgePolicy.NOTE:
        return None
    # The age itself stays out of the text: it is the patient's.
    return NotAnalysedReason.AGE_OUT_OF_RANGE, (
        f"The patient's age lies outside the {_span(applies_to.age_years)} that the "
        "model was made for."
    )


def _age_fits(age_years: tuple[float, float], age: float) -> bool:
    # Completed years: who is seventeen and a half is seventeen.
    return age_years[0] <= math.floor(age) <= age_years[1]


def _span(age_years: tuple[float, float]) -> str:
    return f"ages from {age_years[0]:g} to {age_years[1]:g} years"


def _word(text: str | None) -> str:
    return " ".join((text or "").upper().split())


def _list(values: frozenset[str]) -> str:
    return " or ".join(sorted(values))
