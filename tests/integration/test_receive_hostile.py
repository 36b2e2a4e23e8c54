"""Promises of the node to its operator: no peer harms it, none is left waiting."""

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data_sets import UNDEFINED, Sample, element
from tests.integration.receiving_node import (
    Node,
    RawPeer,
    associate_rq,
    command,
    node_on,
    pdu,
    pdv,
    send_all,
    store_command,
)
from tests.receiving import settings_for

pytestmark = pytest.mark.integration

ABORT = 0x07
REJECT = 0x03
P_DATA = 0x04


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings = settings_for(
        tmp_path_factory.mktemp("hostile"),
        request_timeout_s=1.0,
        network_timeout_s=1.5,
        maximum_instance_bytes=8_000_000,
    )
    with node_on(settings) as running:
        yield running


@pytest.fixture
def peer(node: Node) -> Iterator[RawPeer]:
    with RawPeer(node.port) as raw:
        yield raw


@pytest.fixture(autouse=True)
def _still_serves_afterwards(node: Node) -> Iterator[None]:
    yield
    sample = Sample(sop_instance_uid=f"1.2.{time.monotonic_ns()}")
    assert send_all(node.port, sample) == [0]


def status_of(answer: bytes) -> int:
    """The status (0000,0900) in a P-DATA that holds a whole response."""
    place = answer.index(b"\0\0\0\x09\x02\0\0\0")
    return int(struct.unpack_from("<H", answer, place + 8)[0])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes(range(256)),
        pdu(P_DATA, pdv(1, 3, store_command())),
        pdu(0x01, b"", length=0xFFFFFFFF),
        pdu(0x01, b"\0" * 100),
        associate_rq()[:80].replace(b"\x01\0", b"\x01\0") + b"\xff" * 300,
        associate_rq(contexts=((2, b"1.2.840.10008.1.1"),)),
    ],
    ids=[
        "http",
        "tls",
        "garbage",
        "data first",
        "endless request",
        "empty request",
        "broken items",
        "even context id",
    ],
)
def test_what_is_no_association_is_ended_at_once(peer: RawPeer, data: bytes) -> None:
    began = time.monotonic()

    peer.send(data)
    answer = peer.receive()

    assert answer[:1] in (b"", bytes([ABORT]), bytes([REJECT]))
    assert peer.receive() == b""
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("request_", "rejection"),
    [
        (associate_rq(application_context=b"1.2.3"), (1, 1, 2)),
        (associate_rq(called=b"SECOND\r\nREAD    "), (1, 1, 7)),
        (associate_rq(calling=b"A\x00\x1b[31mB        "), (1, 1, 3)),
        (associate_rq(calling=b"A\\B             "), (1, 1, 3)),
        (associate_rq(contexts=()), (1, 1, 1)),
    ],
    ids=["application context", "called", "calling", "backslash", "no contexts"],
)
def test_a_wrong_request_is_rejected_with_its_reason(
    peer: RawPeer, request_: bytes, rejection: tuple[int, int, int]
) -> None:
    peer.send(request_)

    answer = peer.receive()

    assert answer[0] == REJECT
    assert tuple(answer[7:10]) == rejection


@pytest.mark.parametrize(
    "data",
    [
        pdu(P_DATA, b"", length=0x7FFFFFFF),
        pdu(P_DATA, b"\0\0\0\x01\x03"),
        pdu(P_DATA, struct.pack(">LBB", 5000, 3, 3) + b"abc"),
        pdu(P_DATA, pdv(3, 3, b"\xff" * 20)),
        pdu(P_DATA, pdv(3, 3, command(e0100=b"\x20\0", e0800=b"\x01\x01"))),
        pdu(P_DATA, pdv(3, 3, store_command(e0110=None))),
        pdu(P_DATA, pdv(3, 3, store_command(e0800=None))),
        pdu(P_DATA, pdv(3, 2, b"data without a command")),
        pdu(P_DATA, pdv(3, 3, store_command()) + pdv(3, 3, store_command())),
        pdu(P_DATA, pdv(99, 3, store_command()) + pdv(99, 2, Sample().data_set)),
        pdu(0x09, b"\0\0\0\0"),
    ],
    ids=[
        "huge length",
        "short item",
        "item beyond its PDU",
        "garbage command",
        "service not offered",
        "no message id",
        "no data set type",
        "data without command",
        "command within data",
        "context never proposed",
        "unknown PDU",
    ],
)
def test_a_broken_message_ends_its_association_only(peer: RawPeer, data: bytes) -> None:
    peer.associate()
    began = time.monotonic()

    peer.send(data)

    assert peer.receive()[:1] in (b"", bytes([ABORT]))
    assert time.monotonic() - began < 3


def test_data_sent_with_the_request_is_refused_or_served_but_not_lost(
    peer: RawPeer,
) -> None:
    echo = command(
        e0002=b"1.2.840.10008.1.1\0", e0100=b"\x30\0", e0110=b"\1\0", e0800=b"\1\1"
    )
    began = time.monotonic()

    peer.send(associate_rq() + pdu(P_DATA, pdv(1, 3, echo)))
    answers = [peer.receive()[:1] for _ in range(2)]

    assert answers[-1] in (b"", bytes([ABORT]), bytes([P_DATA]))
    assert time.monotonic() - began < 3


def test_an_endless_command_set_is_cut_off(peer: RawPeer) -> None:
    peer.associate()

    for _ in range(40):
        peer.send(pdu(P_DATA, pdv(3, 1, b"\0" * 4096)))

    assert peer.receive()[:1] in (b"", bytes([ABORT]))


