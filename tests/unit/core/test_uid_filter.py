"""The filter may ask in vain, but it never calls a known UID new."""

import os
from dataclasses import replace

import pytest

from core.database import shelves, studies, uid_filter
from core.database.engine import Database
from core.database.shelves import Shelf
from core.database.uid_filter import UidFilter
from core.received import ReceivedInstance
from core.uids import uid_hash

UIDS = [f"1.2.826.0.1.{number}" for number in range(20_000)]
OTHERS = [f"2.25.{number}" for number in range(20_000)]


@pytest.fixture
def loaded(database: Database) -> UidFilter:
    made = UidFilter()
    made.load(database)
    return made


def add(to: UidFilter, uids: list[str]) -> None:
    to.added(Shelf(0, 0), [uid_hash(uid) for uid in uids])


def test_what_was_added_is_never_called_new(loaded: UidFilter) -> None:
    add(loaded, UIDS)

    assert all(loaded.may_hold(uid_hash(uid)) for uid in UIDS)


def test_few_new_uids_are_asked_for_in_vain(loaded: UidFilter) -> None:
    add(loaded, UIDS)

    assert sum(loaded.may_hold(uid_hash(uid)) for uid in OTHERS) < len(OTHERS) / 500


def test_more_uids_than_were_provided_for_are_still_never_called_new(
    loaded: UidFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uid_filter, "_UIDS_OF_SLAB", 100)

    add(loaded, UIDS)

    assert len(loaded) == len(UIDS)
    assert all(loaded.may_hold(uid_hash(uid)) for uid in UIDS)


def test_until_it_is_loaded_every_uid_may_be_known() -> None:
    assert UidFilter().may_hold(uid_hash("1.2.3"))


def test_a_load_that_is_given_up_proves_nothing(database: Database) -> None:
    made = UidFilter()

    made.load(database, given_up=lambda: True)

    assert made.may_hold(uid_hash("1.2.3"))


def test_it_learns_what_the_index_holds(
    database: Database, received: ReceivedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelves, "ROWS_OF_SHELF", 1)
    for number in (1, 2, 3):
        with database.write() as connection:
            studies.record_instance(
                connection, replace(received, sop_instance_uid=f"1.2.3.1.{number}")
            )
    made = UidFilter()

    made.load(database)

    assert len(made) == 3
    assert all(made.may_hold(uid_hash(f"1.2.3.1.{number}")) for number in (1, 2, 3))
    assert not made.may_hold(uid_hash("1.2.3.1.4"))


def test_a_forked_process_sees_what_is_added_later(loaded: UidFilter) -> None:
    go, ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(go, 1)
        os._exit(0 if loaded.may_hold(uid_hash("1.2.3")) else 1)
    add(loaded, ["1.2.3"])
    os.write(ready, b".")

    _, status = os.waitpid(child, 0)

    os.close(go)
    os.close(ready)
    assert os.waitstatus_to_exitcode(status) == 0
