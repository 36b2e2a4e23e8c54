"""The report that tells of a failed job: written under a lease, tried twice at most."""

import secrets

from sqlalchemy import Connection, update

from core.database import events, outbox
from core.database.jobs import Claim, Documents, add_documents, job_by_id
from core.database.schema import job
from core.lifecycle import (
    FAILURE_REPORT_CLAIMED,
    FAILURE_REPORT_LOST,
    FailureReport,
    JobState,
)

__all__ = ["claim", "release", "store"]


def claim(connection: Connection, job_id: int, *, worker: str) -> Claim | None:
    """Take the right to write a failed job's report, under a lease like any job's."""
    token = secrets.token_hex(16)
    for before, after in FAILURE_REPORT_CLAIMED.items():
        taken = connection.execute(
            update(job)
            .where(
                job.c.id == job_id,
                job.c.state == JobState.FAILED.value,
                job.c.failure_report == before.value,
            )
            .values(
                failure_report=after.value,
                lease_token=token,
                heartbeat=0,
                worker=worker,
            )
        )
        row = job_by_id(connection, job_id) if taken.rowcount == 1 else None
        if row is not None:
            outbox.claimed(connection, job_id)
            return Claim(job_id, token, row)
    return None


def store(connection: Connection, held: Claim, documents: Documents) -> bool:
    """Keep the report of a failure, unless the job was retried meanwhile."""
    still = connection.execute(
        update(job)
        .where(
            job.c.id == held.job_id,
            job.c.state == JobState.FAILED.value,
            job.c.lease_token == held.lease_token,
        )
        .values(failure_report=None, lease_token=None)
    )
    if still.rowcount != 1:
        return False
    add_documents(connection, held.job, documents)
    return True


def release(connection: Connection, job_id: int, lease_token: str) -> bool:
    """Give a failure's report back unwritten: once it is tried again, then left."""
    row = job_by_id(connection, job_id)
    if row is None or row.lease_token != lease_token or row.failure_report is None:
        return False
    left = FAILURE_REPORT_LOST[FailureReport(row.failure_report)]
    connection.execute(
        update(job)
        .where(job.c.id == job_id, job.c.lease_token == lease_token)
        .values(failure_report=left.value if left else None, lease_token=None)
    )
    if left is None:
        events.record(connection, row.study_id, "no report of failure", job_id=job_id)
    else:
        outbox.add(connection, job_id)
    return True
