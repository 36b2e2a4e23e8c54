"""What an operator asks of the index: lists across studies, jobs and deliveries.

Read only. Nothing here names a patient: a study is its UID, because the index keeps
nothing else of it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from core.database.jobs import OPEN_STATES
from core.database.schema import (
    conflict,
    delivery,
    event,
    instance,
    job,
    outbox,
    report,
    series,
    study,
)
from core.domain import NotAnalysed, reading_from_json
from core.lifecycle import DeliveryState, JobState, StudyState
from core.settings import Priority

__all__ = [
    "Backlog",
    "ConflictLine",
    "DeliveryLine",
    "DestinationLine",
    "JobLine",
    "SeriesLine",
    "Standing",
    "StudyLine",
    "backlog",
    "conflicts_of_study",
    "delivery_lines",
    "destination_lines",
    "find_studies",
    "job_lines",
    "recent_conflicts",
    "series_of_study",
    "study_lines",
]

_OPEN_DELIVERIES = frozenset(
    {DeliveryState.HELD, DeliveryState.WAITING, DeliveryState.SENDING}
)
_STUDIES_AT_ONCE = 500
"""Below SQLite's limit on the number of values in one statement."""


class Standing(StrEnum):
    """Where a study stands as a whole; every study has exactly one of these."""

    RECEIVING = "receiving"
    WAITING = "waiting"
    """Settled; a reading or a delivery is still to come."""
    REPORTED = "reported"
    NOT_ANALYSED = "not analysed"
    FAILED = "failed"


@dataclass(frozen=True)
class StudyLine:
    """One study in a list."""

    study_instance_uid: str
    standing: Standing
    why: str
    """What it waits for, why it was not analysed, or why it failed."""
    modalities: tuple[str, ...]
    instances: int
    outcomes: tuple[str, ...]
    """Of its jobs: `analysed`, `not-analysed`, `failed`."""
    calling_ae_title: str
    first_instance_at: float
    last_instance_at: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True)
class JobLine:
    """One job in a list."""

    id: int
    study_instance_uid: str
    model: str
    model_version: str
    state: JobState
    priority: Priority
    attempts: int
    outcome: str | None
    reason: str | None
    explanation: str | None
    rule: str
    worker: str | None
    created_at: float
    finished_at: float | None


@dataclass(frozen=True)
class DeliveryLine:
    """One delivery in a list."""

    id: int
    study_instance_uid: str
    sop_instance_uid: str
    """Of the report."""
    destination: str
    state: DeliveryState
    attempts: int
    due_at: float
    created_at: float
    delivered_at: float | None
    last_answer: str | None


@dataclass(frozen=True)
class SeriesLine:
    """One series of a study."""

    series_instance_uid: str
    modality: str
    instances: int
    bytes: int
    sop_class_uids: tuple[str, ...]
    transfer_syntax_uids: tuple[str, ...]
    own_results: int
    """Instances that are results of ours which came back."""


@dataclass(frozen=True)
class DestinationLine:
    """One destination and what it got."""

    name: str
    deliveries: Mapping[str, int]
    """State to number."""
    last_delivered_at: float | None


@dataclass(frozen=True)
class ConflictLine:
    """An instance that was refused: its UID is kept with other content."""

    sop_instance_uid: str
    calling_ae_title: str
    peer_address: str
    at: float


@dataclass(frozen=True)
class Backlog:
    """How much is open, for a health check."""

    studies: int
    receiving: int
    jobs: Mapping[str, int]
    """State to number."""
    deliveries: Mapping[str, int]
    """State to number."""
    oldest_queued_at: float | None
    unannounced: int
    """Jobs whose message waits, for the broker or for its turn."""


def study_lines(
    connection: Connection,
    *,
    standing: Standing | None = None,
    modality: str | None = None,
    limit: int = 50,
) -> list[StudyLine]:
    """List studies, the last received first.

    Parameters
    ----------
    connection
        A reading transaction.
    standing, modality
        Only those; a study of several modalities counts for each of them.
    limit
        How many at most.
    """
    found: list[StudyLine] = []
    before: tuple[float, int] | None = None
    # Where a study stands is told by looking at it, so that many may be looked at.
    size = min(limit, _STUDIES_AT_ONCE) if standing is None else _STUDIES_AT_ONCE
    while len(found) < limit:
        page = _page_of_studies(connection, modality, before, size)
        if not page:
            break
        before = (page[-1].last_instance_at, page[-1].id)
        lines = _described(connection, page)
        found += [line for line in lines if standing in (None, line.standing)]
    return found[:limit]


