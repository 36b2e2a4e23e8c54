"""The worklist: one row a study that says what to read next, and finds it again.

It is written behind the index from what happened (the table `event`), so that nothing
on the receiving path knows of it, and it can be made again at any time.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    delete,
    func,
    insert,
    select,
    update,
)

from core.database import assessments, jobs, studies
from core.database.jobs import OPEN_STATES, JobRow
from core.database.schema import (
    delivery,
    event,
    instance,
    report,
    series,
    study,
    worklist,
)
from core.domain import (
    Failed,
    Finding,
    NotAnalysed,
    Presence,
    Reading,
    reading_from_json,
)
from core.lifecycle import DeliveryState, JobState, StudyState

__all__ = [
    "SORTS",
    "PatientFacts",
    "Practice",
    "WorklistFilter",
    "WorklistPage",
    "WorklistState",
    "changed_studies",
    "entry_of_study",
    "folded",
    "has_patient",
    "last_event",
    "newest_event_known",
    "next_unreviewed",
    "page",
    "practice",
    "priors",
    "receiving_studies",
    "refresh",
]

NO_PROBABILITY = -1.0
SEARCHED = 500
"""Characters of the search text; PostgreSQL's indexes take 2704 bytes at most."""


class WorklistState(StrEnum):
    """What a reader has to know of a study; in the order in which it is read."""

    UNREVIEWED = "unreviewed"
    FAILED = "failed"
    WAITING = "waiting"
    """Queued, being read, or its report is written."""
    RECEIVING = "receiving"
    NOT_ANALYSED = "not analysed"
    REJECTED = "rejected"
    AMENDED = "amended"
    ACCEPTED = "accepted"
    WITHDRAWN = "withdrawn"


_RANK = {state: rank for rank, state in enumerate(WorklistState)}
_PRESENCE_RANK = {Presence.PRESENT: 0, Presence.UNDETERMINED: 1, Presence.ABSENT: 2}

_ID = worklist.c.study_id
# The last column makes the order total, and runs the way the index does.
SORTS: Mapping[str, Sequence[ColumnElement[object]]] = {
    "urgency": (worklist.c.urgency, worklist.c.received_at, _ID),
    "newest": (worklist.c.received_at.desc(), _ID.desc()),
    "oldest": (worklist.c.received_at, _ID),
    "probability": (worklist.c.probability.desc(), _ID.desc()),
    "patient": (worklist.c.patient_name, _ID),
}
"""How the list can be sorted; each has its index."""


@dataclass(frozen=True)
class PatientFacts:
    """What one header of a study says of its patient; empty where it does not."""

    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_description: str = ""
    accession_number: str = ""


@dataclass(frozen=True)
class WorklistFilter:
    """What a list is narrowed to; the empty one shows every study there is."""

    text: str = ""
    """Words that must all occur in name, ID, accession number, description or UID."""
    state: str = ""
    modality: str = ""
    sort: str = "urgency"
    page: int = 1


@dataclass(frozen=True)
class WorklistPage:
    """One page and how much there is."""

    rows: Sequence[Row[tuple[object, ...]]]
    total: int
    by_state: Mapping[str, int]
    """With the same text and modality, whatever the state."""
    page: int
    pages: int


def folded(text: str) -> str:
    """Fold a text for searching: case, width and accents do not matter."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    return plain.casefold()


# -- reading ---------------------------------------------------------------------------


def page(
    connection: Connection, wanted: WorklistFilter, *, size: int = 50
) -> WorklistPage:
    """Return a page of the list; a page past the end is the last one."""
    looked_for = _narrowing(connection, wanted, worklist)
    counts = connection.execute(
        select(worklist.c.state, func.count())
        .where(*looked_for)
        .group_by(worklist.c.state)
    )
    by_state = {str(state): int(count) for state, count in counts}
    total = by_state.get(wanted.state, 0) if wanted.state else sum(by_state.values())
    pages = max(1, -(-total // size))
    number = min(max(1, wanted.page), pages)
    narrowed: list[ColumnElement[bool]] = []
    if looked_for:
        # Found in the index of texts first, sorted after.
        fitting = worklist.alias("fitting")
        found = select(fitting.c.study_id)
        found = found.where(*_narrowing(connection, wanted, fitting))
        narrowed.append(worklist.c.study_id.in_(found))
    if wanted.state:
        narrowed.append(worklist.c.state == wanted.state)
    order = SORTS.get(wanted.sort, SORTS["urgency"])
    rows = connection.execute(
        select(worklist)
        .where(*narrowed)
        .order_by(*order)
        .limit(size)
        .offset((number - 1) * size)
    ).all()
    return WorklistPage(rows, total, by_state, number, pages)


def _narrowing(
    connection: Connection, wanted: WorklistFilter, table: FromClause
) -> list[ColumnElement[bool]]:
    """Return what must be found in a row's texts.

    One index holds state, modalities and search text, and is read from end to end: a
    tenth of the table, and ten times faster than LIKE over its rows.
    """
    # Both look for a text as it is; LIKE would have to escape it.
    position = func.instr if connection.dialect.name == "sqlite" else func.strpos
    conditions = [
        position(table.c.search_text, word) > 0
        for word in folded(wanted.text).split()[:8]
    ]
    if wanted.modality:
        conditions.append(position(table.c.modalities, wanted.modality) > 0)
    return conditions


def entry_of_study(
    connection: Connection, study_instance_uid: str
) -> Row[tuple[object, ...]] | None:
    """Return a study's row."""
    return connection.execute(
        select(worklist).where(worklist.c.study_instance_uid == study_instance_uid)
    ).first()


