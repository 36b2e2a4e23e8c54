"""The outbox: jobs that must be announced, written in the transaction that made them.

The message is only a doorbell. Announcing a job twice is harmless, losing a message
costs one sweep, and nothing that receives images ever waits for the broker.
"""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from core.database.schema import job, outbox
from core.lifecycle import FailureReport, JobState
from core.settings import Priority

__all__ = ["Announcement", "add", "mark_published", "republish_stale", "unpublished"]


@dataclass(frozen=True)
class Announcement:
    """A job to be announced."""

    id: int
    job_id: int
    priority: Priority


def add(connection: Connection, job_id: int) -> None:
    """Ask for a job to be announced, in the caller's transaction."""
    connection.execute(insert(outbox).values(job_id=job_id, created_at=time.time()))


def unpublished(connection: Connection, limit: int = 100) -> list[Announcement]:
    """Return what must still be announced: urgent jobs first, then oldest first."""
    rows = connection.execute(
        select(outbox.c.id, outbox.c.job_id, job.c.priority)
        .join(job, job.c.id == outbox.c.job_id)
        .where(outbox.c.published_at.is_(None))
        .order_by(outbox.c.id)
        .limit(limit)
    )
    found = [Announcement(row.id, row.job_id, Priority(row.priority)) for row in rows]
    return sorted(found, key=lambda entry: (entry.priority.rank, entry.id))


def mark_published(connection: Connection, announcement_id: int) -> None:
    """Note that the message is out."""
    connection.execute(
        update(outbox)
        .where(outbox.c.id == announcement_id)
        .values(published_at=time.time())
    )


def republish_stale(connection: Connection, *, older_than_s: float) -> int:
    """Announce again every waiting job whose last message is older than that.

    Returns
    -------
    How many jobs will be announced again.
    """
    now = time.time()
    unwritten = [FailureReport.PENDING.value, FailureReport.PENDING_AGAIN.value]
    waiting = select(job.c.id).where(
        or_(
            job.c.state == JobState.QUEUED.value,
            and_(
                job.c.state == JobState.FAILED.value,
                job.c.failure_report.in_(unwritten),
            ),
        )
    )
    rows = connection.execute(
        select(outbox.c.job_id)
        .where(outbox.c.job_id.in_(waiting), outbox.c.published_at < now - older_than_s)
        .distinct()
    ).scalars()
    stale = set(rows)
    stale -= set(
        connection.execute(
            select(outbox.c.job_id).where(outbox.c.published_at.is_(None))
        ).scalars()
    )
    for job_id in sorted(stale):
        connection.execute(
            delete(outbox).where(
                outbox.c.job_id == job_id, outbox.c.published_at < now - older_than_s
            )
        )
        add(connection, job_id)
    return len(stale)
