"""Ages, views and the rest, from wherever the header has them."""

import pytest
from pydicom.dataset import Dataset

from worker.phantom import PhantomIdentity, chest_radiograph, to_dicom
from worker.pixels.facts import series_facts


def _header(**values) -> Dataset:
    header = Dataset()
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return header


def test_the_facts_of_a_radiograph_are_those_of_its_header():
    image = to_dicom(
        chest_radiograph(rows=16, columns=16),
        identity=PhantomIdentity(view_position="PA"),
    )

    facts = series_facts(image)

    assert facts.sop_class_uid == "1.2.840.10008.5.1.4.1.1.1.1"
    assert facts.modality == "DX"
    assert facts.body_part_examined == "CHEST"
    assert facts.view_position == "PA"
    assert facts.patient_age_years == 4.0
    assert facts.image_type == ("ORIGINAL", "PRIMARY", "")
    assert facts.laterality == "U"


@pytest.mark.parametrize(
    ("text", "years"),
    [("004Y", 4.0), ("018M", 1.5), ("052W", 364 / 365.25), ("010D", 10 / 365.25)],
)
def test_an_age_is_counted_in_years_whatever_its_unit(text, years):
    facts = series_facts(_header(PatientAge=text))

    assert facts.patient_age_years == pytest.approx(years)


@pytest.mark.parametrize(
    ("study_date", "completed"), [("20240314", 3), ("20240315", 4), ("20250314", 4)]
)
def test_without_an_age_the_dates_tell_it_by_the_birthday(study_date, completed):
    header = _header(PatientBirthDate="20200315", StudyDate=study_date)

    age = series_facts(header).patient_age_years

    assert int(age) == completed


@pytest.mark.parametrize(
    "dates",
    [{}, {"PatientBirthDate": "20200101"}, {"StudyDate": "19990101"}],
)
def test_without_enough_dates_the_age_is_not_known(dates):
    assert series_facts(_header(**dates)).patient_age_years is None


def test_a_birth_after_the_study_is_no_age():
    header = _header(PatientBirthDate="20250101", StudyDate="20240101")

    assert series_facts(header).patient_age_years is None


@pytest.mark.parametrize(
    ("value", "scheme", "view"),
    [
        ("399348003", "SCT", "AP"),
        ("R-10206", "SRT", "AP"),
        ("272479007", "SCT", "PA"),
        ("399173006", "SCT", "LL"),
        ("0", "99LOCAL", None),
    ],
)
def test_a_coded_view_is_read_where_view_position_is_empty(value, scheme, view):
    code = _header(CodeValue=value, CodingSchemeDesignator=scheme)
    header = _header(ViewPosition="", ViewCodeSequence=[code])

    assert series_facts(header).view_position == view


def test_an_empty_header_has_no_facts():
    facts = series_facts(Dataset())

    assert facts.sop_class_uid == ""
    assert facts.modality is None
    assert facts.image_type == ()