def _page_of_studies(
    connection: Connection,
    modality: str | None,
    before: tuple[float, int] | None,
    size: int,
) -> Sequence[Row[tuple[object, ...]]]:
    query = select(study).order_by(study.c.last_instance_at.desc(), study.c.id.desc())
    if modality is not None:
        query = query.where(
            study.c.id.in_(
                select(series.c.study_id).where(series.c.modality == modality)
            )
        )
    if before is not None:
        at, identifier = before
        query = query.where(
            or_(
                study.c.last_instance_at < at,
                (study.c.last_instance_at == at) & (study.c.id < identifier),
            )
        )
    return connection.execute(query.limit(size)).all()


def _described(
    connection: Connection, rows: Sequence[Row[tuple[object, ...]]]
) -> list[StudyLine]:
    identifiers = [row.id for row in rows]
    jobs_by_study = _grouped(
        connection.execute(
            select(job).where(job.c.study_id.in_(identifiers)).order_by(job.c.id)
        )
    )
    deliveries_by_study = _grouped(
        connection.execute(
            select(report.c.study_id, delivery)
            .join(delivery, delivery.c.report_id == report.c.id)
            .where(report.c.study_id.in_(identifiers))
            .order_by(delivery.c.id)
        )
    )
    modalities_by_study = _grouped(
        connection.execute(
            select(series.c.study_id, series.c.modality)
            .where(series.c.study_id.in_(identifiers))
            .order_by(series.c.id)
        )
    )
    missing_by_study = _held_back(connection, identifiers)
    lines = []
    for row in rows:
        jobs = _current(jobs_by_study[row.id])
        standing, why = _standing(
            row, jobs, deliveries_by_study[row.id], missing_by_study.get(row.id)
        )
        lines.append(
            StudyLine(
                study_instance_uid=row.study_instance_uid,
                standing=standing,
                why=why,
                modalities=tuple(
                    dict.fromkeys(line.modality for line in modalities_by_study[row.id])
                ),
                instances=row.instance_count,
                outcomes=tuple(sorted({line.outcome for line in jobs if line.outcome})),
                calling_ae_title=row.calling_ae_title,
                first_instance_at=row.first_instance_at,
                last_instance_at=row.last_instance_at,
            )
        )
    return lines


def _held_back(connection: Connection, identifiers: list[int]) -> dict[int, str]:
    """Tell what studies wait for that have been quiet for long enough."""
    rows = connection.execute(
        select(event.c.study_id, event.c.detail)
        .where(event.c.study_id.in_(identifiers), event.c.name == "waiting")
        .order_by(event.c.id)
    )
    return {row.study_id: row.detail for row in rows if row.detail}


def _grouped(
    rows: Iterable[Row[tuple[object, ...]]],
) -> defaultdict[int, list[Row[tuple[object, ...]]]]:
    groups: defaultdict[int, list[Row[tuple[object, ...]]]] = defaultdict(list)
    for row in rows:
        groups[row.study_id].append(row)
    return groups


def _current(jobs: list[Row[tuple[object, ...]]]) -> list[Row[tuple[object, ...]]]:
    """Keep the last job of each model: a late instance's reading succeeds the first."""
    return list({line.model: line for line in jobs}.values())


def _standing(
    row: Row[tuple[object, ...]],
    jobs: list[Row[tuple[object, ...]]],
    deliveries: list[Row[tuple[object, ...]]],
    missing: str | None,
) -> tuple[Standing, str]:
    if row.state == StudyState.RECEIVING:
        return Standing.RECEIVING, missing or "more instances may come"
    failed = [line for line in jobs if line.state == JobState.FAILED]
    if failed:
        return Standing.FAILED, f"{failed[0].model}: {failed[0].reason or 'unknown'}"
    stuck = [line for line in deliveries if line.state == DeliveryState.FAILED]
    if stuck:
        answer = stuck[0].last_answer or "no answer"
        return Standing.FAILED, f"delivery to {stuck[0].destination}: {answer}"
    unfinished = [line for line in jobs if line.state in OPEN_STATES]
    if unfinished:
        return Standing.WAITING, _waits_for(unfinished[0])
    on_the_way = [line for line in deliveries if line.state in _OPEN_DELIVERIES]
    if on_the_way:
        return Standing.WAITING, _is_sent(on_the_way[0])
    return _outcome(row, jobs)


