"""Assessments: what readers decided, and the documents that say so.

Two readers at once are told apart by the number of the decision: whoever decides names
the last one he has seen, and only one of two can write the next.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.assessment import (
    Assessment,
    Decision,
    assessment_from_json,
    assessment_to_json,
)
from core.database import deliveries, events
from core.database.catalogue import catalogue_series
from core.database.jobs import Documents
from core.database.reports import add_report
from core.database.schema import assessment, delivery, report
from core.errors import AlreadyAssessed, IllegalTransition, TooLate
from core.lifecycle import (
    ASSESSMENT_TRANSITIONS,
    AssessmentEvent,
    AssessmentState,
    DeliveryState,
)

__all__ = [
    "AssessmentRow",
    "NewAssessment",
    "assessments_of_job",
    "assessments_of_study",
    "decide",
    "document_kind",
    "holding",
    "last_number",
    "standing",
    "undo",
    "withdraw_deliveries",
]


@dataclass(frozen=True)
class NewAssessment:
    """A decision whose documents are in the store already."""

    study_id: int
    job_id: int
    number: int
    assessment: Assessment
    decided_at: float
    undo_until: float


@dataclass(frozen=True)
class AssessmentRow(NewAssessment):
    """One row of the table `assessment`."""

    id: int
    state: AssessmentState

    @property
    def decision(self) -> Decision:
        """What was decided."""
        return self.assessment.decision


def document_kind(decision: Decision, number: int) -> str:
    """Name the documents of a decision among those of its job."""
    noun = "withdrawal" if decision is Decision.WITHDRAWN else "assessment"
    return f"{noun} {number}"


def assessments_of_job(connection: Connection, job_id: int) -> list[AssessmentRow]:
    """Return every decision on a job's result, the first first, undone ones too."""
    rows = connection.execute(
        select(assessment)
        .where(assessment.c.job_id == job_id)
        .order_by(assessment.c.number)
    )
    return [_row(row._mapping) for row in rows]


def assessments_of_study(connection: Connection, study_id: int) -> list[AssessmentRow]:
    """Return every decision on a study's results in the order they were made."""
    rows = connection.execute(
        select(assessment)
        .where(assessment.c.study_id == study_id)
        .order_by(assessment.c.id)
    )
    return [_row(row._mapping) for row in rows]


def holding(connection: Connection) -> Iterator[AssessmentRow]:
    """Go through every decision that holds, the first first."""
    rows = connection.execute(
        select(assessment)
        .where(assessment.c.state == AssessmentState.DECIDED.value)
        .order_by(assessment.c.id)
    )
    for row in rows:
        yield _row(row._mapping)


def standing(rows: Sequence[AssessmentRow]) -> AssessmentRow | None:
    """Return the decision that holds; None while there is none."""
    return next(
        (row for row in reversed(rows) if row.state is AssessmentState.DECIDED), None
    )


def last_number(rows: Sequence[AssessmentRow]) -> int:
    """Return the number of the last decision, 0 before the first."""
    return rows[-1].number if rows else 0


def decide(
    connection: Connection,
    new: NewAssessment,
    documents: Documents,
    *,
    releases: bool,
) -> None:
    """Keep a decision and its documents, in one transaction with all that follows.

    Parameters
    ----------
    connection
        A writing transaction.
    new
        The decision; its number is one more than the last that its reader has seen.
    documents
        Reports with the names of their destinations.
    releases
        Whether held reports of the job may leave now. A decision that releases nothing
        is itself held where the result that it speaks of is.

    Raises
    ------
    AlreadyAssessed
        If somebody else has decided since; nothing was changed.
    """
    _insert(connection, new)
    for row in assessments_of_job(connection, new.job_id):
        if row.number < new.number and row.state is AssessmentState.DECIDED:
            _move(connection, row, AssessmentEvent.SUPERSEDE)
    held = {
        row.destination: row.id for row in _deliveries(connection, new.job_id, "held")
    }
    for document, names in documents:
        report_id = add_report(connection, document)
        waits = [name for name in names if name in held and not releases]
        leaves = [name for name in names if name not in waits]
        deliveries.add(connection, report_id, leaves, due_at=new.undo_until)
        deliveries.add(connection, report_id, waits, held=True)
    if releases:
        for row in _deliveries(connection, new.job_id, "held"):
            deliveries.release(connection, row.id, due_at=new.undo_until)
    events.record(
        connection,
        new.study_id,
        str(new.assessment.decision),
        job_id=new.job_id,
        detail=f"by {new.assessment.reader.login}",
    )


def _insert(connection: Connection, new: NewAssessment) -> None:
    decision = new.assessment.decision
    seen = last_number(assessments_of_job(connection, new.job_id))
    try:
        if seen != new.number - 1:
            raise AlreadyAssessed(_overtaken(connection, new))
        with connection.begin_nested():
            connection.execute(
                insert(assessment).values(
                    study_id=new.study_id,
                    job_id=new.job_id,
                    number=new.number,
                    state=AssessmentState.DECIDED.value,
                    decision=decision.value,
                    reader=new.assessment.reader.login,
                    assessment=assessment_to_json(new.assessment),
                    decided_at=new.decided_at,
                    undo_until=new.undo_until,
                )
            )
    except IntegrityError as error:
        raise AlreadyAssessed(_overtaken(connection, new)) from error


