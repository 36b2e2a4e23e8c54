"""How an instance is found by its UID, at the same price with five million of them.

UIDs arrive in random order. In one index over all of them each new row changes another
page of a tree that grows for ever: at a million rows a batch of 64 writes about five
times what it says. So rows are put on *shelves* in the order of their arrival, and the
index is ordered by shelf, then by a hash of the UID. New rows go to the newest shelf,
whose some hundred pages stay in memory; a full shelf is never written again. The price
is a look-up that asks every shelf, which is why `uid_filter` answers most of them.

That a SOP Instance UID is there once is kept by the order of things: `take_room` locks
the newest shelf, so whoever records instances looks them up and adds them while nobody
else does either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    func,
    insert,
    select,
    update,
)

from core.database.schema import instance, shelf

__all__ = [
    "ROWS_OF_SHELF",
    "Shelf",
    "find_by_uid",
    "give_room_back",
    "hashes_on_shelf",
    "shelves_from",
    "take_room",
]

ROWS_OF_SHELF = 65536
"""More make a new row dearer, fewer a look-up that the filter cannot answer."""


@dataclass(frozen=True)
class Shelf:
    """A shelf as a writer found it, before the rows it asked room for."""

    id: int
    filled: int


# Built once: of statements that run all the time, building takes as long as running.
_TAKE_ROOM = (
    update(shelf)
    .where(shelf.c.id == select(func.max(shelf.c.id)).scalar_subquery())
    .values(filled=shelf.c.filled + bindparam("count"))
    .returning(shelf.c.id, shelf.c.filled)
)
_GIVE_BACK = (
    update(shelf)
    .where(shelf.c.id == bindparam("shelf"))
    .values(filled=shelf.c.filled - bindparam("count"))
)
_FIND = select(
    instance.c.sop_instance_uid, instance.c.sha256, instance.c.transfer_syntax_uid
).where(
    instance.c.shelf.in_(select(shelf.c.id)),
    instance.c.uid_hash.in_(bindparam("hashes", expanding=True)),
    instance.c.sop_instance_uid.in_(bindparam("uids", expanding=True)),
)
_HASHES = select(instance.c.uid_hash).where(instance.c.shelf == bindparam("shelf"))


def take_room(connection: Connection, count: int) -> Shelf:
    """Lock the newest shelf and ask for room for some rows, in a writing transaction.

    Returns
    -------
    The shelf to put them on. What `find_by_uid` says from now on stays true until the
    transaction ends.
    """
    row = connection.execute(_TAKE_ROOM, {"count": count}).one()
    newest = Shelf(row.id, row.filled - count)
    if newest.filled < ROWS_OF_SHELF:
        return newest
    give_room_back(connection, newest, count)
    connection.execute(insert(shelf).values(id=newest.id + 1, filled=count))
    return Shelf(newest.id + 1, 0)


def give_room_back(connection: Connection, taken: Shelf, count: int) -> None:
    """Tell that so many rows were not new after all."""
    if count:
        connection.execute(_GIVE_BACK, {"shelf": taken.id, "count": count})


def find_by_uid(
    connection: Connection, hashes: Mapping[str, int]
) -> list[Row[*tuple[Any, ...]]]:
    """Look instances up, on all shelves.

    Parameters
    ----------
    connection
        Where to look.
    hashes
        SOP Instance UID to its `uid_hash`.

    Returns
    -------
    Rows of sop_instance_uid, sha256 and transfer_syntax_uid; none for what is unknown.
    """
    asked = {"hashes": list(hashes.values()), "uids": list(hashes)}
    return list(connection.execute(_FIND, asked))


def shelves_from(connection: Connection, shelf_id: int) -> list[Shelf]:
    """List the shelves from this one on, the newest last."""
    rows = connection.execute(
        select(shelf.c.id, shelf.c.filled)
        .where(shelf.c.id >= shelf_id)
        .order_by(shelf.c.id)
    )
    return [Shelf(row.id, row.filled) for row in rows]


def hashes_on_shelf(connection: Connection, shelf_id: int) -> Iterator[int]:
    """Return the hash of each UID on a shelf."""
    return iter(connection.execute(_HASHES, {"shelf": shelf_id}).scalars())
