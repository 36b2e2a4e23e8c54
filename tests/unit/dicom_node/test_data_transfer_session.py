"""Promises of one association on its socket, to its peer and to the inbox."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.data_transfer.protocol import DataTransfer, Limits
from dicom_node.data_transfer.services import AcceptedContext, Caller, Services
from dicom_node.data_transfer.session import Outcome, Session
from dicom_node.statuses import StorageAnswer
from tests.data_sets import CT, EXPLICIT, Sample
from tests.integration.receiving_node import command, pdu, pdv, store_command
from tests.receiving import Receiving, receiving, settings_for

P_DATA = 0x04
ABORT = 0x07
TIMEOUT_S = 0.4
CONTEXTS = {
    1: AcceptedContext("1.2.840.10008.1.1", EXPLICIT),
    3: AcceptedContext(CT, EXPLICIT),
}
ECHO = pdu(
    P_DATA,
    pdv(
        1,
        3,
        command(
            e0002=b"1.2.840.10008.1.1\0", e0100=b"\x30\0", e0110=b"\1\0", e0800=b"\1\1"
        ),
    ),
)
STORE = pdu(P_DATA, pdv(3, 3, store_command()))
RELEASE = pdu(0x05, bytes(4))


class Association:
    """A session in a thread and the peer's end of its connection."""

    def __init__(self, parts: Receiving) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.create_connection(listener.getsockname(), timeout=10)
            accepted, _ = listener.accept()
        self.answers: list[tuple[StorageAnswer, int]] = []
        self.outcome: Outcome | None = None
        self.session = Session(
            accepted,
            protocol=DataTransfer(CONTEXTS, Limits(16384, 1024, 1_000_000)),
            services=Services(
                contexts=CONTEXTS,
                caller=Caller("SCANNER", "SECONDREAD", "127.0.0.1"),
                receiver=parts.receiver,
                on_answer=lambda answer, size: self.answers.append((answer, size)),
            ),
            network_timeout_s=TIMEOUT_S,
            peer_maximum=0,
            peer_address="127.0.0.1",
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.outcome = self.session.run()

    def receive(self) -> bytes:
        """The next PDU, or what came before the connection's end."""
        head = self._exactly(6)
        return head + self._exactly(int.from_bytes(head[2:], "big"))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.peer.recv(count - len(data))):
            data += more
        return data

    def end(self) -> Outcome | None:
        """Wait for the end of the session."""
        self.peer.close()
        self._thread.join(10)
        return self.outcome


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Receiving]:
    with receiving(settings_for(tmp_path), writing=False) as running:
        yield running


@pytest.fixture
def association(parts: Receiving) -> Iterator[Association]:
    one = Association(parts)
    yield one
    one.end()


def test_a_release_is_answered_and_ends_the_association(
    association: Association,
) -> None:
    association.peer.sendall(RELEASE)

    assert association.receive().hex() == "06000000000400000000"
    assert association.receive() == b""
    assert association.end() is Outcome.RELEASED


def test_a_data_set_is_kept_and_its_size_told(
    association: Association, parts: Receiving
) -> None:
    data = Sample().data_set

    association.peer.sendall(STORE + pdu(P_DATA, pdv(3, 2, data)))
    association.receive()

    assert [(answer.status, size) for answer, size in association.answers] == [
        (0, len(data))
    ]
    assert parts.kept() == [Sample().sop_instance_uid]


@pytest.mark.parametrize(
    "leave", [lambda peer: peer.close(), lambda peer: peer.sendall(pdu(7, bytes(4)))]
)
def test_a_peer_that_leaves_in_a_data_set_leaves_nothing(
    association: Association,
    parts: Receiving,
    leave: Callable[[socket.socket], None],
) -> None:
    association.peer.sendall(STORE + pdu(P_DATA, pdv(3, 0, b"\x08\0")))
    leave(association.peer)

    assert association.end() in (Outcome.CLOSED, Outcome.ABORTED)
    assert parts.nothing_waits()
    assert association.answers == []


