"""The timeline of a study: what happened when, for whoever asks why it took so long."""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from core.database.schema import event

__all__ = ["EventRow", "events_of_study", "record"]


@dataclass(frozen=True)
class EventRow:
    """One thing that happened."""

    name: str
    at: float
    """Seconds since 1970, UTC."""
    detail: str | None
    job_id: int | None


def record(
    connection: Connection,
    study_id: int,
    name: str,
    *,
    job_id: int | None = None,
    detail: str | None = None,
    at: float | None = None,
) -> None:
    """Add an event to a study's timeline, in the caller's transaction."""
    connection.execute(
        insert(event).values(
            study_id=study_id,
            job_id=job_id,
            name=name,
            detail=detail,
            at=time.time() if at is None else at,
        )
    )


def events_of_study(connection: Connection, study_id: int) -> list[EventRow]:
    """Return a study's timeline in the order in which it was written."""
    rows = connection.execute(
        select(event.c.name, event.c.at, event.c.detail, event.c.job_id)
        .where(event.c.study_id == study_id)
        .order_by(event.c.id)
    )
    return [EventRow(row.name, row.at, row.detail, row.job_id) for row in rows]
