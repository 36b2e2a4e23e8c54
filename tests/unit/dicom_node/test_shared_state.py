"""Promises of what the listeners of a node know together."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import StoreUnavailable
from core.received import KnownInstance
from dicom_node.known_content import ConflictWith, KnownContent, OnTheirWay
from dicom_node.shared_state import Claims, Counters, Places, SharedLock

ONE = KnownInstance("a" * 64, "1.2.840.10008.1.2.1")
OTHER = KnownInstance("b" * 64, "1.2.840.10008.1.2.1")
ANOTHER_SYNTAX = KnownInstance("a" * 64, "1.2.840.10008.1.2")


def in_another_process(work: Callable[[], object]) -> int:
    """Run `work` in a fork of this process; return how it ended."""
    process_id = os.fork()
    if process_id == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(process_id, 0)
    return os.waitstatus_to_exitcode(status)


def on_their_way() -> OnTheirWay:
    shared = OnTheirWay(SharedLock(), claims=Claims(64))
    # An empty index, all of it known.
    shared.uids._words[1] = 1
    return shared


def listeners(shared: OnTheirWay) -> tuple[KnownContent, KnownContent]:
    def nothing(_uid: str) -> None:
        return None

    return KnownContent(shared, nothing, 0), KnownContent(shared, nothing, 1)


def test_what_one_listener_keeps_is_a_duplicate_for_the_other() -> None:
    first, second = listeners(on_their_way())
    claim = first.claim("1.2.3", ONE)
    assert claim is not None
    first.kept(claim)

    assert second.claim("1.2.3", ONE) is None


def test_what_one_listener_has_in_hand_the_other_must_keep_as_well() -> None:
    first, second = listeners(on_their_way())
    claim = first.claim("1.2.3", ONE)
    assert claim is not None

    assert second.claim("1.2.3", ONE) is not None
    first.released(claim)

    assert second.claim("1.2.3", ONE) is not None


@pytest.mark.parametrize("content", [OTHER, ANOTHER_SYNTAX])
def test_other_content_is_refused_while_the_first_is_in_hand(
    content: KnownInstance,
) -> None:
    first, second = listeners(on_their_way())
    first.claim("1.2.3", ONE)

    with pytest.raises(ConflictWith) as conflict:
        second.claim("1.2.3", content)

    assert conflict.value.kept_sha256 == ONE.sha256


def test_content_that_was_not_kept_leaves_its_uid_free() -> None:
    first, second = listeners(on_their_way())
    claim = first.claim("1.2.3", ONE)
    assert claim is not None
    first.released(claim)

    assert second.claim("1.2.3", OTHER) is not None


def test_a_listener_that_died_leaves_its_uids_free_and_what_it_kept_known() -> None:
    shared = on_their_way()
    first, second = listeners(shared)
    first.claim("1.2.1", ONE)
    claim = first.claim("1.2.2", ONE)
    assert claim is not None
    first.kept(claim)

    shared.claims.abandon(0)

    assert second.claim("1.2.1", OTHER) is not None
    assert second.claim("1.2.2", ONE) is None


def test_what_the_index_took_over_is_asked_of_the_index() -> None:
    shared = on_their_way()
    asked = []

    def look_up(uid: str) -> KnownInstance:
        asked.append(uid)
        return ONE

    known = KnownContent(shared, look_up)
    claim = known.claim("1.2.3", ONE)
    assert claim is not None
    known.kept(claim)
    shared.uids._add([0])
    shared.uids._words[1] = 0  # everything may be known
    shared.indexed(["1.2.3"])

    assert len(shared.claims) == 0
    assert known.claim("1.2.3", ONE) is None
    with pytest.raises(ConflictWith):
        known.claim("1.2.3", OTHER)
    assert asked == ["1.2.3", "1.2.3"]


def test_too_many_on_their_way_are_refused_with_a_reason() -> None:
    known, _ = listeners(on_their_way())
    for number in range(48):
        known.claim(f"1.2.{number}", ONE)

    with pytest.raises(StoreUnavailable, match="48 instances wait for the index"):
        known.claim("1.3", ONE)


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 40)), max_size=200
    )
)
@settings(max_examples=100, deadline=None)
def test_the_table_knows_what_a_dictionary_would_know(
    steps: list[tuple[str, int]],
) -> None:
    claims, model = Claims(64), {}
    for step, number in steps:
        # Keys that collide: all of them begin their search in four slots.
        key = (number << 32) | number % 4
        if step == "add" and key not in model:
            claims.add(key, bytes([number]) * 32, number, 0)
            model[key] = number
        elif step == "remove":
            claims.remove(key)
            model.pop(key, None)
        for known, content in model.items():
            found = claims.find(known)
            assert found is not None
            assert found[1].sha256 == bytes([content]) * 32
        assert len(claims) == len(model)


def test_a_process_that_is_killed_with_the_lock_gives_it_back() -> None:
    lock = SharedLock()

    def die() -> None:
        lock.__enter__()
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_another_process(die) == -signal.SIGKILL

    with lock:
        pass


def test_the_lock_keeps_other_processes_and_threads_out() -> None:
    lock, counters = SharedLock(), Counters(["count"], 1)

    def count() -> None:
        for _ in range(100):
            with lock:
                before = counters.of(0, "count")
                # Whoever is let in now counts from the same number.
                time.sleep(0)
                counters.add(0, "count", before + 1 - counters.of(0, "count"))

    def count_in_threads() -> None:
        threads = [threading.Thread(target=count) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    child = threading.Thread(target=in_another_process, args=(count_in_threads,))
    child.start()
    count_in_threads()
    child.join()

    assert counters.total("count") == 400


def test_places_are_counted_over_all_listeners() -> None:
    places = Places(3)
    first = places.take("10.0.0.1", 0)
    places.take("10.0.0.1", 1)
    places.take("10.0.0.2", 1)

    assert places.take("10.0.0.3", 0) is None
    assert (places.taken(), places.taken_by("10.0.0.1")) == (3, 2)
    assert first is not None
    places.leave(first)
    places.abandon(1)
    assert places.taken() == 0