def test_a_reset_connection_leaves_nothing(
    association: Association, parts: Receiving
) -> None:
    association.peer.sendall(STORE + pdu(P_DATA, pdv(3, 0, b"\x08\0")))
    # SO_LINGER 0: close sends a reset.
    association.peer.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )

    assert association.end() is Outcome.CLOSED
    assert parts.nothing_waits()


def test_silence_in_a_data_set_ends_with_an_abort_of_the_provider(
    association: Association, parts: Receiving
) -> None:
    association.peer.sendall(STORE + pdu(P_DATA, pdv(3, 0, b"\x08\0")))

    assert association.receive().hex() == "07000000000400000200"
    assert association.end() is Outcome.ABORTED
    assert parts.nothing_waits()


def test_a_peer_that_dribbles_one_pdu_is_cut_off_after_its_time(
    association: Association,
) -> None:
    began = time.monotonic()
    association.peer.settimeout(0.02)

    for byte in pdu(P_DATA, pdv(1, 1, bytes(500))):
        try:
            association.peer.sendall(bytes([byte]))
            if association.peer.recv(1):
                break
        except TimeoutError:
            continue
        except OSError:
            break

    assert TIMEOUT_S * 0.8 < time.monotonic() - began < TIMEOUT_S * 4


def test_whole_pdus_one_after_the_other_may_take_longer(
    association: Association,
) -> None:
    for _ in range(4):
        time.sleep(TIMEOUT_S / 2)
        association.peer.sendall(ECHO)
        assert association.receive()[:1] == b"\x04"


def test_a_stopped_session_aborts_as_user_and_forgets_its_instance(
    association: Association, parts: Receiving
) -> None:
    association.peer.sendall(ECHO)
    association.receive()
    association.peer.sendall(STORE + pdu(P_DATA, pdv(3, 0, b"\x08\0")))

    association.session.stop()

    assert association.receive().hex() == "07000000000400000000"
    assert association.end() is Outcome.ABORTED
    assert parts.nothing_waits()


def test_a_bug_of_ours_ends_in_an_abort_and_leaves_nothing(
    association: Association, parts: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Services, "end", bug)

    association.peer.sendall(STORE + pdu(P_DATA, pdv(3, 2, Sample().data_set)))

    assert association.receive().hex() == "07000000000400000200"
    assert association.end() is Outcome.ABORTED
    assert parts.nothing_waits()


def test_four_requests_without_waiting_are_forgiven_and_five_are_not(
    parts: Receiving,
) -> None:
    kinds = {}
    for count in (4, 5):
        association = Association(parts)
        association.peer.sendall(ECHO * count)
        kinds[count] = [association.receive()[0] for _ in range(count)]
        association.end()

    assert kinds == {4: [P_DATA] * 4, 5: [P_DATA] * 4 + [ABORT]}


def test_an_abort_reaches_a_peer_that_is_still_sending(
    association: Association,
) -> None:
    association.peer.sendall(pdu(P_DATA, pdv(3, 2, b"no command")) + bytes(2_000_000))

    assert association.receive().hex() == "07000000000400000000"


@pytest.mark.parametrize(
    ("context_id", "changes", "status"),
    [
        (1, {"e0100": b"\x30\0", "e0800": b"\1\1"}, 0x0122),
        (
            3,
            {"e0002": CT.encode() + b"\0", "e0100": b"\x30\0", "e0800": b"\1\1"},
            0x0122,
        ),
        (1, {"e0002": b"1.2.840.10008.1.1\0", "e0800": b"\1\1"}, 0x0122),
    ],
    ids=["echo of another class", "echo in a storage context", "store to verification"],
)
def test_a_service_in_the_wrong_context_is_refused(
    association: Association,
    context_id: int,
    changes: dict[str, bytes | None],
    status: int,
) -> None:
    association.peer.sendall(pdu(P_DATA, pdv(context_id, 3, store_command(**changes))))

    assert status.to_bytes(2, "little") in association.receive()
