import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from core.domain import ModelIdentity
from core.errors import InvalidSettings
from core.settings import DestinationSettings, Priority, RuleSettings, Settings
from dicom_node.rules import build_rules, check_rules, explain, plan_readings
from dicom_node.series_header import SeriesHeader


def header(calling: str = "CT1", called: str = "SECONDREAD", **attributes: object):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return SeriesHeader(dataset, calling, called)


def raw_header(*elements: tuple[int, str | None, bytes]) -> SeriesHeader:
    dataset = Dataset()
    for tag, vr, value in elements:
        dataset._dict[Tag(tag)] = RawDataElement(
            Tag(tag), vr, len(value), value, 0, vr is None, True
        )
    return SeriesHeader(dataset)


def fires(when: dict, of: SeriesHeader) -> bool:
    return explain(RuleSettings(name="r", when=when), of).fires


RADIOGRAPH = header(
    Modality="DX",
    StudyDescription="THORAX PA",
    PatientAge="034Y",
    ImageType=["DERIVED", "PRIMARY", "AXIAL"],
    SliceThickness="2.50",
    SeriesNumber="12",
    StudyDate="20261123",
    StudyTime="134500.25",
    Rows=512,
    PatientSex="",
)


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"Modality": "DX"},
        {"(0008,0060)": "DX"},
        {"Modality": ["CR", "DX"]},
        {"Modality": {"not": "CT"}},
        {"Modality": {"not": ["CT", "MR"]}},
        {"StudyDescription": {"matches": "(?i)thorax"}},
        {"StudyDescription": {"not": {"matches": "LATERAL"}}},
        {"ImageType": "AXIAL"},
        {"ImageType": {"not": "LOCALIZER"}},
        {"PatientAge": {"min": 18}},
        {"PatientAge": {"min": 34, "max": 34}},
        {"PatientAge": {"not": {"max": 17}}},
        {"SliceThickness": 2.5},
        {"SliceThickness": {"max": 3}},
        {"SeriesNumber": 12},
        {"Rows": {"min": 512}},
        {"StudyDate": {"min": "20260101", "max": "20261231"}},
        {"StudyDate": {"min": datetime.date(2026, 1, 1)}},
        {"StudyTime": {"min": "08", "max": "13"}},
        {"PatientSex": {"present": False}},
        {"BodyPartExamined": {"present": False}},
        {"Modality": {"present": True}},
        {"calling_ae_title": "CT1", "called_ae_title": "SECONDREAD"},
        {"calling_ae_title": {"matches": "^CT"}},
        {"any_of": [{"Modality": "CT"}, {"Modality": "DX", "Rows": 512}]},
    ],
)
def test_a_condition_that_holds_lets_its_rule_fire(when):
    assert fires(when, RADIOGRAPH)


@pytest.mark.parametrize(
    "when",
    [
        {"Modality": "CT"},
        {"Modality": ["CT", "MR"]},
        {"Modality": {"not": "DX"}},
        {"ImageType": {"not": "AXIAL"}},
        {"StudyDescription": {"matches": "^PA"}},
        {"PatientAge": {"max": 17}},
        {"SliceThickness": {"min": 2.6}},
        {"StudyDate": {"max": "20251231"}},
        {"StudyTime": {"min": "14"}},
        {"Modality": {"present": False}},
        {"PatientSex": {"present": True}},
        {"calling_ae_title": "CT2"},
        {"any_of": [{"Modality": "CT"}, {"Modality": "DX", "Rows": 1}]},
        {"Modality": "DX", "Rows": 1},
    ],
)
def test_a_condition_that_does_not_hold_keeps_its_rule_from_firing(when):
    assert not fires(when, RADIOGRAPH)


@pytest.mark.parametrize(
    "condition",
    [
        "CHEST",
        ["CHEST"],
        {"matches": ""},
        {"not": "CHEST"},
        {"not": {"matches": "x"}},
        {"present": True},
    ],
)
def test_a_condition_on_an_absent_attribute_is_false(condition):
    assert not fires({"BodyPartExamined": condition}, RADIOGRAPH)


