"""Jobs: one row per (study, model package, content set), moved by fenced updates.

A worker that claims a job gets a random lease token. Every later change names it, so a
worker that was frozen and wakes up after its job was given to another one changes
nothing (0 rows) and stops. The lease lives by a counter that the worker increments and
that the node watches with its own monotonic clock: no clocks of two hosts are compared.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.database import deliveries, events, outbox
from core.database.reports import NewReport, add_report
from core.database.schema import job
from core.errors import IllegalTransition
from core.lifecycle import (
    JOB_TRANSITIONS,
    FailureReport,
    JobEvent,
    JobState,
)
from core.settings import Priority

__all__ = [
    "OPEN_STATES",
    "Beat",
    "Claim",
    "JobRow",
    "NewJob",
    "add_documents",
    "add_job",
    "beat",
    "claim",
    "commit_reading",
    "dismiss",
    "fail",
    "give_back",
    "job_by_id",
    "jobs_of_study",
    "leases",
    "retry",
    "set_child",
    "store_report",
]

Documents = Sequence[tuple[NewReport, Sequence[str]]]
"""Reports, each with the names of the destinations it goes to."""

OPEN_STATES = (JobState.QUEUED, JobState.RUNNING, JobState.INFERRED)
"""A reading is still to come."""


@dataclass(frozen=True)
class NewJob:
    """A reading to be made."""

    study_id: int
    model: str
    model_version: str
    bundle_sha256: str
    content_set: str
    rule: str
    destinations: tuple[str, ...]
    priority: Priority


@dataclass(frozen=True)
class JobRow:
    """One row of the table `job`."""

    id: int
    study_id: int
    model: str
    model_version: str
    bundle_sha256: str
    content_set: str
    rule: str
    destinations: tuple[str, ...]
    priority: Priority
    state: JobState
    attempts: int
    lease_token: str | None
    heartbeat: int
    worker: str | None
    child_pid: int | None
    reason: str | None
    explanation: str | None
    reading: str | None
    outcome: str | None
    timings: Mapping[str, float] | None
    failure_report: str | None
    created_at: float
    started_at: float | None
    inferred_at: float | None
    finished_at: float | None


@dataclass(frozen=True)
class Claim:
    """The right to run one job, until the lease is taken back."""

    job_id: int
    lease_token: str
    job: JobRow


@dataclass(frozen=True)
class Beat:
    """A running job's lease as the node sees it."""

    job_id: int
    lease_token: str
    heartbeat: int
    attempts: int


def add_job(connection: Connection, new: NewJob) -> int | None:
    """Queue a job and ask for it to be announced; a second time adds nothing.

    Returns
    -------
    The job's id, or None if this reading was asked for before.
    """
    try:
        with connection.begin_nested():
            result = connection.execute(
                insert(job).values(
                    study_id=new.study_id,
                    model=new.model,
                    model_version=new.model_version,
                    bundle_sha256=new.bundle_sha256,
                    content_set=new.content_set,
                    rule=new.rule,
                    destinations=list(new.destinations),
                    priority=new.priority.value,
                    state=JobState.QUEUED.value,
                    attempts=0,
                    heartbeat=0,
                    created_at=time.time(),
                )
            )
    except IntegrityError:
        return None
    (job_id,) = result.inserted_primary_key or (0,)
    outbox.add(connection, job_id)
    events.record(connection, new.study_id, "queued", job_id=job_id, detail=new.model)
    return int(job_id)


def job_by_id(connection: Connection, job_id: int) -> JobRow | None:
    """Return a job's row."""
    row = connection.execute(select(job).where(job.c.id == job_id)).one_or_none()
    return _job_row(row._mapping) if row else None


def jobs_of_study(connection: Connection, study_id: int) -> list[JobRow]:
    """Return a study's jobs, oldest first."""
    rows = connection.execute(
        select(job).where(job.c.study_id == study_id).order_by(job.c.id)
    )
    return [_job_row(row._mapping) for row in rows]


def _job_row(mapping: Mapping[Any, Any]) -> JobRow:
    values = dict(mapping)
    values["state"] = JobState(values["state"])
    values["priority"] = Priority(values["priority"])
    values["destinations"] = tuple(values["destinations"])
    return JobRow(**values)


