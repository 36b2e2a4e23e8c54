from io import BytesIO

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence

from core.errors import InvalidInstance, InvalidReport
from tests.reports import (
    STUDY,
    analysed,
    context,
    finding,
    not_analysed,
    radiograph,
    reference,
)
from worker.report.sr import build_report


def report_on(*sources: Dataset) -> Dataset:
    reading = analysed(finding(0.6, sources[0]))
    return dcmread(BytesIO(build_report(reading, sources, context())))


def through_a_file(source: Dataset) -> Dataset:
    """Write and read a header, so that its values are still in its own encoding."""
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    buffer = BytesIO()
    dcmwrite(buffer, source, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


def request(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 144", "Люкceмбypг"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_of_any_source_are_repeated_in_unicode(
    character_set: str | list[str], name: str
) -> None:
    source = radiograph(PatientName=name)
    source.SpecificCharacterSet = character_set

    report = report_on(through_a_file(source))

    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert report.PatientName == name
    assert "?" not in str(report.PatientName)


def test_text_inside_sequences_is_repeated_in_unicode() -> None:
    item = request(AccessionNumber="A-1", RequestedProcedureDescription="Schädel")
    source = radiograph(RequestAttributesSequence=[item])

    report = report_on(through_a_file(source))

    (order,) = report.ReferencedRequestSequence
    assert order.RequestedProcedureDescription == "Schädel"


def test_patient_and_study_are_repeated_as_the_source_said() -> None:
    source = radiograph(
        IssuerOfPatientID="HOSPITAL", PatientAge="056Y", StudyDescription="Thorax"
    )

    report = report_on(source)

    for keyword in [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "IssuerOfPatientID",
        "PatientAge",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
    ]:
        assert report[keyword].value == source[keyword].value


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    ],
)
def test_what_must_be_present_is_empty_where_the_source_lacks_it(keyword: str) -> None:
    report = report_on(radiograph(**{keyword: None}))

    assert report[keyword].is_empty


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_value_that_breaks_its_representation_is_left_out_without_a_word() -> None:
    report = report_on(radiograph(PatientBirthDate="unknown", PatientAge="old"))

    assert report.PatientBirthDate == ""
    assert "PatientAge" not in report


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_patient_id_is_repeated_even_if_it_is_too_long() -> None:
    patient_id = "9" * 70

    assert report_on(radiograph(PatientID=patient_id)).PatientID == patient_id


def test_an_order_is_linked_from_the_request_attributes() -> None:
    code = request(CodeValue="X1", CodingSchemeDesignator="99L", CodeMeaning="Chest")
    code.CodingSchemeVersion = ""
    item = request(
        RequestedProcedureID="RP-1",
        RequestedProcedureDescription="Chest",
        RequestedProcedureCodeSequence=Sequence([code]),
    )
    source = radiograph(AccessionNumber="A-9", RequestAttributesSequence=[item])

    (order,) = report_on(source).ReferencedRequestSequence

    assert order.AccessionNumber == "A-9"
    assert order.RequestedProcedureID == "RP-1"
    assert order.StudyInstanceUID == STUDY
    assert order.RequestedProcedureCodeSequence[0].CodeValue == "X1"
    assert "CodingSchemeVersion" not in order.RequestedProcedureCodeSequence[0]


def test_an_order_is_linked_from_the_accession_number_alone() -> None:
    (order,) = report_on(radiograph(AccessionNumber="A-9")).ReferencedRequestSequence

    assert (order.AccessionNumber, order.RequestedProcedureID) == ("A-9", "")


def test_without_an_order_none_is_claimed() -> None:
    assert "ReferencedRequestSequence" not in report_on(radiograph())


def test_one_order_of_many_images_is_named_once() -> None:
    first = radiograph(AccessionNumber="A-9")
    second = radiograph(AccessionNumber="A-9", SOPInstanceUID="1.2.3.4")

    assert len(report_on(first, second).ReferencedRequestSequence) == 1


def test_every_source_is_evidence() -> None:
    first = radiograph()
    second = radiograph(SOPInstanceUID="1.2.3.4", SeriesInstanceUID="1.2.3")

    (study,) = report_on(first, second).CurrentRequestedProcedureEvidenceSequence

    assert [
        reference.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ] == [first.SOPInstanceUID, "1.2.3.4"]


def test_two_patients_in_one_study_are_refused() -> None:
    other = radiograph(PatientID="PH-2", SOPInstanceUID="1.2.3.4")

    with pytest.raises(InvalidInstance, match="2 Patient IDs") as caught:
        report_on(radiograph(), other)

    assert "PH-" not in str(caught.value)


def test_a_source_of_another_study_is_refused() -> None:
    other = radiograph(StudyInstanceUID="1.2.3", SOPInstanceUID="1.2.3.4")

    with pytest.raises(InvalidReport, match="expected one study"):
        report_on(radiograph(), other)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SeriesInstanceUID"])
def test_a_source_that_does_not_say_what_it_is_is_refused(keyword: str) -> None:
    whole, nameless = radiograph(), radiograph(**{keyword: None})

    with pytest.raises(InvalidInstance, match=keyword):
        report_on(whole, nameless)


def test_an_image_that_no_source_describes_is_refused() -> None:
    known, unknown = radiograph(), radiograph(SOPInstanceUID="1.2.3.4")

    with pytest.raises(InvalidReport, match="not among the sources"):
        build_report(analysed(finding(0.6, unknown)), [known], context())


def test_a_report_needs_a_source() -> None:
    reading = not_analysed(radiograph())

    with pytest.raises(InvalidReport, match="no source"):
        build_report(reading, [], context())


def test_a_private_sop_class_is_reported_like_any_other() -> None:
    source = radiograph(SOPClassUID="1.2.840.113619.4.30")

    assert reference(source).sop_class_uid == "1.2.840.113619.4.30"
    assert report_on(source).CompletionFlag == "COMPLETE"
