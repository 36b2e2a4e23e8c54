"""From received instances to rows: the one place where instance rows are written.

A batch is worked as a set: one look-up of what is known, one of the studies, one of the
series, then the rows of each table at once. What comes out is what the instances would
have become one after the other, in their order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.database.schema import conflict, event, instance, series, study
from core.database.shelves import find_by_uid, give_room_back, take_room
from core.database.uid_filter import UidFilter
from core.lifecycle import StudyState
from core.received import KnownInstance, ReceivedInstance
from core.settings import Priority
from core.uids import uid_hash

__all__ = [
    "Recorded",
    "known_instance",
    "record_conflict",
    "record_instance",
    "record_instances",
]


class Recorded(StrEnum):
    """What became of an instance that was handed to the index."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


# Built once: of statements that run all the time, building takes as long as running.
_STUDIES = select(
    study.c.id, study.c.study_instance_uid, study.c.state, study.c.order_priority
).where(study.c.study_instance_uid.in_(bindparam("uids", expanding=True)))
_NEW_STUDY = insert(study).returning(study.c.id, study.c.study_instance_uid)
_GROW_STUDY = (
    update(study)
    .where(study.c.id == bindparam("study"))
    .values(
        instance_count=study.c.instance_count + bindparam("more"),
        last_instance_at=bindparam("last_at"),
        order_priority=bindparam("priority"),
        state=bindparam("new_state"),
    )
)
# Written so that the index leads to the studies alone: looking each of these UIDs up in
# each of these studies takes longer than reading the few series they have.
_SERIES = select(series.c.id, series.c.study_id, series.c.series_instance_uid).where(
    series.c.study_id.in_(bindparam("studies", expanding=True)),
    series.c.series_instance_uid.concat("").in_(bindparam("uids", expanding=True)),
)
_NEW_SERIES = insert(series).returning(
    series.c.id, series.c.study_id, series.c.series_instance_uid
)
_NEW_INSTANCE = insert(instance)
_NEW_EVENT = insert(event)

_SeriesKey = tuple[int, str]


def known_instance(
    connection: Connection, sop_instance_uid: str
) -> KnownInstance | None:
    """Look up the content under which a SOP Instance UID is kept."""
    asked = {sop_instance_uid: uid_hash(sop_instance_uid)}
    for row in find_by_uid(connection, asked):
        return KnownInstance(row.sha256, row.transfer_syntax_uid)
    return None


def record_instance(connection: Connection, received: ReceivedInstance) -> Recorded:
    """Record a batch of one."""
    (outcome,) = record_instances(connection, [received])
    return outcome


def record_instances(
    connection: Connection,
    batch: Sequence[ReceivedInstance],
    *,
    uids: UidFilter | None = None,
) -> list[Recorded]:
    """Add instances to their series and studies; what is known changes nothing.

    A new instance of a settled study opens it again (PS3.4 B.4: nothing tells that a
    study is complete for good). A result of ours never does.

    Parameters
    ----------
    connection
        A writing transaction.
    batch
        In the order of their arrival; some hundred at most.
    uids
        Of this process: spares the look-up of what is certainly new.

    Returns
    -------
    What became of each, in the same order.
    """
    if not batch:
        return []
    shelf = take_room(connection, len(batch))
    if uids is not None:
        uids.follow(connection, shelf)
    hashes = {
        received.sop_instance_uid: uid_hash(received.sop_instance_uid)
        for received in batch
    }
    kept = _kept_content(connection, hashes, uids)
    outcomes: list[Recorded] = []
    new: list[ReceivedInstance] = []
    for received in batch:
        sha256 = kept.get(received.sop_instance_uid)
        if sha256 is None:
            kept[received.sop_instance_uid] = received.sha256
            new.append(received)
            outcomes.append(Recorded.NEW)
        elif sha256 == received.sha256:
            outcomes.append(Recorded.DUPLICATE)
        else:
            record_conflict(connection, received, kept_sha256=sha256)
            outcomes.append(Recorded.CONFLICT)
    give_room_back(connection, shelf, len(batch) - len(new))
    if new:
        _insert(connection, new, hashes, shelf.id)
        if uids is not None:
            uids.added(shelf, [hashes[received.sop_instance_uid] for received in new])
    return outcomes


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


def _kept_content(
    connection: Connection, hashes: Mapping[str, int], uids: UidFilter | None
) -> dict[str, str]:
    asked = hashes
    if uids is not None:
        asked = {uid: value for uid, value in hashes.items() if uids.may_hold(value)}
    rows = find_by_uid(connection, asked) if asked else []
    return {row.sop_instance_uid: row.sha256 for row in rows}


def _insert(
    connection: Connection,
    new: Sequence[ReceivedInstance],
    hashes: Mapping[str, int],
    shelf_id: int,
) -> None:
    study_ids = _place_in_studies(connection, new)
    series_ids = _place_in_series(connection, study_ids, new)
    rows = []
    for received in new:
        study_id = study_ids[received.study_instance_uid]
        rows.append(
            {
                "study_id": study_id,
                "series_id": series_ids[study_id, received.series_instance_uid],
                "sop_instance_uid": received.sop_instance_uid,
                "shelf": shelf_id,
                "uid_hash": hashes[received.sop_instance_uid],
                "sop_class_uid": received.sop_class_uid,
                "transfer_syntax_uid": received.transfer_syntax_uid,
                "sha256": received.sha256,
                "bytes": received.bytes,
                "is_image": received.is_image,
                "own_result": received.own_result,
                "received_at": received.received_at,
            }
        )
    connection.execute(_NEW_INSTANCE, rows)


