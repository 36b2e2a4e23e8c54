"""Forgetting a study: its rows and files, as if it had never come."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from core.database import studies
from core.database.engine import Database
from core.database.jobs import OPEN_STATES, jobs_of_study
from core.database.reports import reports_of_study
from core.database.schema import conflict, instance, report, study
from core.errors import IllegalTransition, StoreUnavailable
from core.lifecycle import JobState
from core.log import get_log
from dicom_node.instance_store import InstanceStore
from dicom_node.segment_log import ask_for_scrubbing

__all__ = ["Forgotten", "forget_study"]

# A statement of SQLite may have 32766 parameters and must not grow with a study.
_CHUNK = 10_000


@dataclass(frozen=True)
class Forgotten:
    """How much is gone."""

    instances: int
    jobs: int
    reports: int
    files: int


def forget_study(
    database: Database,
    store: InstanceStore,
    study_instance_uid: str,
    *,
    force: bool = False,
) -> Forgotten:
    """Remove a study from the index, then the files that nothing else names.

    The rows go first: a kill in between leaves files that nobody names. The next start
    of the node takes them in again, so the study is visibly still there and can be
    forgotten again; there is never a row without its file.

    Parameters
    ----------
    database, store
        Index and files.
    study_instance_uid
        Which study.
    force
        Whether to do it while one of its jobs runs. The worker then loses its lease and
        writes nothing.

    Raises
    ------
    StoreUnavailable
        If there is no such study, or the files cannot be removed.
    IllegalTransition
        If a job of it runs and `force` is not given; then nothing was removed.
    """
    with database.write() as connection:
        row = studies.study_by_uid(connection, study_instance_uid)
        if row is None:
            raise StoreUnavailable(
                f"there is no study {study_instance_uid}; `secondread studies` lists "
                "what is there"
            )
        jobs = jobs_of_study(connection, row.id)
        running = [job.id for job in jobs if job.state in _RUNNING]
        if running and not force:
            raise IllegalTransition(
                f"job {running[0]} of study {study_instance_uid} is running; wait for "
                "its end or force it. Nothing was removed"
            )
        reports = reports_of_study(connection, row.id)
        report_names = {entry.sha256 for entry in reports}
        uids, names = _instances(connection, row.id)
        for chunk in _chunks(uids):
            connection.execute(
                delete(conflict).where(conflict.c.sop_instance_uid.in_(chunk))
            )
        connection.execute(delete(study).where(study.c.id == row.id))
    with database.read() as connection:
        # No index leads from content to rows, because only this question needs one: all
        # rows are read, which holds nobody up.
        names -= _still_named(connection, names, instance.c.sha256)
        report_names -= _still_named(connection, report_names, report.c.sha256)
    store.remove(names)
    store.remove_reports(report_names)
    ask_for_scrubbing(store.root)
    forgotten = Forgotten(
        instances=len(uids),
        jobs=len(jobs),
        reports=len(reports),
        files=len(names) + len(report_names),
    )
    get_log().info(
        "study_forgotten",
        study_instance_uid=study_instance_uid,
        instances=forgotten.instances,
    )
    return forgotten


_RUNNING = frozenset(OPEN_STATES) - {JobState.QUEUED}


def _instances(connection: Connection, study_id: int) -> tuple[set[str], set[str]]:
    rows = connection.execute(
        select(instance.c.sop_instance_uid, instance.c.sha256).where(
            instance.c.study_id == study_id
        )
    ).all()
    return {row.sop_instance_uid for row in rows}, {row.sha256 for row in rows}


def _still_named(
    connection: Connection, names: Collection[str], column: object
) -> set[str]:
    found: set[str] = set()
    for chunk in _chunks(names):
        found |= set(
            connection.execute(
                select(column).where(column.in_(chunk))  # type: ignore[attr-defined, call-overload]
            ).scalars()
        )
    return found


def _chunks(values: Collection[str]) -> list[list[str]]:
    ordered = sorted(values)
    return [ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK)]