def test_a_condition_on_an_empty_attribute_is_false():
    assert not fires({"PatientSex": {"not": "M"}}, RADIOGRAPH)


@pytest.mark.parametrize(
    ("age", "years"), [("018M", 1.5), ("052W", 1.0), ("010D", 0.03), ("007Y", 7)]
)
def test_ages_are_compared_in_years(age, years):
    patient = header(PatientAge=age)

    assert fires({"PatientAge": {"min": years - 0.01, "max": years + 0.01}}, patient)


def test_an_age_that_is_none_is_no_error():
    damaged = raw_header((0x00101010, "AS", b"34 Y"))

    assert not fires({"PatientAge": {"min": 0}}, damaged)


def test_a_private_attribute_is_compared_by_its_tag():
    private = raw_header((0x00091001, "UN", b"FAST\\SCOUT "))

    assert fires({"(0009,1001)": "SCOUT"}, private)


def test_a_sequence_can_be_asked_for_by_presence():
    dataset = Dataset()
    dataset.ViewCodeSequence = [Dataset()]

    assert fires({"ViewCodeSequence": {"present": True}}, SeriesHeader(dataset))


def test_text_is_decoded_by_the_character_set_of_its_header():
    greek = raw_header(
        (0x00080005, "CS", b"ISO_IR 126"), (0x00081030, "LO", "ΘΩΡΑΞ".encode("greek"))
    )

    assert fires({"StudyDescription": {"matches": "ΘΩΡΑΞ"}}, greek)


def test_a_rule_that_is_not_enabled_does_not_fire():
    rule = RuleSettings(name="r", when={"Modality": "DX"}, enabled=False)

    verdict = explain(rule, RADIOGRAPH)

    assert not verdict.fires
    assert all(judgement.holds for judgement in verdict.judgements)


def test_an_explanation_says_of_each_condition_what_was_found():
    rule = RuleSettings(name="r", when={"Modality": ["CR", "CT"], "Rows": {"min": 9}})

    first, second = explain(rule, RADIOGRAPH).judgements

    assert (first.condition, first.holds, first.found) == (
        "Modality is CR or CT",
        False,
        "DX",
    )
    assert (second.condition, second.holds, second.found) == (
        "Rows min 9",
        True,
        "512",
    )


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ({"Modalty": "CT"}, "Modalty"),
        ({"StudyDescription": {"matches": "("}}, "no regular expression"),
        ({"StudyDescription": {"matches": 5}}, "regular expression"),
        ({"Modality": {"matches": "a", "min": 1}}, "no condition"),
        ({"Modality": {"like": "a"}}, "no condition"),
        ({"Modality": {}}, "no condition"),
        ({"Modality": []}, "empty"),
        ({"Modality": True}, "cannot be compared"),
        ({"Modality": [["CT"]]}, "cannot be compared"),
        ({"Modality": None}, "cannot be compared"),
        ({"Modality": {"min": 3}}, "no numbers"),
        ({"SliceThickness": {"min": "3"}}, "both numbers"),
        ({"SliceThickness": {"min": float("nan")}}, "both numbers"),
        ({"StudyDate": {"min": "20260101", "max": 3}}, "both"),
        ({"Modality": {"present": "yes"}}, "present"),
        ({"Modality": {"not": {"present": True}}}, "absence"),
        ({"Modality": {"not": {"not": "CT"}}}, "not"),
        ({"PixelData": "x"}, "OB"),
        ({"ViewCodeSequence": "x"}, "SQ"),
        ({"any_of": {"Modality": "CT"}}, "list of tables"),
        ({"any_of": []}, "list of tables"),
        ({"any_of": [{}]}, "table"),
        ({"any_of": [{"Nothing": 1}]}, "Nothing"),
    ],
)
def test_an_unusable_condition_is_found_before_any_study_comes(when, told):
    rules = [RuleSettings(name="good"), RuleSettings(name="bad", when=when)]

    with pytest.raises(InvalidSettings, match="rule 'bad'") as caught:
        check_rules(rules)

    assert told in str(caught.value)


