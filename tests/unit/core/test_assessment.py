"""What a reader may say of a result, and what not."""

from dataclasses import replace

import pytest

from core.assessment import (
    Decision,
    FindingChange,
    assess,
    assessment_from_json,
    assessment_to_json,
)
from core.domain import Laterality, Presence
from core.errors import InvalidAssessment
from tests.assessments import READER, accepted, amended, rejected
from tests.reports import LUNG, analysed, finding, radiograph, region

CR = radiograph()
READING = analysed(finding(0.9, CR, regions=(region(CR),)))
SAME = FindingChange(Presence.PRESENT, LUNG, Laterality.RIGHT)


def amend(**changes):
    return assess(
        READING,
        Decision.AMENDED,
        READER,
        changes={"pneumonia": replace(SAME, **changes)},
    )


def test_who_accepts_says_what_the_model_said_and_keeps_its_outlines():
    (judged,) = accepted(READING).findings

    assert judged.presence is Presence.PRESENT
    assert judged.site == LUNG
    assert judged.laterality is Laterality.RIGHT
    assert judged.keeps_regions


def test_who_amends_says_their_own_and_drops_outlines_drawn_for_another_answer():
    (judged,) = amended(READING).findings

    assert judged.decision is Decision.AMENDED
    assert judged.presence is Presence.ABSENT
    assert not judged.keeps_regions


def test_who_rejects_says_nothing_of_the_findings():
    (judged,) = rejected(READING).findings

    assert judged.presence is None
    assert judged.site is None


def test_a_comment_alone_is_an_amendment_that_keeps_the_outlines():
    (judged,) = amend(comment="Basal.").findings

    assert judged.decision is Decision.ACCEPTED
    assert judged.keeps_regions


def test_an_amendment_that_changes_nothing_is_refused():
    with pytest.raises(InvalidAssessment, match="accept the result"):
        amend()


@pytest.mark.parametrize("decision", [Decision.REJECTED, Decision.WITHDRAWN])
def test_a_result_is_not_thrown_away_without_a_reason(decision):
    with pytest.raises(InvalidAssessment, match="for a reason"):
        assess(READING, decision, READER)


def test_a_finding_that_is_not_there_cannot_be_changed():
    with pytest.raises(InvalidAssessment, match="no finding nodule"):
        assess(READING, Decision.AMENDED, READER, changes={"nodule": SAME})


def test_accepting_changes_no_finding():
    with pytest.raises(InvalidAssessment, match="amend instead"):
        assess(READING, Decision.ACCEPTED, READER, changes={"pneumonia": SAME})


def test_a_side_is_a_side_of_something():
    with pytest.raises(InvalidAssessment, match="side of something"):
        amend(site=None)


def test_a_comment_is_no_report_of_its_own_and_steers_no_terminal():
    with pytest.raises(InvalidAssessment, match="2000 is the most"):
        accepted(READING, "x" * 2001)

    assert accepted(READING, "a\x1b[2Jb").comment == "a [2Jb"


def test_an_assessment_survives_its_row():
    made = amended(READING)

    assert assessment_from_json(assessment_to_json(made)) == made
