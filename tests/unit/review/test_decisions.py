"""What becomes of a reader's word: one document, one row, and nothing too early."""

import pytest

from core.assessment import Decision
from core.database import assessments, audit, deliveries, studies
from core.errors import AlreadyAssessed, InvalidAssessment, ReaderError, TooLate
from core.lifecycle import AssessmentState
from review.decisions import Actor, result_of_job
from tests.read_studies import not_analysed
from tests.unit.review.conftest import JANE, RICHARD

ME = Actor("jdoe", "127.0.0.1")


def states(installation, uid):
    return [(kind, state) for kind, state, _ in installation.deliveries(uid)]


def test_a_decision_becomes_a_verified_report_that_leaves_after_the_undo_window(
    installation, look, decide, clock
):
    uid = installation.read("one")

    decide(look(uid))

    document = installation.newest_document(uid)
    assert document.VerificationFlag == "VERIFIED"
    _, (kind, state, due_at) = installation.deliveries(uid)
    assert (kind, state, due_at) == ("assessment 1", "waiting", clock.now + 10)


def test_the_second_reader_gets_the_firsts_decision_and_overwrites_nothing(
    installation, look, decide
):
    uid = installation.read("one")
    seen_by_both = look(uid)
    decide(seen_by_both)

    with pytest.raises(AlreadyAssessed, match="jdoe has accepted"):
        decide(seen_by_both, Decision.REJECTED, RICHARD)

    assert look(uid).standing.assessment.reader == JANE
    assert [kind for kind, _ in installation.documents(uid)] == [
        "reading",
        "assessment 1",
    ]
    assert all(path.exists() for _, path in installation.documents(uid))


def test_two_readers_at_the_very_same_moment_leave_one_decision(
    installation, look, desk, decide, monkeypatch
):
    uid = installation.read("one")
    seen = look(uid)
    decide(seen)
    # The second has passed the look at the numbers before the first committed.
    monkeypatch.setattr(assessments, "last_number", lambda rows: 0)

    with pytest.raises(AlreadyAssessed):
        decide(seen, Decision.REJECTED, RICHARD)

    assert len(look(uid).decisions) == 1


def test_who_has_seen_the_first_decision_may_decide_anew_and_names_it(
    installation, look, decide
):
    uid = installation.read("one")
    decide(look(uid))
    first = installation.newest_document(uid)

    decide(look(uid), Decision.REJECTED, RICHARD)

    second = installation.newest_document(uid)
    before = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    named = before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == first.SOPInstanceUID
    assert [row.state for row in look(uid).decisions] == [
        AssessmentState.SUPERSEDED,
        AssessmentState.DECIDED,
    ]


def test_undo_within_the_window_leaves_no_document_and_no_delivery(
    installation, look, decide, desk, clock
):
    uid = installation.read("one")
    decide(look(uid))
    _, path = installation.documents(uid)[-1]
    clock.now += 9.9

    desk.undo(look(uid), 1, ME)

    assert look(uid).standing is None
    assert states(installation, uid) == [("reading", "delivered")]
    assert not path.exists()


def test_undo_is_too_late_once_the_window_is_over(
    installation, look, decide, desk, clock
):
    uid = installation.read("one")
    decide(look(uid))
    clock.now += 10

    with pytest.raises(TooLate, match="decide anew"):
        desk.undo(look(uid), 1, ME)

    assert look(uid).standing is not None


def test_undo_is_too_late_once_a_courier_has_the_report(
    installation, look, decide, desk
):
    uid = installation.read("one")
    decide(look(uid))
    with installation.database.write() as connection:
        row = studies.study_by_uid(connection, uid)
        sent = deliveries.deliveries_of_study(connection, row.id)[-1]
        deliveries.start(connection, sent.id)

    with pytest.raises(TooLate, match="on its way"):
        desk.undo(look(uid), 1, ME)

    assert look(uid).standing.state is AssessmentState.DECIDED
    assert len(installation.documents(uid)) == 2


def test_undo_of_the_second_decision_brings_the_first_back(
    installation, look, decide, desk
):
    uid = installation.read("one")
    decide(look(uid))
    decide(look(uid), Decision.REJECTED, RICHARD)

    desk.undo(look(uid), 2, Actor("rroe", "127.0.0.1"))

    assert look(uid).standing.number == 1


