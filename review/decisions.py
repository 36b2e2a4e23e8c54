"""From a reader's word to a document on its way: decide, take back, withdraw.

A decision is one transaction: its row, its document in every SR class that the result
went out in, and the deliveries that are due once the time for taking it back is over.
The documents are written before, so a decision that cannot be written as a valid report
is not made at all.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from core.assessment import Assessment, Decision
from core.database import assessments, audit, deliveries, jobs, reports, studies
from core.database.assessments import AssessmentRow, NewAssessment
from core.database.engine import Database
from core.database.jobs import JobRow
from core.database.reports import NewReport, ReportRow
from core.domain import Analysed, Reading, reading_from_json
from core.errors import InvalidAssessment, ReaderError, TooLate
from core.lifecycle import DeliveryState, JobState
from core.settings import Settings
from core.uids import installation_uid
from dicom_node.instance_store import InstanceStore
from worker.orders import SourceInstance

if TYPE_CHECKING:
    from pydicom import Dataset

    from worker.report.context import PredecessorReport, ReportContext

__all__ = ["Actor", "Desk", "Result", "result_of_job", "results_of_study"]

_WITHDRAWAL_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"
_READING = "reading"


@dataclass(frozen=True)
class Actor:
    """Who acts, for the audit trail."""

    login: str
    address: str
    """`cli` for the command line."""
    may_undo_others: bool = False


@dataclass(frozen=True)
class Result:
    """An AI result that can be assessed, and what was said of it so far."""

    study_instance_uid: str
    job: JobRow
    reading: Reading
    decisions: tuple[AssessmentRow, ...]

    @property
    def standing(self) -> AssessmentRow | None:
        """The decision that holds."""
        return assessments.standing(self.decisions)

    @property
    def version(self) -> int:
        """What a reader has seen; a decision names it."""
        return assessments.last_number(self.decisions)


def results_of_study(database: Database, study_instance_uid: str) -> list[Result]:
    """Return the newest result of each model for a study, in the order they came."""
    with database.read() as connection:
        study = studies.study_by_uid(connection, study_instance_uid)
        if study is None:
            return []
        newest = {
            row.model: row
            for row in jobs.jobs_of_study(connection, study.id)
            if row.state is JobState.REPORTED and row.reading
        }
        return [
            Result(
                study_instance_uid,
                row,
                reading_from_json(row.reading or ""),
                tuple(assessments.assessments_of_job(connection, row.id)),
            )
            for row in newest.values()
        ]


def result_of_job(database: Database, job_id: int) -> Result:
    """Return a result by its job.

    Raises
    ------
    InvalidAssessment
        If there is none, or no answer in it to assess.
    """
    with database.read() as connection:
        row = jobs.job_by_id(connection, job_id)
        study = studies.study_by_id(connection, row.study_id) if row else None
        if row is None or study is None or row.state is not JobState.REPORTED:
            raise InvalidAssessment(f"job {job_id} has no result to assess")
        reading = reading_from_json(row.reading or "")
        decisions = tuple(assessments.assessments_of_job(connection, job_id))
    if not isinstance(reading, Analysed):
        raise InvalidAssessment(
            f"job {job_id} is {reading.outcome}: it has no answer that could be "
            "accepted, amended or rejected"
        )
    return Result(study.study_instance_uid, row, reading, decisions)


class Desk:
    """Where decisions are made.

    Parameters
    ----------
    settings, database
        Of the installation.
    clock
        Seconds since 1970, UTC.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._store = InstanceStore(
            settings.data_dir, durable=settings.store.durable_writes
        )
        self._installation_uid = installation_uid(settings.data_dir)

    def decide(
        self, result: Result, assessment: Assessment, actor: Actor
    ) -> AssessmentRow:
        """Make a decision on a result as its reader has seen it.

        Raises
        ------
        AlreadyAssessed
            If somebody decided since `result` was looked at.
        InvalidAssessment
            If the result was withdrawn.
        InvalidInstance, InvalidReport, StoreUnavailable
            If the decision cannot be written; then it was not made.
        """
        now = self._clock()
        self._refuse_withdrawn(result)
        new = self._new(result, assessment, now, self._settings.review.undo_window_s)
        documents = self._documents(result, new)
        return self._keep(
            result, new, documents, actor,
            releases=assessment.decision is not Decision.REJECTED,
        )  # fmt: skip

    def withdraw(
        self, result: Result, assessment: Assessment, actor: Actor, *, for_safety: bool
    ) -> AssessmentRow:
        """Ask every archive that has the result to hide it; there is no undo.

        What has not left yet never will; the note goes where something went.

        Raises
        ------
        AlreadyAssessed, InvalidAssessment, InvalidReport, StoreUnavailable
            As `decide`.
        """
        now = self._clock()
        self._refuse_withdrawn(result)
        new = self._new(result, assessment, now, 0.0)
        note, names = self._withdrawal(result, new, for_safety=for_safety)
        return self._keep(
            result, new, [(note, names)], actor, releases=False, give_up=True
        )

    def undo(self, result: Result, number: int, actor: Actor) -> None:
        """Take a decision back before it leaves.

        Raises
        ------
        TooLate
            If it has left.
        ReaderError
            If it is somebody else's, or not the last one.
        """
        row = result.standing
        if row is None or row.number != number:
            raise ReaderError(
                f"decision {number} on result {result.job.id} does not hold any more"
            )
        if row.decision is Decision.WITHDRAWN:
            raise TooLate("a withdrawal has left at once; it cannot be taken back")
        if row.assessment.reader.login != actor.login and not actor.may_undo_others:
            raise ReaderError(
                f"decision {number} is {row.assessment.reader.login}'s; only they or "
                "an administrator take it back"
            )
        with self._database.write() as connection:
            unused = assessments.undo(connection, row, now=self._clock())
            audit.record(
                connection, who=actor.login, address=actor.address, action="undo",
                study_instance_uid=result.study_instance_uid,
                detail=f"result {result.job.id}, decision {number}",
            )  # fmt: skip
        self._store.remove_reports(unused)

    def _refuse_withdrawn(self, result: Result) -> None:
        before = result.standing
        if before is not None and before.decision is Decision.WITHDRAWN:
            raise InvalidAssessment(
                f"result {result.job.id} was withdrawn; there is nothing to decide"
            )

    def _new(
        self, result: Result, assessment: Assessment, now: float, window_s: float
    ) -> NewAssessment:
        return NewAssessment(
            study_id=result.job.study_id,
            job_id=result.job.id,
            number=result.version + 1,
            assessment=assessment,
            decided_at=now,
            undo_until=now + window_s,
        )

    def _keep(
        self,
        result: Result,
        new: NewAssessment,
        documents: Sequence[tuple[NewReport, Sequence[str]]],
        actor: Actor,
        *,
        releases: bool,
        give_up: bool = False,
    ) -> AssessmentRow:
        try:
            with self._database.write() as connection:
                if give_up:
                    assessments.withdraw_deliveries(connection, new.job_id)
                assessments.decide(connection, new, documents, releases=releases)
                audit.record(
                    connection, who=actor.login, address=actor.address,
                    action=new.assessment.decision.value,
                    study_instance_uid=result.study_instance_uid,
                    detail=f"result {new.job_id}, decision {new.number}",
                )  # fmt: skip
                rows = assessments.assessments_of_job(connection, new.job_id)
        except ReaderError:
            self._forget(documents)
            raise
        return rows[-1]

    def _forget(self, documents: Sequence[tuple[NewReport, Sequence[str]]]) -> None:
        """Remove documents that lost against another reader's, unless they are kept."""
        with self._database.read() as connection:
            kept = {
                row.sha256
                for document, _ in documents
                for row in reports.reports_of_study(connection, document.study_id)
            }
        self._store.remove_reports({one.sha256 for one, _ in documents} - kept)

    def _documents(
        self, result: Result, new: NewAssessment
    ) -> list[tuple[NewReport, tuple[str, ...]]]:
        """Write the decision in every SR class that the result has."""
        # highdicom takes a second to import, which a list need not wait for.
        from worker.report.assessment import build_assessment  # noqa: PLC0415
        from worker.report.vocabulary import Vocabulary  # noqa: PLC0415

        reading = _answer(result)
        sources = self._sources(result)
        documents = []
        for row, names in self._own_documents(result, _READING):
            before = self._before(result, row)
            context = self._context(result, new, row.sop_class_uid, before[-1])
            data = build_assessment(
                new.assessment,
                reading,
                sources,
                context,
                assessed=before,
                vocabulary=Vocabulary.of(self._settings.review),
            )
            documents.append((self._stored(new, context, data, row.id), names))
        return documents

    def _withdrawal(
        self, result: Result, new: NewAssessment, *, for_safety: bool
    ) -> tuple[NewReport, tuple[str, ...]]:
        from worker.report.withdrawal import build_withdrawal  # noqa: PLC0415

        left, names = self._what_left(result)
        context = self._context(result, new, _WITHDRAWAL_CLASS, None)
        data = build_withdrawal(
            new.assessment,
            _answer(result),
            self._sources(result),
            context,
            withdrawn=left,
            for_safety=for_safety,
        )
        return self._stored(new, context, data, None), names

    def _what_left(
        self, result: Result
    ) -> tuple[list["PredecessorReport"], tuple[str, ...]]:
        """Return all documents of a result, and the destinations that may have one."""
        gone = {DeliveryState.SENDING, DeliveryState.DELIVERED, DeliveryState.FAILED}
        with self._database.read() as connection:
            rows = [
                row
                for row in reports.reports_of_study(connection, result.job.study_id)
                if row.job_id == result.job.id
            ]
            ids = {row.id for row in rows}
            names = {
                one.destination: None
                for one in deliveries.deliveries_of_study(
                    connection, result.job.study_id
                )
                # A postponed attempt may have arrived without its answer.
                if one.report_id in ids and (one.state in gone or one.attempts)
            }
        return [_reference(row, result) for row in rows], tuple(names)

    def _own_documents(
        self, result: Result, kind: str
    ) -> list[tuple[ReportRow, tuple[str, ...]]]:
        """Return the result's documents of a kind, each with its destinations."""
        with self._database.read() as connection:
            rows = [
                row
                for row in reports.reports_of_study(connection, result.job.study_id)
                if row.job_id == result.job.id and row.document_kind == kind
            ]
            sent = deliveries.deliveries_of_study(connection, result.job.study_id)
        return [
            (
                row,
                tuple(
                    one.destination
                    for one in sent
                    if one.report_id == row.id
                    and one.state is not DeliveryState.GIVEN_UP
                ),
            )
            for row in rows
        ]

    def _before(self, result: Result, row: ReportRow) -> list["PredecessorReport"]:
        """Return the result's document and the decision that holds, oldest first."""
        before = [_reference(row, result)]
        holds = result.standing
        if holds is not None:
            kind = assessments.document_kind(holds.decision, holds.number)
            before += [
                _reference(earlier, result)
                for earlier, _ in self._own_documents(result, kind)
                if earlier.sop_class_uid == row.sop_class_uid
            ]
        return before

    def _sources(self, result: Result) -> "list[Dataset]":
        from worker.pipeline import source_headers  # noqa: PLC0415

        with self._database.read() as connection:
            rows = studies.instances_of_content_set(connection, result.job.content_set)
        instances = tuple(
            SourceInstance(
                path=str(self._store.path_of(row.sha256)),
                sop_class_uid=row.sop_class_uid,
                sop_instance_uid=row.sop_instance_uid,
                series_instance_uid=row.series_instance_uid,
            )
            for row in rows
        )
        return source_headers(instances, result.reading)

    def _context(
        self,
        result: Result,
        new: NewAssessment,
        sop_class_uid: str,
        predecessor: "PredecessorReport | None",
    ) -> "ReportContext":
        from worker.report.context import DeviceIdentity, ReportContext  # noqa: PLC0415

        withdrawn = new.assessment.decision is Decision.WITHDRAWN
        uid = self._installation_uid
        return ReportContext(
            report_key=(
                result.study_instance_uid,
                result.job.bundle_sha256,
                result.job.content_set,
            ),
            device=DeviceIdentity(
                observer_uid=uid,
                name="secondread",
                model_name=result.job.model,
                serial_number=uid.removeprefix("2.25.")[:16],
                software_versions=(f"secondread {version('secondread')}",),
            ),
            created_at=datetime.fromtimestamp(new.decided_at, UTC),
            series_number=self._settings.report.series_number + new.number,
            document_kind="withdrawal" if withdrawn else "assessment",
            assessment_number=new.number,
            predecessor=predecessor,
            sop_class_uid=sop_class_uid,
        )

    def _stored(
        self,
        new: NewAssessment,
        context: "ReportContext",
        data: bytes,
        predecessor_id: int | None,
    ) -> NewReport:
        return NewReport(
            study_id=new.study_id,
            job_id=new.job_id,
            document_kind=assessments.document_kind(
                new.assessment.decision, new.number
            ),
            sop_class_uid=context.sop_class_uid,
            sop_instance_uid=context.sop_instance_uid,
            series_instance_uid=context.series_instance_uid,
            sha256=self._store.put_report(data),
            bytes=len(data),
            predecessor_id=predecessor_id,
        )


def _answer(result: Result) -> Analysed:
    if not isinstance(result.reading, Analysed):
        raise InvalidAssessment(
            f"result {result.job.id} is {result.reading.outcome}: there is no answer"
        )
    return result.reading


def _reference(row: ReportRow, result: Result) -> "PredecessorReport":
    from worker.report.context import PredecessorReport  # noqa: PLC0415

    return PredecessorReport(
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        series_instance_uid=row.series_instance_uid,
        study_instance_uid=result.study_instance_uid,
    )
