"""A reader's document says what was decided, and nothing else passes its read-back."""

from dataclasses import replace

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from core.assessment import Assessment
from core.domain import Code, Laterality
from core.errors import InvalidReport
from core.settings import ReviewSettings
from tests.assessments import (
    AI_REPORT,
    READER,
    VOCABULARY,
    accepted,
    amended,
    assessment_context,
    rejected,
    withdrawal_context,
    withdrawn,
)
from tests.reports import analysed, context, finding, radiograph, region
from worker.report.assessment import build_assessment
from worker.report.assessment_check import check_assessment
from worker.report.text import report_lines
from worker.report.vocabulary import Vocabulary
from worker.report.withdrawal import build_withdrawal

CR = radiograph()
READING = analysed(finding(0.9, CR, regions=(region(CR),)))


def build(assessment: Assessment, number: int = 1, vocabulary=VOCABULARY) -> bytes:
    return build_assessment(
        assessment,
        READING,
        [CR],
        assessment_context(number),
        assessed=[AI_REPORT],
        vocabulary=vocabulary,
    )


def read(data: bytes):
    return dcmread(DicomBytesIO(data))


def lines(data: bytes) -> list[str]:
    return [line.strip() for line in report_lines(data)]


def test_a_named_person_makes_it_verified():
    document = read(build(accepted(READING)))

    (observer,) = document.VerifyingObserverSequence
    assert document.VerificationFlag == "VERIFIED"
    assert document.CompletionFlag == "COMPLETE"
    assert document.PreliminaryFlag == "FINAL"
    assert observer.VerifyingObserverName == "Doe^Jane"
    assert observer.VerifyingOrganization == "Department of Radiology"
    assert observer.VerificationDateTime == "20261123093015.250000+0000"


def test_it_names_the_machines_report_as_predecessor_and_as_evidence():
    document = read(build(accepted(READING)))

    before = document.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    evidence = document.CurrentRequestedProcedureEvidenceSequence[0]
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.1001"
    assert {series.SeriesInstanceUID for series in evidence.ReferencedSeriesSequence}
    assert "2.25.1002" in [
        series.SeriesInstanceUID for series in evidence.ReferencedSeriesSequence
    ]


def test_the_finding_keeps_its_tracking_uid_and_shows_no_number_of_the_model():
    said = lines(build(amended(READING)))

    uid = context().tracking_uid("pneumonia")
    assert f"Tracking Unique Identifier: {uid}" in said
    assert "Pneumonia: Absent" in said
    assert not [line for line in said if line.startswith("Probability")]


def test_what_was_rejected_is_neither_present_nor_absent():
    said = lines(build(rejected(READING)))

    assert "AI result assessment: AI result rejected" in said
    assert not [line for line in said if line.startswith("Pneumonia:")]
    assert "Comment: Hand over the lung." in said


def test_an_accepted_outline_is_drawn_and_an_amended_one_is_not():
    drawn = "Image Region: POLYLINE, 5 points"

    assert drawn in lines(build(accepted(READING)))
    assert drawn not in lines(build(amended(READING)))


def test_the_same_decision_gives_the_same_bytes_and_the_next_another_object():
    first, again = build(accepted(READING)), build(accepted(READING))
    second = build(accepted(READING), number=2)

    assert first == again
    assert read(first).SOPInstanceUID != read(second).SOPInstanceUID
    assert read(first).SeriesInstanceUID != read(second).SeriesInstanceUID


def test_a_site_has_its_own_words_and_a_private_scheme_is_described():
    settings = ReviewSettings(
        decision_concept="111^99HOSP^Assessment", accepted="222^99HOSP^Agreed"
    )
    document = read(build(accepted(READING), vocabulary=Vocabulary.of(settings)))

    assert "Assessment: Agreed" in lines(build(
        accepted(READING), vocabulary=Vocabulary.of(settings)
    ))  # fmt: skip
    schemes = document.CodingSchemeIdentificationSequence
    assert [item.CodingSchemeDesignator for item in schemes] == ["99HOSP"]


OTHERS = {
    "another reader": lambda a: replace(a, reader=replace(READER, family_name="Roe")),
    "another decision": lambda a: replace(a, decision=rejected(READING).decision),
    "another reason": lambda a: replace(a, reason=Code("1", "99X", "Other")),
    "another answer": lambda a: replace(a, findings=amended(READING).findings),
    "another side": lambda a: replace(
        a, findings=(replace(a.findings[0], laterality=Laterality.LEFT),)
    ),
    "another comment": lambda a: replace(a, comment="Something else."),
    "no outline": lambda a: replace(
        a, findings=(replace(a.findings[0], keeps_regions=False),)
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_the_read_back_finds_a_document_of(what):
    data = build(accepted(READING))

    with pytest.raises(InvalidReport, match="read-back"):
        check_assessment(
            data,
            OTHERS[what](accepted(READING)),
            READING,
            assessment_context(),
            assessed=[AI_REPORT],
            vocabulary=VOCABULARY,
        )


def test_the_read_back_finds_a_document_nobody_verified():
    data = build(accepted(READING)).replace(b"VERIFIED", b"VERYFINE")

    with pytest.raises(InvalidReport, match="VerificationFlag"):
        check_assessment(
            data, accepted(READING), READING, assessment_context(),
            assessed=[AI_REPORT], vocabulary=VOCABULARY,
        )  # fmt: skip


def test_a_machines_document_has_no_number_and_a_readers_has_one():
    with pytest.raises(InvalidReport, match="assessment number"):
        assessment_context(0)
    with pytest.raises(InvalidReport, match="assessment number"):
        context(assessment_number=1)


@pytest.mark.parametrize(("for_safety", "title"), [(False, "113001"), (True, "113037")])
def test_a_withdrawal_names_what_archives_shall_hide(for_safety, title):
    note = read(
        build_withdrawal(
            withdrawn(READING), READING, [CR], withdrawal_context(),
            withdrawn=[AI_REPORT], for_safety=for_safety,
        )
    )  # fmt: skip

    assert note.Modality == "KO"
    assert note.ConceptNameCodeSequence[0].CodeValue == title
    hidden = [item for item in note.ContentSequence if item.ValueType == "COMPOSITE"]
    assert [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in hidden
    ] == ["2.25.1001"]
    assert "VerificationFlag" not in note