def test_only_an_administrator_takes_back_the_decision_of_somebody_else(
    installation, look, decide, desk
):
    uid = installation.read("one")
    decide(look(uid))

    with pytest.raises(ReaderError, match="jdoe's"):
        desk.undo(look(uid), 1, Actor("rroe", "127.0.0.1"))
    desk.undo(look(uid), 1, Actor("root", "127.0.0.1", may_undo_others=True))

    assert look(uid).standing is None


@pytest.mark.parametrize("decision", [Decision.ACCEPTED, Decision.AMENDED])
def test_a_held_report_leaves_with_the_decision_and_before_its_successor(
    installation, look, decide, clock, decision
):
    uid = installation.read("one", hold=True)
    assert states(installation, uid) == [("reading", "held")]

    changed = {}
    if decision is Decision.AMENDED:
        from core.assessment import FindingChange
        from core.domain import Presence

        changed = {"changes": {"pneumonia": FindingChange(Presence.ABSENT, None, None)}}
    decide(look(uid), decision, **changed)

    assert states(installation, uid) == [
        ("reading", "waiting"),
        ("assessment 1", "waiting"),
    ]
    with installation.database.read() as connection:
        due = deliveries.due(connection, now=clock.now + 10)
        assert deliveries.due(connection, now=clock.now + 9) == []
    assert [row.id for row in due] == sorted(row.id for row in due)


def test_what_was_rejected_under_hold_never_leaves_nor_does_its_record(
    installation, look, decide
):
    uid = installation.read("one", hold=True)

    decide(look(uid), Decision.REJECTED)

    assert states(installation, uid) == [
        ("reading", "held"),
        ("assessment 1", "held"),
    ]


def test_a_later_acceptance_releases_all_that_was_held(installation, look, decide):
    uid = installation.read("one", hold=True)
    decide(look(uid), Decision.REJECTED)

    decide(look(uid), Decision.ACCEPTED, RICHARD)

    assert {state for _, state in states(installation, uid)} == {"waiting"}


def test_undo_holds_what_the_decision_released(installation, look, decide, desk):
    uid = installation.read("one", hold=True)
    decide(look(uid))

    desk.undo(look(uid), 1, ME)

    assert states(installation, uid) == [("reading", "held")]


def test_a_withdrawal_sends_a_rejection_note_where_the_report_went(
    installation, look, decide
):
    uid = installation.read("one")

    decide(look(uid), Decision.WITHDRAWN)

    note = installation.newest_document(uid)
    assert note.Modality == "KO"
    assert states(installation, uid) == [
        ("reading", "delivered"),
        ("withdrawal 1", "waiting"),
    ]


def test_what_was_withdrawn_before_it_left_never_leaves(installation, look, decide):
    uid = installation.read("one", delivered=False)

    decide(look(uid), Decision.WITHDRAWN)

    assert states(installation, uid) == [("reading", "given up")]


def test_nothing_is_decided_after_a_withdrawal(installation, look, decide, desk):
    uid = installation.read("one")
    decide(look(uid), Decision.WITHDRAWN)

    with pytest.raises(InvalidAssessment, match="was withdrawn"):
        decide(look(uid))
    with pytest.raises(TooLate):
        desk.undo(look(uid), 1, ME)


def test_what_was_not_analysed_cannot_be_accepted(installation):
    image = installation.image("one")
    uid = installation.receive(image)
    job_id = installation.queue(uid)
    installation.report(job_id, image, not_analysed(image))

    with pytest.raises(InvalidAssessment, match="not-analysed"):
        result_of_job(installation.database, job_id)


def test_each_act_leaves_a_row_in_the_audit_trail(installation, look, decide, desk):
    uid = installation.read("one")
    decide(look(uid))
    desk.undo(look(uid), 1, ME)

    with installation.database.read() as connection:
        rows = audit.entries(connection, study_instance_uid=uid)

    assert [(row.who, row.action) for row in rows] == [
        ("jdoe", "undo"),
        ("jdoe", "accepted"),
    ]


def test_a_decision_that_cannot_be_written_is_not_made(installation, look, decide):
    uid = installation.read("one")
    seen = look(uid)
    with installation.database.read() as connection:
        (row,) = studies.instances_of_content_set(connection, seen.job.content_set)
    installation.store.path_of(row.sha256).unlink()

    with pytest.raises(Exception, match="cannot be read from the store"):
        decide(seen)

    assert look(uid).standing is None
    assert len(installation.documents(uid)) == 1