def test_an_endless_data_set_is_cut_off(peer: RawPeer, node: Node) -> None:
    peer.associate()
    peer.send(pdu(P_DATA, pdv(3, 3, store_command())))

    for _ in range(100):
        peer.send(pdu(P_DATA, pdv(3, 0, b"\0" * 100_000)))

    assert peer.receive()[:1] in (b"", bytes([ABORT]))


def test_requests_without_waiting_for_answers_are_cut_off(peer: RawPeer) -> None:
    peer.associate()
    echo = command(
        e0002=b"1.2.840.10008.1.1\0", e0100=b"\x30\0", e0110=b"\1\0", e0800=b"\1\1"
    )

    peer.send(pdu(P_DATA, pdv(1, 3, echo)) * 200)

    answers = [peer.receive()[:1] for _ in range(201)]
    assert answers[-1] in (b"", bytes([ABORT]))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"e1000": None}, 0x0117),
        ({"e1000": b""}, 0x0117),
        ({"e1000": b"../../../etc/passwd\0"}, 0x0117),
        ({"e1000": b"1.2;rm -rf /\0"}, 0x0117),
        ({"e1000": b"1." + b"2" * 200}, 0x0117),
        ({"e0002": None}, 0x0117),
        ({"e0002": b"1.2.840.10008.1.1\0"}, 0x0122),
        ({"e0800": b"\x01\x01"}, 0xC000),
        ({"e0700": None}, 0x0000),
    ],
    ids=[
        "no instance",
        "empty instance",
        "traversal",
        "shell",
        "long",
        "no class",
        "class of another context",
        "no data set",
        "no priority",
    ],
)
def test_a_request_that_lacks_something_is_answered(
    peer: RawPeer, changes: dict[str, bytes | None], status: int
) -> None:
    peer.associate()
    peer.send(pdu(P_DATA, pdv(3, 3, store_command(**changes))))
    if changes.get("e0800") is None:
        peer.send(pdu(P_DATA, pdv(3, 2, Sample().data_set)))

    assert status_of(peer.receive()) == status


def test_a_verification_without_a_class_is_answered(peer: RawPeer) -> None:
    peer.associate()

    peer.send(
        pdu(
            P_DATA,
            pdv(1, 3, command(e0100=b"\x30\0", e0110=b"\1\0", e0800=b"\1\1")),
        )
    )

    assert status_of(peer.receive()) == 0x0212


@pytest.mark.parametrize("depth", [33, 100_000])
def test_nested_sequences_are_refused_without_harm(peer: RawPeer, depth: int) -> None:
    opening = element(0x00400275, "SQ", b"", length=UNDEFINED) + element(
        0xFFFEE000, "", b"", length=UNDEFINED
    )
    bomb = Sample().data_set[:-140] + opening * depth
    peer.associate()
    peer.send(pdu(P_DATA, pdv(3, 3, store_command())))
    pieces = [bomb[i : i + 100_000] for i in range(0, len(bomb), 100_000)]

    for piece in pieces[:-1]:
        peer.send(pdu(P_DATA, pdv(3, 0, piece)))
    peer.send(pdu(P_DATA, pdv(3, 2, pieces[-1])))

    assert status_of(peer.receive()) == 0xC000


def test_a_silent_peer_is_closed_after_its_time(peer: RawPeer) -> None:
    began = time.monotonic()

    assert peer.receive()[:1] in (b"", bytes([ABORT]))

    assert 0.5 < time.monotonic() - began < 4


def test_a_peer_that_dribbles_its_request_is_closed_after_its_time(
    peer: RawPeer,
) -> None:
    began = time.monotonic()
    ended = threading.Event()

    def dribble() -> None:
        for byte in associate_rq():
            if ended.wait(0.05):
                return
            peer.send(bytes([byte]))

    thread = threading.Thread(target=dribble)
    thread.start()
    answer = peer.receive()
    ended.set()
    thread.join()

    assert answer[:1] in (b"", bytes([ABORT]))
    assert time.monotonic() - began < 4


def test_an_association_that_stops_in_a_message_is_closed(peer: RawPeer) -> None:
    peer.associate()
    peer.send(pdu(P_DATA, pdv(3, 3, store_command()))[:20])
    began = time.monotonic()

    assert peer.receive()[:1] in (b"", bytes([ABORT]))

    assert time.monotonic() - began < 5


def test_a_peer_that_leaves_in_a_data_set_leaves_nothing(
    peer: RawPeer, node: Node
) -> None:
    peer.associate()
    peer.send(pdu(P_DATA, pdv(3, 3, store_command()) + pdv(3, 0, b"\x08\0")))

    peer.socket.close()

    assert not list(node.settings.data_dir.rglob("*.part"))


def test_many_silent_connections_do_not_stop_a_sender(node: Node) -> None:
    peers = [RawPeer(node.port) for _ in range(50)]
    began = time.monotonic()

    status = send_all(node.port, Sample(sop_instance_uid="1.2.50"))

    duration = time.monotonic() - began
    for silent in peers:
        silent.socket.close()
    assert status == [0]
    assert duration < 3


def test_threads_and_descriptors_are_given_back(node: Node, tmp_path: Path) -> None:
    def count() -> int:
        return threading.active_count()

    before = count()
    for _ in range(20):
        with RawPeer(node.port) as raw:
            raw.send(b"garbage")
            raw.receive()

    deadline = time.monotonic() + 3
    while count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count() <= before
