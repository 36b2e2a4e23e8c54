"""Reports: which document of which job was written, and its name in the store."""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from core.database.schema import job, report

__all__ = [
    "MACHINE_KINDS",
    "NewReport",
    "ReportRow",
    "add_report",
    "newest_report",
    "report_by_id",
    "reports_of_study",
]

MACHINE_KINDS = ("reading", "failure")


@dataclass(frozen=True)
class NewReport:
    """A report whose file is in the store already."""

    study_id: int
    job_id: int
    document_kind: str
    """`reading`, `failure`, or a reader's `assessment 1`, `withdrawal 2`."""
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    sha256: str
    """Of the whole file."""
    bytes: int
    predecessor_id: int | None


@dataclass(frozen=True)
class ReportRow(NewReport):
    """One row of the table `report`."""

    id: int
    created_at: float


def add_report(connection: Connection, new: NewReport) -> int:
    """Add a report; the same report again returns the row it has."""
    known = connection.execute(
        select(report.c.id).where(report.c.sop_instance_uid == new.sop_instance_uid)
    ).scalar()
    if known is not None:
        return int(known)
    result = connection.execute(
        insert(report).values(**vars(new), created_at=time.time())
    )
    (report_id,) = result.inserted_primary_key or (0,)
    return int(report_id)


def report_by_id(connection: Connection, report_id: int) -> ReportRow | None:
    """Return a report's row."""
    row = connection.execute(select(report).where(report.c.id == report_id)).first()
    return ReportRow(**row._mapping) if row else None


def reports_of_study(connection: Connection, study_id: int) -> list[ReportRow]:
    """Return a study's reports, oldest first."""
    rows = connection.execute(
        select(report).where(report.c.study_id == study_id).order_by(report.c.id)
    )
    return [ReportRow(**row._mapping) for row in rows]


def newest_report(
    connection: Connection, study_id: int, *, model: str, sop_class_uid: str
) -> ReportRow | None:
    """Return the report that a new one of the same study and model succeeds."""
    row = connection.execute(
        select(report)
        .join(job, job.c.id == report.c.job_id)
        .where(
            report.c.study_id == study_id,
            report.c.sop_class_uid == sop_class_uid,
            # A machine's report succeeds a machine's, never a reader's assessment.
            report.c.document_kind.in_(MACHINE_KINDS),
            job.c.model == model,
        )
        .order_by(report.c.id.desc())
        .limit(1)
    ).first()
    return ReportRow(**row._mapping) if row else None
