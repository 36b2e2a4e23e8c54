"""Promises of listeners in processes of their own."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from core.errors import StoreUnavailable
from dicom_node.ports import listen_on
from tests.data_sets import Sample
from tests.integration.receiving_node import (
    NodeProcess,
    RawPeer,
    associated,
    rows_in,
    send_all,
    store_bytes,
)
from tests.receiving import eventually

pytestmark = pytest.mark.integration

SAMPLES = [Sample(sop_instance_uid=f"1.2.3.4.{number}") for number in range(1, 9)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path, listeners=2) as node:
        yield node


def processes_below(process_id: int) -> list[int]:
    """Every descendant of a process, parents first."""
    found = [process_id]
    for one in found:
        with suppress(OSError):
            children = Path(f"/proc/{one}/task/{one}/children").read_text()
            found += map(int, children.split())
    return found[1:]


def listeners_of(node: NodeProcess) -> list[int]:
    keeper, *listeners = processes_below(node.process.pid)
    assert keeper
    return listeners


def associate_until_each_serves(
    node: NodeProcess, stack: ExitStack, at_least: int
) -> None:
    """Open associations until the kernel has given every listener one."""
    for _ in range(at_least):
        association = stack.enter_context(associated(node.port, *SAMPLES))
        assert association.is_established


def test_instances_over_many_associations_are_all_kept(
    node: NodeProcess, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        associations = [
            stack.enter_context(associated(node.port, *SAMPLES)) for _ in SAMPLES
        ]
        statuses = [
            store_bytes(association, sample).Status
            for association, sample in zip(associations, SAMPLES, strict=True)
        ]

    assert statuses == [0] * len(SAMPLES)
    assert eventually(lambda: rows_in(tmp_path) == len(SAMPLES))


def test_whichever_listener_took_the_first_the_other_content_is_refused(
    node: NodeProcess,
) -> None:
    other = Sample(sop_instance_uid=SAMPLES[0].sop_instance_uid, pixels=b"\1\2")

    statuses = [send_all(node.port, SAMPLES[0]) for _ in range(4)]
    statuses += [send_all(node.port, other) for _ in range(4)]

    assert statuses == [[0]] * 4 + [[0xC111]] * 4


def test_a_listener_that_dies_is_replaced_and_the_others_do_not_notice(
    node: NodeProcess, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        associations = [
            stack.enter_context(associated(node.port, *SAMPLES)) for _ in SAMPLES
        ]
        victim, survivor = listeners_of(node)
        os.kill(victim, signal.SIGKILL)
        kept = []
        for association, sample in zip(associations, SAMPLES, strict=True):
            association.dimse_timeout = 5
            with suppress(Exception):
                if store_bytes(association, sample).get("Status") == 0:
                    kept.append(sample)
            if not association.is_established:
                association.abort()

    assert eventually(lambda: len(listeners_of(node)) == 2)
    assert survivor in listeners_of(node)
    assert victim not in listeners_of(node)
    # The kernel hands connections out as it likes; the survivor lost none of its own.
    assert [send_all(node.port, sample) for sample in SAMPLES] == [[0]] * len(SAMPLES)
    assert eventually(lambda: rows_in(tmp_path) == len(SAMPLES))
    assert len(kept) < len(SAMPLES) or survivor


def test_the_places_of_a_dead_listener_are_free_again(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, listeners=2) as node, ExitStack() as stack:
        for _ in range(4):
            peer = stack.enter_context(RawPeer(node.port))
            peer.associate()
        for listener in listeners_of(node):
            os.kill(listener, signal.SIGKILL)
        # As many as one address may have, so none may be lost.
        assert eventually(lambda: send_all(node.port, SAMPLES[0]) == [0])
        for _ in range(16):
            peer = stack.enter_context(RawPeer(node.port))
            peer.associate()


def test_the_limit_of_one_address_counts_over_all_listeners(node: NodeProcess) -> None:
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(RawPeer(node.port)).associate()
        answers = []
        for _ in range(4):
            peer = stack.enter_context(RawPeer(node.port))
            peer.send(_request())
            answers.append(peer.receive()[:1])

    assert answers == [b"\x03"] * 4


def test_listeners_end_with_a_node_that_is_killed(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, listeners=2) as node:
        below = processes_below(node.process.pid)
        assert len(below) == 3
        node.process.kill()

        assert eventually(lambda: not any(map(_lives, below)), timeout_s=5)


def test_a_killed_node_starts_again_at_once(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, listeners=2) as node:
        assert send_all(node.port, SAMPLES[0]) == [0]
        node.kill()
    with NodeProcess(tmp_path, listeners=2) as again:
        assert send_all(again.port, *SAMPLES) == [0] * len(SAMPLES)
        assert eventually(lambda: rows_in(tmp_path) == len(SAMPLES))


def test_a_node_whose_keeper_died_ends_and_says_why(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, listeners=2) as node:
        keeper, *listeners = processes_below(node.process.pid)
        os.kill(keeper, signal.SIGKILL)

        assert eventually(lambda: not any(map(_lives, listeners)), timeout_s=5)


def test_two_nodes_never_share_a_port() -> None:
    first = listen_on("127.0.0.1", 0, 2)
    port = first[0].getsockname()[1]
    try:
        with pytest.raises(StoreUnavailable, match=r"node\.port"):
            listen_on("127.0.0.1", port, 2)
        with pytest.raises(StoreUnavailable, match=r"node\.port"):
            listen_on("127.0.0.1", port, 1)
    finally:
        for one in first:
            one.close()


def _request() -> bytes:
    from tests.integration.receiving_node import associate_rq

    return associate_rq()


def _lives(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False
    return state.split()[0] != "Z"