def _waits_for(line: Row[tuple[object, ...]]) -> str:
    if line.state == JobState.RUNNING:
        return f"{line.model} reads it, attempt {line.attempts}"
    if line.state == JobState.INFERRED:
        return f"its report by {line.model} is written"
    again = f" again after: {line.reason}" if line.reason else ""
    return f"queued for {line.model}{again}"


def _is_sent(line: Row[tuple[object, ...]]) -> str:
    if line.state == DeliveryState.HELD:
        return f"held for {line.destination} until a reader has decided"
    answer = f", last answer: {line.last_answer}" if line.last_answer else ""
    return f"delivery to {line.destination}, attempt {line.attempts}{answer}"


def _outcome(
    row: Row[tuple[object, ...]], jobs: list[Row[tuple[object, ...]]]
) -> tuple[Standing, str]:
    done = [line for line in jobs if line.state == JobState.REPORTED]
    analysed = [line for line in done if line.outcome == "analysed"]
    if analysed:
        return Standing.REPORTED, ""
    if done:
        return Standing.NOT_ANALYSED, _why_not(done[0])
    if jobs:
        return Standing.NOT_ANALYSED, "dismissed by an operator"
    return Standing.NOT_ANALYSED, row.no_job_reason or "no rule asked for a reading"


def _why_not(line: Row[tuple[object, ...]]) -> str:
    reading = reading_from_json(line.reading) if line.reading else None
    if isinstance(reading, NotAnalysed):
        return f"{line.model}: {reading.reason.value}"
    return f"{line.model}: {line.outcome}"


def find_studies(connection: Connection, fragment: str, *, limit: int = 6) -> list[str]:
    """Find studies whose UID is, begins or ends with `fragment`.

    Returns
    -------
    Study Instance UIDs; the exact one alone if there is such a study.
    """
    exact = connection.execute(
        select(study.c.study_instance_uid).where(study.c.study_instance_uid == fragment)
    ).scalar()
    if exact is not None:
        return [exact]
    uid = study.c.study_instance_uid
    rows = connection.execute(
        select(uid)
        .where(
            or_(
                uid.startswith(fragment, autoescape=True),
                uid.endswith(fragment, autoescape=True),
            )
        )
        .order_by(study.c.id.desc())
        .limit(limit)
    ).scalars()
    return list(rows)


def job_lines(
    connection: Connection,
    *,
    state: JobState | None = None,
    study_instance_uid: str | None = None,
    limit: int = 50,
) -> list[JobLine]:
    """List jobs, the newest first."""
    query = (
        select(
            job.c.id, study.c.study_instance_uid, job.c.model, job.c.model_version,
            job.c.state, job.c.priority, job.c.attempts, job.c.outcome, job.c.reason,
            job.c.explanation, job.c.rule, job.c.worker, job.c.created_at,
            job.c.finished_at,
        )
        .join(study, study.c.id == job.c.study_id)
        .order_by(job.c.id.desc())
        .limit(limit)
    )  # fmt: skip
    if state is not None:
        query = query.where(job.c.state == state.value)
    if study_instance_uid is not None:
        query = query.where(study.c.study_instance_uid == study_instance_uid)
    lines = []
    for row in connection.execute(query):
        values = dict(row._mapping)
        values["state"] = JobState(values["state"])
        values["priority"] = Priority(values["priority"])
        lines.append(JobLine(**values))
    return lines