def claim(
    connection: Connection, job_id: int, *, worker: str, child_pid: int | None = None
) -> Claim | None:
    """Take a queued job, counting the attempt before anything is run.

    A job waits while an older one of the same study and model is open, so that its
    report can name the older one as its predecessor.

    Parameters
    ----------
    connection
        A writing transaction.
    job_id
        Of a message, so any number.
    worker
        Who takes it.
    child_pid
        The process that is going to read it.

    Returns
    -------
    None if the job is not queued (any more), is unknown, or must wait.
    """
    older = job.alias("older")
    must_wait = exists(
        select(older.c.id).where(
            older.c.study_id == job.c.study_id,
            older.c.model == job.c.model,
            older.c.id < job.c.id,
            older.c.state.in_([state.value for state in OPEN_STATES]),
        )
    )
    token = secrets.token_hex(16)
    claimed = connection.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state == JobState.QUEUED.value, ~must_wait)
        .values(
            state=JOB_TRANSITIONS[JobState.QUEUED, JobEvent.CLAIM].value,
            attempts=job.c.attempts + 1,
            lease_token=token,
            heartbeat=0,
            worker=worker,
            child_pid=child_pid,
            started_at=time.time(),
        )
    )
    if claimed.rowcount != 1:
        outbox.must_wait(connection, job_id)
        return None
    row = job_by_id(connection, job_id)
    if row is None:
        return None
    outbox.claimed(connection, job_id)
    events.record(
        connection, row.study_id, "started", job_id=job_id,
        detail=f"attempt {row.attempts}",
    )  # fmt: skip
    return Claim(job_id, token, row)


def beat(connection: Connection, held: Claim) -> bool:
    """Show that a claimed job is alive.

    Returns
    -------
    False if the lease is lost: stop at once and write nothing.
    """
    result = connection.execute(
        update(job)
        .where(job.c.id == held.job_id, job.c.lease_token == held.lease_token)
        .values(heartbeat=job.c.heartbeat + 1)
    )
    return result.rowcount == 1


def set_child(connection: Connection, held: Claim, child_pid: int) -> bool:
    """Note which process reads the job; False if the lease is lost."""
    result = connection.execute(
        update(job)
        .where(job.c.id == held.job_id, job.c.lease_token == held.lease_token)
        .values(child_pid=child_pid)
    )
    return result.rowcount == 1


def commit_reading(
    connection: Connection,
    held: Claim,
    *,
    reading: str,
    outcome: str,
    timings: Mapping[str, float],
) -> bool:
    """Keep what the model said, once and for all; False if the lease is lost."""
    committed = _apply(
        connection,
        held.job_id,
        JobEvent.READING_COMMITTED,
        lease_token=held.lease_token,
        reading=reading,
        outcome=outcome,
        timings=dict(timings),
        reason=None,
        explanation=None,
        # Part of the report: writing it again must give the same bytes.
        inferred_at=func.coalesce(job.c.inferred_at, time.time()),
    )
    if committed:
        _note(connection, held, "read", outcome)
    return committed


def store_report(
    connection: Connection,
    held: Claim,
    documents: Documents,
    *,
    timings: Mapping[str, float],
    hold: bool = False,
) -> bool:
    """Finish a job: its report and the report's deliveries, in one transaction.

    Parameters
    ----------
    connection
        A writing transaction.
    held
        The claim under which the reading was committed.
    documents
        The report in each SR class that is needed, with the destinations of each.
    timings
        Stage to seconds.
    hold
        Whether the report leaves only after a reader's decision.

    Returns
    -------
    False if the lease is lost; then the transaction must be left without a commit of
    anything else.
    """
    finished = _apply(
        connection,
        held.job_id,
        JobEvent.REPORT_STORED,
        lease_token=held.lease_token,
        timings=dict(timings),
        finished_at=time.time(),
        child_pid=None,
    )
    if not finished:
        return False
    add_documents(connection, held.job, documents, hold=hold)
    _announce_next(connection, held.job.study_id, held.job.model)
    return True


def give_back(
    connection: Connection,
    job_id: int,
    lease_token: str,
    *,
    reason: str,
    explanation: str,
    maximum_attempts: int,
    count_attempt: bool = True,
    report_failure: bool = True,
) -> JobState | None:
    """End an attempt that brought no reading: queue the job again, or fail it for good.

    Parameters
    ----------
    connection
        A writing transaction.
    job_id, lease_token
        Which job, and under which lease it is held.
    reason, explanation
        Why the attempt ended; shown to the operator.
    maximum_attempts
        After so many attempts the job is `failed`.
    count_attempt
        False when the attempt was ended by us (a stopping worker), not by the study.
    report_failure
        Whether a job that fails now gets a report that says so.

    Returns
    -------
    The new state, or None if the lease was lost meanwhile.
    """
    row = job_by_id(connection, job_id)
    if row is None or row.lease_token != lease_token:
        return None
    attempts = row.attempts if count_attempt else row.attempts - 1
    if attempts >= maximum_attempts:
        return fail(
            connection,
            job_id,
            lease_token=lease_token,
            reason=reason,
            explanation=explanation,
            report_failure=report_failure,
        )
    changed = _apply(
        connection,
        job_id,
        JobEvent.GIVE_BACK,
        lease_token=lease_token,
        attempts=attempts,
        reason=reason,
        explanation=explanation,
        child_pid=None,
    )
    if not changed:
        return None
    events.record(
        connection, row.study_id, "attempt ended", job_id=job_id, detail=reason
    )
    outbox.add(connection, job_id)
    return JobState.QUEUED


