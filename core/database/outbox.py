"""The outbox: jobs that must be announced, written in the transaction that made them.

The message is only a doorbell. Announcing a job twice is harmless, losing a message
costs one sweep, and nothing that receives images ever waits for the broker.

Only so many messages of a priority are out at a time; the next ones follow as jobs are
claimed. So ten thousand waiting jobs are ten thousand rows here and a hundred messages
there, a STAT order never stands behind them, and what a sweep repeats stays little.
"""

import time
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from core.database.schema import job, outbox
from core.lifecycle import FailureReport, JobState
from core.settings import Priority

__all__ = [
    "Announcement",
    "add",
    "claimed",
    "is_waiting",
    "mark_published",
    "must_wait",
    "republish_stale",
    "unpublished",
]

_WINDOW = 100
"""Messages of one priority that are out: far more than the workers take at once."""

_RANK = case(
    {priority.value: priority.rank for priority in Priority},
    value=job.c.priority,
    else_=Priority.ROUTINE.rank,
)
_ADD = insert(outbox).from_select(
    ["job_id", "priority_rank", "created_at"],
    select(job.c.id, _RANK, bindparam("now")).where(job.c.id == bindparam("job")),
)
_PUBLISHED_BY_RANK = (
    select(outbox.c.priority_rank, func.count().label("out"))
    .where(outbox.c.published_at.is_not(None))
    .group_by(outbox.c.priority_rank)
)
_NEXT = (
    select(outbox.c.id, outbox.c.job_id)
    .where(outbox.c.published_at.is_(None), outbox.c.priority_rank == bindparam("rank"))
    .order_by(outbox.c.id)
    .limit(bindparam("room"))
)
_WAITS = or_(
    job.c.state == JobState.QUEUED.value,
    and_(
        job.c.state == JobState.FAILED.value,
        job.c.failure_report.in_(
            [FailureReport.PENDING.value, FailureReport.PENDING_AGAIN.value]
        ),
    ),
)


@dataclass(frozen=True)
class Announcement:
    """A job to be announced."""

    id: int
    job_id: int
    priority: Priority


def add(connection: Connection, job_id: int) -> None:
    """Ask for a job to be announced, in the caller's transaction."""
    connection.execute(_ADD, {"job": job_id, "now": time.time()})


def unpublished(connection: Connection) -> list[Announcement]:
    """Return what may be announced now: urgent jobs first, then oldest first."""
    rows = connection.execute(_PUBLISHED_BY_RANK)
    out = {row.priority_rank: row.out for row in rows}
    found: list[Announcement] = []
    for priority in Priority:
        room = _WINDOW - out.get(priority.rank, 0)
        if room > 0:
            rows = connection.execute(_NEXT, {"rank": priority.rank, "room": room})
            found += [Announcement(row.id, row.job_id, priority) for row in rows]
    return found


def is_waiting(connection: Connection) -> bool:
    """Tell whether anything waits to be announced, be its turn now or later."""
    query = select(outbox.c.id).where(outbox.c.published_at.is_(None)).limit(1)
    return connection.execute(query).first() is not None


def mark_published(connection: Connection, announcement_id: int) -> None:
    """Note that the message is out."""
    connection.execute(
        update(outbox)
        .where(outbox.c.id == announcement_id)
        .values(published_at=time.time())
    )


def claimed(connection: Connection, job_id: int) -> None:
    """Forget a job's messages, because somebody took it or closed it."""
    connection.execute(delete(outbox).where(outbox.c.job_id == job_id))


def must_wait(connection: Connection, job_id: int) -> None:
    """Forget a job's message that a worker heard while the job must wait for another.

    Whoever ends the other job announces this one; until then it takes no other's place.
    """
    queued = select(literal(1)).where(
        job.c.id == job_id, job.c.state == JobState.QUEUED.value
    )
    connection.execute(
        delete(outbox).where(
            outbox.c.job_id == job_id,
            outbox.c.published_at.is_not(None),
            queued.exists(),
        )
    )


def republish_stale(connection: Connection, *, older_than_s: float) -> int:
    """Announce again every waiting job whose last message is older than that.

    It keeps its place in the line, so that no other message goes out before somebody
    claims a job. What is out for jobs that wait no longer is forgotten.

    Returns
    -------
    How many jobs will be announced again.
    """
    old = outbox.c.published_at < time.time() - older_than_s
    waits = select(literal(1)).where(job.c.id == outbox.c.job_id, _WAITS).exists()
    last = outbox.alias("last")
    is_last = outbox.c.id == (
        select(func.max(last.c.id))
        .where(last.c.job_id == outbox.c.job_id)
        .scalar_subquery()
    )
    connection.execute(delete(outbox).where(old, ~and_(waits, is_last)))
    again = connection.execute(update(outbox).where(old).values(published_at=None))
    return again.rowcount