CONDITIONS = {
    "Modality": {"matches": ".*"},
    "PatientAge": {"min": 1},
    "SliceThickness": {"min": 1},
    "StudyDate": {"min": "2026"},
    "Rows": {"max": 5},
    "(0009,1001)": {"min": 5},
    "ViewCodeSequence": {"present": True},
    "StudyDescription": {"not": "x"},
    "any_of": [{"SeriesNumber": 5}, {"WindowCenter": {"max": 5}}],
}
TAGS = [
    0x00080005, 0x00080020, 0x00080060, 0x00081030, 0x00091001, 0x00101010,
    0x00180050, 0x00200011, 0x00280010, 0x00281050, 0x00540220,
]  # fmt: skip
VRS = ["CS", "AS", "DA", "DS", "IS", "LO", "US", "FD", "SQ", "UN", "OB", "AT", None]


@given(
    st.lists(
        st.tuples(st.sampled_from(TAGS), st.sampled_from(VRS), st.binary(max_size=40))
    )
)
def test_no_header_makes_a_rule_raise(elements):
    of = raw_header(*elements)
    rule = RuleSettings(name="r", when=CONDITIONS)

    verdict = explain(rule, of)

    assert len(verdict.judgements) == len(CONDITIONS)


ONE = ModelIdentity("one", "1", "a" * 64)
TWO = ModelIdentity("two", "1", "b" * 64)
SETTINGS = Settings(
    destinations=(DestinationSettings(name="pacs"), DestinationSettings(name="vna"))
)


def plan(*rules: RuleSettings, active=(ONE, TWO), order=Priority.ROUTINE, of=None):
    return plan_readings(
        build_rules(rules),
        [RADIOGRAPH] if of is None else of,
        active,
        settings=SETTINGS,
        order_priority=order,
    )


def test_rules_that_ask_for_one_model_make_one_reading_for_all_their_destinations():
    first = RuleSettings(name="first", models=("one",), destinations=("pacs",))
    second = RuleSettings(
        name="second", models=("*",), destinations=("vna",), priority=Priority.HIGH
    )

    readings = {entry.model.name: entry for entry in plan(first, second).readings}

    assert set(readings) == {"one", "two"}
    assert readings["one"].destinations == ("pacs", "vna")
    assert (readings["one"].priority, readings["one"].rule) == (Priority.HIGH, "second")
    assert readings["two"].destinations == ("vna",)


def test_a_stat_order_raises_the_priority_of_a_rule():
    rule = RuleSettings(name="r", priority=Priority.LOW)

    (reading, _) = plan(rule, order=Priority.STAT).readings

    assert reading.priority is Priority.STAT


def test_a_routine_order_does_not_lower_the_priority_of_a_rule():
    rule = RuleSettings(name="r", priority=Priority.HIGH)

    (reading, _) = plan(rule).readings

    assert reading.priority is Priority.HIGH


def test_the_star_of_destinations_is_every_configured_one():
    (reading, _) = plan(RuleSettings(name="r")).readings

    assert reading.destinations == ("pacs", "vna")


@pytest.mark.parametrize(
    ("rules", "active", "of", "told"),
    [
        ([RuleSettings(name="r", models=("three",))], [ONE], None, "named 'three'"),
        ([RuleSettings(name="r")], [], None, "no model is active"),
        (
            [RuleSettings(name="r", when={"Modality": "CT"})],
            [ONE],
            None,
            "no rule fires",
        ),
        ([RuleSettings(name="r", enabled=False)], [ONE], None, "no rule is enabled"),
        ([RuleSettings(name="r")], [ONE], [], "header"),
    ],
)
def test_a_study_without_a_reading_has_its_reason(rules, active, of, told):
    made = plan(*rules, active=active, of=of)

    assert made.readings == ()
    assert told in made.remarks[0]


def test_an_unknown_model_is_remarked_beside_the_reading_of_a_known_one():
    made = plan(RuleSettings(name="r", models=("one", "three")))

    assert [entry.model for entry in made.readings] == [ONE]
    assert "three" in made.remarks[0]
