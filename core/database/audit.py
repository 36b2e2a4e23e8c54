"""Who looked at what and who did what: rows that are only ever added.

No patient data: a study is its UID, a person the name of an account. Triggers of the
database refuse to change or delete a row.
"""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from core.database.schema import audit

__all__ = ["AuditRow", "entries", "record"]


@dataclass(frozen=True)
class AuditRow:
    """One row of the table `audit`."""

    id: int
    at: float
    """Seconds since 1970, UTC."""
    who: str
    """Account; `-` for nobody who is known."""
    address: str
    """Where from; `cli` for the command line."""
    action: str
    study_instance_uid: str | None
    detail: str | None


def record(
    connection: Connection,
    *,
    who: str,
    address: str,
    action: str,
    study_instance_uid: str | None = None,
    detail: str | None = None,
) -> None:
    """Add a row, in the caller's transaction: no act without its row."""
    connection.execute(
        insert(audit).values(
            at=time.time(),
            who=who[:64],
            address=address[:64],
            action=action,
            study_instance_uid=study_instance_uid,
            detail=None if detail is None else detail[:200],
        )
    )


def entries(
    connection: Connection,
    *,
    study_instance_uid: str | None = None,
    limit: int = 200,
) -> list[AuditRow]:
    """Return the newest rows first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if study_instance_uid is not None:
        query = query.where(audit.c.study_instance_uid == study_instance_uid)
    return [AuditRow(**row._mapping) for row in connection.execute(query)]