def _overtaken(connection: Connection, new: NewAssessment) -> str:
    first = standing(assessments_of_job(connection, new.job_id))
    if first is None:
        return (
            f"the decisions on result {new.job_id} have changed since they were "
            "looked at; look again"
        )
    return (
        f"{first.assessment.reader.login} has {first.decision} result {new.job_id} "
        "already; nothing was overwritten. Look at that decision, then decide anew"
    )


def undo(connection: Connection, row: AssessmentRow, *, now: float) -> list[str]:
    """Take a decision back before anything of it has left.

    Returns
    -------
    SHA-256 of the documents that are no longer referred to.

    Raises
    ------
    TooLate
        If the time is over or a document has left; nothing was changed.
    IllegalTransition
        If the decision does not hold any more.
    """
    if now >= row.undo_until:
        raise TooLate(
            f"decision {row.number} on result {row.job_id} has left or is about to; "
            "decide anew instead"
        )
    _move(connection, row, AssessmentEvent.UNDO)
    kind = document_kind(row.decision, row.number)
    documents = connection.execute(
        select(report.c.id, report.c.sha256, report.c.series_instance_uid).where(
            report.c.job_id == row.job_id, report.c.document_kind == kind
        )
    ).all()
    for document in documents:
        _remove(connection, document.id, row)
        # Queries may have been told of it meanwhile.
        connection.execute(
            delete(catalogue_series).where(
                catalogue_series.c.study_id == row.study_id,
                catalogue_series.c.series_instance_uid == document.series_instance_uid,
            )
        )
    # What this decision let go is told by its due time, which is the decision's own.
    for one in _deliveries(connection, row.job_id, "waiting"):
        if one.due_at == row.undo_until:
            deliveries.hold(connection, one.id)
    before = [
        one
        for one in assessments_of_job(connection, row.job_id)
        if one.number < row.number and one.state is AssessmentState.SUPERSEDED
    ]
    if before:
        _move(connection, before[-1], AssessmentEvent.RESTORE)
    events.record(
        connection, row.study_id, "undone", job_id=row.job_id,
        detail=f"{row.decision} by {row.assessment.reader.login}",
    )  # fmt: skip
    return [document.sha256 for document in documents]


def _remove(connection: Connection, report_id: int, row: AssessmentRow) -> None:
    """Delete a document that has not left, with its deliveries; fenced by their state.

    Raises
    ------
    TooLate
        If a courier has taken one of them; the transaction must not be committed.
    """
    still_here = (DeliveryState.WAITING.value, DeliveryState.HELD.value)
    connection.execute(
        delete(delivery).where(
            delivery.c.report_id == report_id, delivery.c.state.in_(still_here)
        )
    )
    left = connection.execute(
        select(delivery.c.id).where(delivery.c.report_id == report_id)
    ).first()
    if left is not None:
        raise TooLate(
            f"decision {row.number} on result {row.job_id} is on its way; decide anew "
            "instead"
        )
    connection.execute(delete(report).where(report.c.id == report_id))


def withdraw_deliveries(connection: Connection, job_id: int) -> None:
    """Give up whatever of a job's documents has not left yet."""
    for state in ("held", "waiting"):
        for row in _deliveries(connection, job_id, state):
            deliveries.give_up(connection, row.id)


def _deliveries(connection: Connection, job_id: int, state: str) -> Sequence[Any]:
    return connection.execute(
        select(delivery)
        .join(report, report.c.id == delivery.c.report_id)
        .where(report.c.job_id == job_id, delivery.c.state == state)
        .order_by(delivery.c.id)
    ).all()


def _move(connection: Connection, row: AssessmentRow, event: AssessmentEvent) -> None:
    after = ASSESSMENT_TRANSITIONS.get((row.state, event))
    moved = (
        connection.execute(
            update(assessment)
            .where(assessment.c.id == row.id, assessment.c.state == row.state.value)
            .values(state=after.value)
        ).rowcount
        if after is not None
        else 0
    )
    if moved != 1:
        raise IllegalTransition(
            f"decision {row.number} on result {row.job_id} is {row.state.value} or was "
            f"changed; {event.value!r} is not possible and nothing was changed"
        )


def _row(mapping: Mapping[Any, Any]) -> AssessmentRow:
    return AssessmentRow(
        study_id=mapping["study_id"],
        job_id=mapping["job_id"],
        number=mapping["number"],
        assessment=assessment_from_json(mapping["assessment"]),
        decided_at=mapping["decided_at"],
        undo_until=mapping["undo_until"],
        id=mapping["id"],
        state=AssessmentState(mapping["state"]),
    )