def delivery_lines(
    connection: Connection,
    *,
    state: DeliveryState | None = None,
    study_instance_uid: str | None = None,
    limit: int = 50,
) -> list[DeliveryLine]:
    """List deliveries, the newest first."""
    query = (
        select(
            delivery.c.id, study.c.study_instance_uid, report.c.sop_instance_uid,
            delivery.c.destination, delivery.c.state, delivery.c.attempts,
            delivery.c.due_at, delivery.c.created_at, delivery.c.delivered_at,
            delivery.c.last_answer,
        )
        .join(report, report.c.id == delivery.c.report_id)
        .join(study, study.c.id == report.c.study_id)
        .order_by(delivery.c.id.desc())
        .limit(limit)
    )  # fmt: skip
    if state is not None:
        query = query.where(delivery.c.state == state.value)
    if study_instance_uid is not None:
        query = query.where(study.c.study_instance_uid == study_instance_uid)
    lines = []
    for row in connection.execute(query):
        values = dict(row._mapping)
        values["state"] = DeliveryState(values["state"])
        lines.append(DeliveryLine(**values))
    return lines


def series_of_study(connection: Connection, study_id: int) -> list[SeriesLine]:
    """List a study's series, the first received first."""
    rows = connection.execute(
        select(
            series.c.series_instance_uid,
            series.c.modality,
            instance.c.bytes,
            instance.c.sop_class_uid,
            instance.c.transfer_syntax_uid,
            instance.c.own_result,
        )
        .join(instance, instance.c.series_id == series.c.id)
        .where(series.c.study_id == study_id)
        .order_by(series.c.id, instance.c.id)
    )
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.series_instance_uid, []).append(row)
    return [
        SeriesLine(
            series_instance_uid=uid,
            modality=members[0].modality,
            instances=len(members),
            bytes=sum(row.bytes for row in members),
            sop_class_uids=tuple(dict.fromkeys(row.sop_class_uid for row in members)),
            transfer_syntax_uids=tuple(
                dict.fromkeys(row.transfer_syntax_uid for row in members)
            ),
            own_results=sum(row.own_result for row in members),
        )
        for uid, members in groups.items()
    ]


def conflicts_of_study(connection: Connection, study_id: int) -> int:
    """Count instances that were refused because their UID has other content."""
    return int(
        connection.execute(
            select(func.count())
            .select_from(conflict)
            .join(instance, instance.c.sop_instance_uid == conflict.c.sop_instance_uid)
            .where(instance.c.study_id == study_id)
        ).scalar_one()
    )


def destination_lines(connection: Connection) -> list[DestinationLine]:
    """Count the deliveries of each destination by state, and the last one's time."""
    rows = connection.execute(
        select(
            delivery.c.destination,
            delivery.c.state,
            func.count(),
            func.max(delivery.c.delivered_at),
        ).group_by(delivery.c.destination, delivery.c.state)
    )
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    last: dict[str, float | None] = {}
    for name, state, count, delivered_at in rows:
        counts[name][state] = int(count)
        if delivered_at is not None:
            last[name] = delivered_at
    return [
        DestinationLine(name, counts[name], last.get(name)) for name in sorted(counts)
    ]


def recent_conflicts(connection: Connection, *, limit: int = 20) -> list[ConflictLine]:
    """Return the last instances that were refused for other content, newest first."""
    rows = connection.execute(
        select(
            conflict.c.sop_instance_uid,
            conflict.c.calling_ae_title,
            conflict.c.peer_address,
            conflict.c.at,
        )
        .order_by(conflict.c.id.desc())
        .limit(limit)
    )
    return [ConflictLine(*row) for row in rows]


def backlog(connection: Connection) -> Backlog:
    """Count what is open."""
    studies = Counter(
        dict(_counts(connection, study.c.state)),
    )
    return Backlog(
        studies=studies.total(),
        receiving=studies[StudyState.RECEIVING.value],
        jobs=_counts(connection, job.c.state),
        deliveries=_counts(connection, delivery.c.state),
        oldest_queued_at=connection.execute(
            select(func.min(job.c.created_at)).where(
                job.c.state == JobState.QUEUED.value
            )
        ).scalar(),
        unannounced=connection.execute(
            select(func.count())
            .select_from(outbox)
            .where(outbox.c.published_at.is_(None))
        ).scalar_one(),
    )


def _counts(connection: Connection, column: object) -> dict[str, int]:
    rows = connection.execute(
        select(column, func.count()).group_by(column)  # type: ignore[call-overload]
    )
    return {row[0]: int(row[1]) for row in rows}