@dataclass
class _Growth:
    """What new instances, taken one after the other, make of one study."""

    first: ReceivedInstance
    state: StudyState
    priority: Priority
    study_id: int | None
    """None for a study that is not there yet."""
    count: int = 0
    last_at: float = 0.0
    opened_at: float | None = None
    """When a late instance opened the study again."""

    def add(self, received: ReceivedInstance) -> None:
        self.count += 1
        self.last_at = received.received_at
        if received.order_priority is not self.priority:
            both = self.priority, received.order_priority
            self.priority = min(both, key=lambda priority: priority.rank)
        if not received.own_result and self.state is StudyState.SETTLED:
            self.state = StudyState.RECEIVING
            self.opened_at = received.received_at


def _place_in_studies(
    connection: Connection, new: Sequence[ReceivedInstance]
) -> dict[str, int]:
    """Let the studies grow, and make those that are not there; return their ids."""
    uids = {received.study_instance_uid for received in new}
    growing: dict[str, _Growth] = {}
    known = {
        row.study_instance_uid: row
        for row in connection.execute(_STUDIES, {"uids": list(uids)})
    }
    for received in new:
        uid = received.study_instance_uid
        if uid not in growing:
            growing[uid] = _growth(received, known.get(uid))
        growing[uid].add(received)
    ids: dict[str, int] = {uid: row.id for uid, row in known.items()}
    fresh = {uid: growth for uid, growth in growing.items() if uid not in ids}
    if ids:
        connection.execute(_GROW_STUDY, [_grown(growing[uid]) for uid in ids])
    if fresh:
        ids |= _insert_studies(connection, fresh)
    _note_growth(connection, ids, growing)
    return ids


def _growth(first: ReceivedInstance, row: Row[*tuple[Any, ...]] | None) -> _Growth:
    if row is not None:
        state, priority = StudyState(row.state), Priority(row.order_priority)
        return _Growth(first, state, priority, row.id)
    # A study that is known by a result of ours alone has nothing to settle.
    state = StudyState.SETTLED if first.own_result else StudyState.RECEIVING
    return _Growth(first, state, first.order_priority, None)


def _grown(growth: _Growth) -> dict[str, object]:
    return {
        "study": growth.study_id,
        "more": growth.count,
        "last_at": growth.last_at,
        "priority": growth.priority.value,
        "new_state": growth.state.value,
    }


def _insert_studies(
    connection: Connection, fresh: Mapping[str, _Growth]
) -> dict[str, int]:
    rows = connection.execute(
        _NEW_STUDY,
        [
            {
                "study_instance_uid": uid,
                "state": growth.state.value,
                "order_priority": growth.priority.value,
                "calling_ae_title": growth.first.calling_ae_title,
                "called_ae_title": growth.first.called_ae_title,
                "peer_address": growth.first.peer_address,
                "instance_count": growth.count,
                "first_instance_at": growth.first.received_at,
                "last_instance_at": growth.last_at,
            }
            for uid, growth in fresh.items()
        ],
    )
    return {row.study_instance_uid: row.id for row in rows}


def _note_growth(
    connection: Connection, ids: Mapping[str, int], growing: Mapping[str, _Growth]
) -> None:
    happened = [
        (ids[uid], name, at)
        for uid, growth in growing.items()
        for name, at in (
            ("first instance", None if growth.study_id else growth.first.received_at),
            ("late instance", growth.opened_at),
        )
        if at is not None
    ]
    if happened:
        connection.execute(
            _NEW_EVENT,
            [{"study_id": key, "name": name, "at": at} for key, name, at in happened],
        )


def _place_in_series(
    connection: Connection,
    study_ids: Mapping[str, int],
    new: Sequence[ReceivedInstance],
) -> dict[_SeriesKey, int]:
    """Find the series, and make those that are not there; return their ids."""
    modalities: dict[_SeriesKey, str] = {}
    for received in new:
        key = study_ids[received.study_instance_uid], received.series_instance_uid
        modalities.setdefault(key, received.modality)
    asked = {
        "studies": list({study_id for study_id, _ in modalities}),
        "uids": list({uid for _, uid in modalities}),
    }
    ids = _series_ids(connection.execute(_SERIES, asked))
    fresh = modalities.keys() - ids.keys()
    if fresh:
        rows = [
            {
                "study_id": key[0],
                "series_instance_uid": key[1],
                "modality": modality,
            }
            for key, modality in modalities.items()
            if key in fresh
        ]
        ids |= _series_ids(connection.execute(_NEW_SERIES, rows))
    return ids


def _series_ids(rows: Iterable[Row[*tuple[Any, ...]]]) -> dict[_SeriesKey, int]:
    return {(row.study_id, row.series_instance_uid): row.id for row in rows}
