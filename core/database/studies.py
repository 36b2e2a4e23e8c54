"""Studies and their instances: what was received, what is known, what is settled."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.database import events
from core.database.schema import (
    conflict,
    content_set_instance,
    instance,
    series,
    study,
)
from core.lifecycle import StudyState
from core.settings import Priority

__all__ = [
    "ContentInstance",
    "ContentSet",
    "KnownInstance",
    "ReceivedInstance",
    "Recorded",
    "StudyRow",
    "content_set_of",
    "instances_of_content_set",
    "known_instance",
    "note_no_job",
    "record_conflict",
    "record_instance",
    "settle_study",
    "studies_in_state",
    "study_by_id",
    "study_by_uid",
]

# Of the statements that run for each instance, building took as long as running.
_KNOWN_INSTANCE = select(instance.c.sha256, instance.c.transfer_syntax_uid).where(
    instance.c.sop_instance_uid == bindparam("uid")
)
_STUDY = select(study.c.id, study.c.state, study.c.order_priority).where(
    study.c.study_instance_uid == bindparam("uid")
)
_SERIES = select(series.c.id).where(
    series.c.study_id == bindparam("study"),
    series.c.series_instance_uid == bindparam("uid"),
)
_NEW_INSTANCE = insert(instance)


@dataclass(frozen=True)
class ReceivedInstance:
    """What the index keeps of one instance; nothing in it names a patient."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    """Of the data set's bytes, in hexadecimal."""
    bytes: int
    modality: str
    is_image: bool
    own_result: bool
    order_priority: Priority
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    received_at: float
    """Seconds since 1970, UTC."""


class Recorded(StrEnum):
    """What became of an instance that was handed to the index."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class KnownInstance:
    """Content by which a SOP Instance UID is already known."""

    sha256: str
    transfer_syntax_uid: str


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


def known_instance(
    connection: Connection, sop_instance_uid: str
) -> KnownInstance | None:
    """Look up the content under which a SOP Instance UID is kept."""
    row = connection.execute(_KNOWN_INSTANCE, {"uid": sop_instance_uid}).one_or_none()
    return KnownInstance(row.sha256, row.transfer_syntax_uid) if row else None


def record_instance(connection: Connection, received: ReceivedInstance) -> Recorded:
    """Add an instance to its series and study; a second time changes nothing.

    A new instance of a settled study opens it again (PS3.4 B.4: nothing tells that a
    study is complete for good). A result of ours never does.
    """
    known = known_instance(connection, received.sop_instance_uid)
    if known is not None:
        if known.sha256 == received.sha256:
            return Recorded.DUPLICATE
        record_conflict(connection, received, kept_sha256=known.sha256)
        return Recorded.CONFLICT
    study_id = _study_id(connection, received)
    connection.execute(
        _NEW_INSTANCE,
        {
            "study_id": study_id,
            "series_id": _series_id(connection, study_id, received),
            "sop_instance_uid": received.sop_instance_uid,
            "sop_class_uid": received.sop_class_uid,
            "transfer_syntax_uid": received.transfer_syntax_uid,
            "sha256": received.sha256,
            "bytes": received.bytes,
            "is_image": received.is_image,
            "own_result": received.own_result,
            "received_at": received.received_at,
        },
    )
    return Recorded.NEW


def _study_id(connection: Connection, received: ReceivedInstance) -> int:
    uid = received.study_instance_uid
    row = connection.execute(_STUDY, {"uid": uid}).one_or_none()
    if row is None:
        return _new_study(connection, received)
    priority = min(
        Priority(row.order_priority), received.order_priority, key=lambda p: p.rank
    )
    changes: dict[str, object] = {
        "instance_count": study.c.instance_count + 1,
        "last_instance_at": received.received_at,
        "order_priority": priority.value,
    }
    if not received.own_result and row.state == StudyState.SETTLED:
        changes |= {"state": StudyState.RECEIVING.value}
        events.record(connection, row.id, "late instance", at=received.received_at)
    connection.execute(update(study).where(study.c.id == row.id).values(**changes))
    return int(row.id)


def _new_study(connection: Connection, received: ReceivedInstance) -> int:
    # A study that is known by a result of ours alone has nothing to settle.
    state = StudyState.SETTLED if received.own_result else StudyState.RECEIVING
    result = connection.execute(
        insert(study).values(
            study_instance_uid=received.study_instance_uid,
            state=state.value,
            order_priority=received.order_priority.value,
            calling_ae_title=received.calling_ae_title,
            called_ae_title=received.called_ae_title,
            peer_address=received.peer_address,
            instance_count=1,
            first_instance_at=received.received_at,
            last_instance_at=received.received_at,
        )
    )
    (study_id,) = result.inserted_primary_key or (0,)
    events.record(connection, study_id, "first instance", at=received.received_at)
    return int(study_id)


def _series_id(
    connection: Connection, study_id: int, received: ReceivedInstance
) -> int:
    found = connection.execute(
        _SERIES, {"study": study_id, "uid": received.series_instance_uid}
    ).scalar()
    if found is not None:
        return int(found)
    result = connection.execute(
        insert(series).values(
            study_id=study_id,
            series_instance_uid=received.series_instance_uid,
            modality=received.modality,
        )
    )
    (series_id,) = result.inserted_primary_key or (0,)
    return int(series_id)


def record_conflict(
    connection: Connection, refused: ReceivedInstance, *, kept_sha256: str
) -> None:
    """Remember that a known SOP Instance UID came with other content, once."""
    try:
        with connection.begin_nested():
            connection.execute(
                insert(conflict).values(
                    sop_instance_uid=refused.sop_instance_uid,
                    kept_sha256=kept_sha256,
                    refused_sha256=refused.sha256,
                    calling_ae_title=refused.calling_ae_title,
                    peer_address=refused.peer_address,
                    at=refused.received_at,
                )
            )
    except IntegrityError:
        return  # the same content was refused before


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