def next_unreviewed(connection: Connection, *, after: str) -> str | None:
    """Return the most urgent unreviewed study beside `after`; None if there is none."""
    return connection.execute(
        select(worklist.c.study_instance_uid)
        .where(
            worklist.c.state == WorklistState.UNREVIEWED.value,
            worklist.c.study_instance_uid != after,
        )
        .order_by(worklist.c.urgency, worklist.c.received_at, worklist.c.study_id)
        .limit(1)
    ).scalar()


def priors(
    connection: Connection, study_id: int, patient_id: str, *, limit: int = 20
) -> Sequence[Row[tuple[object, ...]]]:
    """Return the patient's other studies, the newest first; none without an ID."""
    if not patient_id:
        return ()
    return connection.execute(
        select(worklist)
        .where(worklist.c.patient_id == patient_id, worklist.c.study_id != study_id)
        .order_by(worklist.c.study_date.desc(), worklist.c.received_at.desc())
        .limit(limit)
    ).all()


@dataclass(frozen=True)
class Practice:
    """How one version of a model does here."""

    answers: int
    by_state: Mapping[str, int]
    histogram: Sequence[int]
    """Answers by probability, in equal bins from 0 to 1."""

    @property
    def assessed(self) -> int:
        """How many answers a reader has decided on."""
        return sum(
            self.by_state.get(state.value, 0)
            for state in (
                WorklistState.ACCEPTED,
                WorklistState.AMENDED,
                WorklistState.REJECTED,
            )
        )

    @property
    def acceptance(self) -> float | None:
        """Share of accepted among assessed answers; None before the first."""
        accepted = self.by_state.get(WorklistState.ACCEPTED.value, 0)
        return accepted / self.assessed if self.assessed else None


def practice(connection: Connection, model: str, *, bins: int = 10) -> Practice:
    """Count what a model (`name version`) has answered, and what readers said."""
    rows = connection.execute(
        select(worklist.c.state, func.count())
        .where(worklist.c.model == model)
        .group_by(worklist.c.state)
    )
    by_state = {str(state): int(count) for state, count in rows}
    histogram = [0] * bins
    column = func.floor(worklist.c.probability * bins)
    counts = connection.execute(
        select(column, func.count())
        .where(worklist.c.model == model, worklist.c.probability >= 0)
        .group_by(column)
    )
    for number, count in counts:
        histogram[min(int(number), bins - 1)] += int(count)
    return Practice(sum(histogram), by_state, histogram)


# -- writing ---------------------------------------------------------------------------


def newest_event_known(connection: Connection) -> int:
    """Return up to which event the list has been written."""
    return int(
        connection.execute(select(func.max(worklist.c.last_event_id))).scalar() or 0
    )


def last_event(connection: Connection) -> int:
    """Return the last event there is."""
    return int(connection.execute(select(func.max(event.c.id))).scalar() or 0)


def changed_studies(
    connection: Connection, after: int, up_to: int
) -> list[tuple[int, int]]:
    """Return studies with an event after `after`, each with the last one up to `up_to`.

    Studies whose row has seen that event are left out.
    """
    newest = func.max(event.c.id)
    rows = connection.execute(
        select(event.c.study_id, newest)
        .outerjoin(worklist, worklist.c.study_id == event.c.study_id)
        .where(event.c.id > after, event.c.id <= up_to)
        .group_by(event.c.study_id, worklist.c.last_event_id)
        .having(newest > func.coalesce(worklist.c.last_event_id, 0))
    )
    return [(int(study_id), int(last)) for study_id, last in rows]


def receiving_studies(connection: Connection, *, limit: int = 200) -> list[int]:
    """Return studies that are coming in and whose row does not say so yet."""
    rows = connection.execute(
        select(study.c.id)
        .outerjoin(worklist, worklist.c.study_id == study.c.id)
        .where(
            study.c.state == StudyState.RECEIVING.value,
            worklist.c.instances.is_distinct_from(study.c.instance_count),
        )
        .order_by(study.c.last_instance_at.desc())
        .limit(limit)
    )
    return list(rows.scalars())


def has_patient(connection: Connection, study_id: int) -> bool:
    """Tell whether a study's row says whose it is."""
    return (
        connection.execute(
            select(worklist.c.study_id).where(
                worklist.c.study_id == study_id, worklist.c.search_text != ""
            )
        ).first()
        is not None
    )


