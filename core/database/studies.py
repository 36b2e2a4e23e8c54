"""Studies and their instances: what was received, what is known, what is settled."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select, update

from core.database import events
from core.database.recording import (
    Recorded,
    known_instance,
    record_conflict,
    record_instance,
    record_instances,
)
from core.database.schema import content_set_instance, instance, series, study
from core.lifecycle import StudyState
from core.settings import Priority

__all__ = [
    "ContentInstance",
    "ContentSet",
    "Recorded",
    "StudyRow",
    "content_set_of",
    "first_image_uid",
    "first_instance",
    "instance_of_study",
    "instances_of_content_set",
    "known_instance",
    "note_no_job",
    "record_conflict",
    "record_instance",
    "record_instances",
    "settle_study",
    "studies_in_state",
    "study_by_id",
    "study_by_uid",
]


@dataclass(frozen=True)
class StudyRow:
    """One row of the table `study`."""

    id: int
    study_instance_uid: str
    state: StudyState
    settle_reason: str | None
    content_set: str | None
    order_priority: Priority
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    instance_count: int
    first_instance_at: float
    last_instance_at: float
    settled_at: float | None
    no_job_reason: str | None


def study_by_id(connection: Connection, study_id: int) -> StudyRow | None:
    """Return a study's row."""
    row = connection.execute(select(study).where(study.c.id == study_id)).one_or_none()
    return _study_row(row) if row else None


def study_by_uid(connection: Connection, study_instance_uid: str) -> StudyRow | None:
    """Return a study's row."""
    row = connection.execute(
        select(study).where(study.c.study_instance_uid == study_instance_uid)
    ).one_or_none()
    return _study_row(row) if row else None


def studies_in_state(connection: Connection, state: StudyState) -> list[StudyRow]:
    """Return all studies in `state`, oldest first."""
    rows = connection.execute(
        select(study).where(study.c.state == state.value).order_by(study.c.id)
    )
    return [_study_row(row) for row in rows]


def _study_row(row: Row[tuple[object, ...]]) -> StudyRow:
    values = dict(row._mapping)
    values["state"] = StudyState(values["state"])
    values["order_priority"] = Priority(values["order_priority"])
    return StudyRow(**values)


@dataclass(frozen=True)
class ContentSet:
    """The instances that one settling of a study found, and their common hash."""

    sha256: str
    instance_ids: tuple[int, ...]


def content_set_of(connection: Connection, study_id: int) -> ContentSet:
    """Describe what a reading of the study would rest on now.

    The images count; a study without images is described by everything but our own
    results. So a report that comes back, or another vendor's, starts no second reading.
    """
    rows = connection.execute(
        select(
            instance.c.id,
            instance.c.sop_instance_uid,
            instance.c.sha256,
            instance.c.is_image,
        )
        .where(instance.c.study_id == study_id, instance.c.own_result.is_(False))
        .order_by(instance.c.sop_instance_uid)
    ).all()
    chosen = [row for row in rows if row.is_image] or rows
    digest = hashlib.sha256()
    for row in chosen:
        digest.update(f"{row.sop_instance_uid}:{row.sha256}\n".encode("ascii"))
    return ContentSet(digest.hexdigest(), tuple(row.id for row in chosen))


@dataclass(frozen=True)
class ContentInstance:
    """One instance of a content set and where its bytes are."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    sha256: str


def instances_of_content_set(
    connection: Connection, content_set: str
) -> list[ContentInstance]:
    """List a content set in the order of its SOP Instance UIDs."""
    rows = connection.execute(
        select(
            instance.c.sop_instance_uid,
            instance.c.sop_class_uid,
            series.c.series_instance_uid,
            instance.c.sha256,
        )
        .join(content_set_instance, content_set_instance.c.instance_id == instance.c.id)
        .join(series, series.c.id == instance.c.series_id)
        .where(content_set_instance.c.content_set == content_set)
        .order_by(instance.c.sop_instance_uid)
    )
    return [ContentInstance(*row) for row in rows]


def first_instance(connection: Connection, study_id: int) -> str | None:
    """Return the name in the store of a study's first image, else of anything in it."""
    return connection.execute(
        select(instance.c.sha256)
        .where(instance.c.study_id == study_id, instance.c.own_result.is_(False))
        .order_by(instance.c.is_image.desc(), instance.c.id)
        .limit(1)
    ).scalar()


def first_image_uid(connection: Connection, study_id: int) -> str | None:
    """Return the SOP Instance UID of a study's first image."""
    return connection.execute(
        select(instance.c.sop_instance_uid)
        .where(instance.c.study_id == study_id, instance.c.is_image.is_(True))
        .order_by(instance.c.id)
        .limit(1)
    ).scalar()


def instance_of_study(
    connection: Connection, study_instance_uid: str, sop_instance_uid: str
) -> str | None:
    """Return an instance's name in the store, if it is of this study."""
    return connection.execute(
        select(instance.c.sha256)
        .join(study, study.c.id == instance.c.study_id)
        .where(
            study.c.study_instance_uid == study_instance_uid,
            instance.c.sop_instance_uid == sop_instance_uid,
        )
    ).scalar()


def settle_study(
    connection: Connection,
    study_id: int,
    *,
    reason: str,
    content: ContentSet,
    expected_instances: int,
) -> bool:
    """Move a study from `receiving` to `settled`, if no instance came meanwhile.

    Parameters
    ----------
    connection
        A writing transaction; the jobs of the content set belong into the same one.
    study_id
        Which study.
    reason
        By what evidence it is judged complete.
    content
        As `content_set_of` found it in this transaction.
    expected_instances
        `instance_count` that the judgement was made on.

    Returns
    -------
    False if the study changed since the judgement; then nothing was written.
    """
    changed = connection.execute(
        update(study)
        .where(
            study.c.id == study_id,
            study.c.state == StudyState.RECEIVING.value,
            study.c.instance_count == expected_instances,
        )
        .values(
            state=StudyState.SETTLED.value,
            settle_reason=reason,
            content_set=content.sha256,
            settled_at=time.time(),
            no_job_reason=None,
        )
    )
    if changed.rowcount != 1:
        return False
    _keep_content_set(connection, content)
    events.record(connection, study_id, "settled", detail=reason)
    return True


def note_no_job(
    connection: Connection, study_id: int, *, reason: str, is_final: bool
) -> None:
    """Say why a settled study got no job, or not each that its rules ask for.

    Parameters
    ----------
    connection
        The transaction that settled the study.
    study_id
        Which study.
    reason
        In words without patient data, at most 200 characters.
    is_final
        Whether there is no job at all; then the study's row says so too.
    """
    if is_final:
        connection.execute(
            update(study).where(study.c.id == study_id).values(no_job_reason=reason)
        )
    events.record(
        connection, study_id, "no job" if is_final else "model not active",
        detail=reason,
    )  # fmt: skip


def _keep_content_set(connection: Connection, content: ContentSet) -> None:
    known = connection.execute(
        select(content_set_instance.c.instance_id)
        .where(content_set_instance.c.content_set == content.sha256)
        .limit(1)
    ).scalar()
    rows: Iterable[dict[str, object]] = (
        {"content_set": content.sha256, "instance_id": identifier}
        for identifier in content.instance_ids
    )
    if known is None and content.instance_ids:
        connection.execute(insert(content_set_instance), list(rows))
