from dataclasses import replace

import pytest

from core.domain import NotAnalysedReason
from models.applicability import SeriesFacts, notes, refusal
from models.specification import AgePolicy, AppliesTo

DX = "1.2.840.10008.5.1.4.1.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
CHILDREN = AppliesTo(
    modalities=frozenset({"CR", "DX"}),
    sop_class_uids=frozenset({DX}),
    body_parts=frozenset({"CHEST", "THORAX", "PORT CHEST"}),
    views=frozenset({"AP", "PA"}),
    age_years=(0, 17),
)
SUITABLE = SeriesFacts(
    sop_class_uid=DX,
    modality="DX",
    body_part_examined="CHEST",
    view_position="PA",
    patient_age_years=6.0,
    image_type=("ORIGINAL", "PRIMARY"),
)


def test_a_suitable_series_is_not_refused_and_needs_no_note():
    assert refusal(CHILDREN, SUITABLE) is None
    assert notes(CHILDREN, SUITABLE) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sop_class_uid": CT}, NotAnalysedReason.WRONG_SOP_CLASS),
        ({"modality": "MG"}, NotAnalysedReason.WRONG_MODALITY),
        ({"body_part_examined": "HAND"}, NotAnalysedReason.WRONG_BODY_PART),
        ({"view_position": "LL"}, NotAnalysedReason.WRONG_VIEW),
        (
            {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")},
            NotAnalysedReason.LOCALIZER,
        ),
        ({"patient_species": "Canis lupus familiaris"}, NotAnalysedReason.OUT_OF_SCOPE),
        ({"patient_age_years": 18.0}, NotAnalysedReason.AGE_OUT_OF_RANGE),
        ({"patient_age_years": 80.0}, NotAnalysedReason.AGE_OUT_OF_RANGE),
    ],
)
def test_a_tag_that_says_something_else_refuses_with_its_reason(change, reason):
    found = refusal(CHILDREN, replace(SUITABLE, **change))

    assert found is not None
    assert found[0] is reason


@pytest.mark.parametrize(
    "change",
    [
        {"modality": None},
        {"body_part_examined": None},
        {"body_part_examined": "  "},
        {"body_part_examined": "thorax "},
        {"body_part_examined": "PORT  CHEST"},
        {"view_position": None},
        {"view_position": ""},
        {"patient_age_years": None},
        {"patient_age_years": 17.9},
        {"patient_age_years": 0.0},
        {"patient_species": "Homo sapiens"},
        {"image_type": ()},
    ],
)
def test_absent_tags_and_other_spellings_do_not_refuse(change):
    assert refusal(CHILDREN, replace(SUITABLE, **change)) is None


def test_an_unknown_age_is_read_with_a_note():
    found = notes(CHILDREN, replace(SUITABLE, patient_age_years=None))

    assert len(found) == 1
    assert "age is not known" in found[0]


def test_the_policy_note_lets_an_adult_pass_and_says_so_without_the_age():
    noting = replace(CHILDREN, age_policy=AgePolicy.NOTE)
    adult = replace(SUITABLE, patient_age_years=83.0)

    found = notes(noting, adult)

    assert refusal(noting, adult) is None
    assert len(found) == 1
    assert "outside the training population" in found[0]
    assert "83" not in found[0]


def test_a_refused_age_does_not_stand_in_the_explanation():
    found = refusal(CHILDREN, replace(SUITABLE, patient_age_years=83.0))

    assert found is not None
    assert "83" not in found[1]


def test_a_model_without_limits_of_scope_asks_only_for_its_modality():
    open_model = AppliesTo(modalities=frozenset({"DX"}))

    found = refusal(
        open_model,
        replace(SUITABLE, sop_class_uid=CT, body_part_examined="HAND"),
    )

    assert found is None