def refresh(
    connection: Connection,
    study_id: int,
    patient: PatientFacts | None,
    *,
    last_event_id: int,
) -> bool:
    """Write a study's row anew from the index.

    Parameters
    ----------
    connection
        A writing transaction.
    study_id
        Row id of the study.
    patient
        From a header; None leaves what the row says.
    last_event_id
        What the row then knows of.

    Returns
    -------
    False if the study was forgotten.
    """
    row = studies.study_by_id(connection, study_id)
    if row is None:
        connection.execute(delete(worklist).where(worklist.c.study_id == study_id))
        return False
    modalities = list(
        connection.execute(
            select(series.c.modality)
            .join(instance, instance.c.series_id == series.c.id)
            .where(series.c.study_id == study_id, instance.c.own_result.is_(False))
            .group_by(series.c.modality)
            .order_by(func.min(series.c.id))
        ).scalars()
    )
    values: dict[str, object] = {
        "study_instance_uid": row.study_instance_uid,
        "modalities": " ".join(modalities)[:64],
        "received_at": row.first_instance_at,
        "instances": row.instance_count,
        "last_event_id": last_event_id,
        **_reading_values(connection, row),
    }
    known = connection.execute(
        select(worklist.c.study_id).where(worklist.c.study_id == study_id)
    ).first()
    if patient is not None or known is None:
        facts = patient or PatientFacts()
        values |= vars(facts)
        words = (*vars(facts).values(), row.study_instance_uid)
        values["search_text"] = folded("\n".join(words))[:SEARCHED] if patient else ""
    if known is None:
        connection.execute(insert(worklist).values(study_id=study_id, **values))
    else:
        connection.execute(
            update(worklist).where(worklist.c.study_id == study_id).values(**values)
        )
    return True


def _reading_values(connection: Connection, row: studies.StudyRow) -> dict[str, object]:
    newest = list(
        {one.model: one for one in jobs.jobs_of_study(connection, row.id)}.values()
    )
    standing = [_standing(connection, one) for one in newest]
    if not standing:
        receiving = row.state is StudyState.RECEIVING
        state = WorklistState.RECEIVING if receiving else WorklistState.NOT_ANALYSED
        why = "" if receiving else row.no_job_reason or "no rule asked for a reading"
        return _values(state, why, None, None)
    # The one that most needs a reader stands for the study.
    values = [_values(*one) for one in standing]
    chosen = min(values, key=lambda one: int(str(one["urgency"])))
    stuck = connection.execute(
        select(delivery.c.destination)
        .join(report, report.c.id == delivery.c.report_id)
        .where(
            report.c.study_id == row.id,
            delivery.c.state == DeliveryState.FAILED.value,
        )
    ).scalar()
    if stuck:
        chosen["why"] = f"delivery to {stuck} failed. {chosen['why']}".strip()[:300]
    return chosen


_Standing = tuple[WorklistState, str, JobRow, Finding | None]


def _standing(connection: Connection, job: JobRow) -> _Standing:
    if job.state is JobState.FAILED:
        return WorklistState.FAILED, job.reason or "unknown", job, None
    if job.state in OPEN_STATES:
        return WorklistState.WAITING, job.state.value, job, None
    if job.state is JobState.DISMISSED:
        return WorklistState.NOT_ANALYSED, "dismissed by an operator", job, None
    return _standing_of_reading(connection, job, reading_from_json(job.reading or ""))


def _standing_of_reading(
    connection: Connection, job: JobRow, reading: Reading
) -> _Standing:
    if isinstance(reading, NotAnalysed):
        return WorklistState.NOT_ANALYSED, reading.reason.value, job, None
    if isinstance(reading, Failed):
        return WorklistState.FAILED, reading.reason, job, None
    # Present before undetermined before absent, then by probability.
    finding = min(
        reading.findings,
        key=lambda one: (_PRESENCE_RANK[one.presence], -one.probability),
    )
    decided = assessments.standing(assessments.assessments_of_job(connection, job.id))
    if decided is None:
        return WorklistState.UNREVIEWED, "", job, finding
    by = f"by {decided.assessment.reader.shown_name or decided.assessment.reader.login}"
    return WorklistState(decided.decision.value), by, job, finding


def _values(
    state: WorklistState, why: str, job: JobRow | None, finding: Finding | None
) -> dict[str, object]:
    presence = _PRESENCE_RANK[finding.presence] if finding else 3
    priority = job.priority.rank if job else 3
    return {
        "state": state.value,
        "why": why[:300],
        "urgency": _RANK[state] * 100 + priority * 10 + presence,
        "priority": job.priority.value if job else "",
        "model": f"{job.model} {job.model_version}"[:130] if job else "",
        "finding": finding.code.meaning if finding else "",
        "presence": finding.presence.value if finding else "",
        "probability": finding.probability if finding else NO_PROBABILITY,
    }