def fail(
    connection: Connection,
    job_id: int,
    *,
    lease_token: str | None,
    reason: str,
    explanation: str,
    report_failure: bool = True,
) -> JobState | None:
    """Fail a job for good, in sight, and ask for the report that says so."""
    changed = _apply(
        connection,
        job_id,
        JobEvent.FAIL,
        lease_token=lease_token,
        reason=reason,
        explanation=explanation,
        outcome="failed",
        failure_report=FailureReport.PENDING.value if report_failure else None,
        child_pid=None,
        finished_at=time.time(),
    )
    row = job_by_id(connection, job_id)
    if not changed or row is None:
        return None
    events.record(connection, row.study_id, "failed", job_id=job_id, detail=reason)
    if report_failure:
        outbox.add(connection, job_id)
    _announce_next(connection, row.study_id, row.model)
    return JobState.FAILED


def add_documents(
    connection: Connection, row: JobRow, documents: Documents, *, hold: bool = False
) -> None:
    """Keep a job's reports and make them due, in the caller's transaction."""
    for new, destinations in documents:
        report_id = add_report(connection, new)
        deliveries.add(connection, report_id, destinations, held=hold)
    kinds = ", ".join(sorted({new.document_kind for new, _ in documents}))
    events.record(
        connection, row.study_id, "report stored", job_id=row.id, detail=kinds
    )


def retry(connection: Connection, job_id: int) -> None:
    """Queue a failed or dismissed job again, with all its attempts.

    Raises
    ------
    IllegalTransition
        If the job is unknown or in another state.
    """
    _must_apply(
        connection,
        job_id,
        JobEvent.RETRY,
        attempts=0,
        failure_report=None,
        outcome=None,
        finished_at=None,
    )
    outbox.add(connection, job_id)
    row = job_by_id(connection, job_id)
    if row is not None:
        events.record(connection, row.study_id, "retried", job_id=job_id)


def dismiss(connection: Connection, job_id: int) -> None:
    """Close a queued or failed job without a reading.

    Raises
    ------
    IllegalTransition
        If the job is unknown or in another state.
    """
    _must_apply(connection, job_id, JobEvent.DISMISS, finished_at=time.time())
    outbox.claimed(connection, job_id)
    row = job_by_id(connection, job_id)
    if row is not None:
        events.record(connection, row.study_id, "dismissed", job_id=job_id)
        _announce_next(connection, row.study_id, row.model)


def leases(connection: Connection) -> list[Beat]:
    """List the leases of all claimed jobs and failure reports, for the sweep."""
    rows = connection.execute(
        select(job.c.id, job.c.lease_token, job.c.heartbeat, job.c.attempts).where(
            job.c.lease_token.is_not(None)
        )
    )
    return [Beat(*row) for row in rows]


def _apply(
    connection: Connection,
    job_id: int,
    event: JobEvent,
    *,
    lease_token: str | None,
    **values: object,
) -> bool:
    """Move a job by `event` if its state allows it and the lease is held."""
    for (before, known), after in JOB_TRANSITIONS.items():
        if known is not event:
            continue
        conditions = [job.c.id == job_id, job.c.state == before.value]
        if lease_token is not None:
            conditions.append(job.c.lease_token == lease_token)
        if after not in (JobState.RUNNING, JobState.INFERRED):
            values["lease_token"] = None
        result = connection.execute(
            update(job).where(*conditions).values(state=after.value, **values)
        )
        if result.rowcount == 1:
            return True
    return False


def _must_apply(
    connection: Connection, job_id: int, event: JobEvent, **values: object
) -> None:
    if _apply(connection, job_id, event, lease_token=None, **values):
        return
    row = job_by_id(connection, job_id)
    state = f"is {row.state.value}" if row else "does not exist"
    raise IllegalTransition(
        f"job {job_id} {state}; {event.value!r} is not possible and nothing was changed"
    )


def _note(connection: Connection, held: Claim, name: str, detail: str) -> None:
    events.record(
        connection, held.job.study_id, name, job_id=held.job_id, detail=detail
    )


def _announce_next(connection: Connection, study_id: int, model: str) -> None:
    """Announce the job that had to wait for its predecessor."""
    waiting = connection.execute(
        select(job.c.id)
        .where(
            job.c.study_id == study_id,
            job.c.model == model,
            job.c.state == JobState.QUEUED.value,
        )
        .order_by(job.c.id)
        .limit(1)
    ).scalar()
    if waiting is not None:
        outbox.add(connection, int(waiting))
