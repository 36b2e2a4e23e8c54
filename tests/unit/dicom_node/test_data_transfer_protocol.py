"""Promises of the data transfer phase: any cut of the bytes means the same."""

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.data_transfer.command_set import Command
from dicom_node.data_transfer.protocol import (
    TRANSITIONS,
    Abort,
    AbortReceived,
    Action,
    DataTransfer,
    Event,
    Fragment,
    Limits,
    MessageBegan,
    MessageEnded,
    PduType,
    ProtocolError,
    ReleaseRequested,
    State,
    encode_abort,
    encode_data_set,
    encode_message,
    encode_release_response,
)
from tests.integration.receiving_node import command, pdu, pdv, store_command

P_DATA = 0x04
RELEASE = pdu(0x05, b"\0\0\0\0")
ABORT = pdu(0x07, b"\0\0\0\0")
LIMITS = Limits(
    maximum_pdu_length=4096, maximum_command_bytes=1024, maximum_data_set_bytes=10_000
)
ECHO = command(
    e0002=b"1.2.840.10008.1.1\0", e0100=b"\x30\0", e0110=b"\1\0", e0800=b"\1\1"
)
CANCEL = command(e0100=b"\xff\x0f", e0120=b"\1\0", e0800=b"\1\1")


def parser() -> DataTransfer:
    return DataTransfer({1, 3}, LIMITS)


def events(pieces: Iterable[bytes]) -> list[Event | bytes | tuple[Abort, str]]:
    """What a parser says, neighbouring fragments joined, an error as last entry."""
    protocol = parser()
    said: list[Event | bytes | tuple[Abort, str]] = []
    try:
        for piece in pieces:
            for event in protocol.receive(memoryview(piece)):
                if not isinstance(event, Fragment):
                    said.append(event)
                elif said and isinstance(said[-1], bytes):
                    said[-1] += bytes(event.data)
                else:
                    said.append(bytes(event.data))
    except ProtocolError as error:
        said.append((error.abort, str(error)))
    return said


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A C-STORE-RQ or C-ECHO-RQ in PDUs and PDVs of any size."""
    if draw(st.booleans()):
        return pdu(P_DATA, pdv(1, 3, ECHO))
    content = draw(st.binary(max_size=600))
    pieces = cut(content, draw(st.lists(st.integers(0, 600), max_size=4)))
    pdvs = [
        pdv(3, 2 if number == len(pieces) else 0, piece)
        for number, piece in enumerate(pieces, start=1)
    ]
    whole = store_command()
    at = draw(st.integers(0, len(whole)))
    pdvs = [pdv(3, 1, whole[:at]), pdv(3, 3, whole[at:]), *pdvs]
    if draw(st.booleans()):
        return pdu(P_DATA, b"".join(pdvs))
    return b"".join(pdu(P_DATA, one) for one in pdvs)


PLACES = st.lists(st.integers(0, 10_000), max_size=40)


@given(st.lists(messages(), max_size=4), st.sampled_from([b"", RELEASE, ABORT]), PLACES)
def test_any_fragmentation_of_the_same_bytes_gives_the_same_events(
    sent: list[bytes], end: bytes, places: list[int]
) -> None:
    stream = b"".join(sent) + end

    whole = events([stream])

    assert events(cut(stream, places)) == whole
    assert events([stream[i : i + 1] for i in range(len(stream))]) == whole
    assert sum(isinstance(event, MessageEnded) for event in whole) == len(sent)


@given(st.lists(messages(), max_size=2), st.binary(min_size=1, max_size=200), PLACES)
def test_garbage_after_any_message_is_refused_at_the_same_place_however_cut(
    sent: list[bytes], garbage: bytes, places: list[int]
) -> None:
    stream = b"".join(sent) + garbage

    assert events(cut(stream, places)) == events([stream])


@given(st.lists(st.binary(max_size=300), max_size=5))
@settings(max_examples=300)
def test_random_bytes_raise_nothing_but_the_protocol_s_error(
    pieces: list[bytes],
) -> None:
    events(pieces)


@given(st.lists(messages(), min_size=1, max_size=2), st.data())
@settings(max_examples=300)
def test_one_wrong_byte_raises_nothing_but_the_protocol_s_error(
    sent: list[bytes], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(sent))
    stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))

    events([bytes(stream)])


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", PduType)
def test_each_pdu_does_in_each_state_what_the_table_says(
    state: State, kind: PduType
) -> None:
    action, following = TRANSITIONS[state, kind]
    protocol = parser()
    protocol.state = state
    body = pdv(1, 3, ECHO) if kind is PduType.P_DATA_TF else bytes(4)
    said: list[Event] = []
    aborted = None

    try:
        said = list(protocol.receive(memoryview(pdu(kind, body))))
    except ProtocolError as error:
        aborted = error.abort

    indicated = {
        Action.INDICATE_DATA: [MessageBegan, MessageEnded],
        Action.INDICATE_RELEASE: [ReleaseRequested],
        Action.INDICATE_ABORT: [AbortReceived],
    }
    assert [type(event) for event in said] == indicated.get(action, [])
    assert (aborted is Abort.UNEXPECTED_PDU) == (action is Action.ABORT)
    assert protocol.state is following


@pytest.mark.parametrize(
    ("data", "abort"),
    [
        (pdu(0x09, bytes(4)), Abort.UNRECOGNIZED_PDU),
        (pdu(0x06, bytes(4)), Abort.UNEXPECTED_PDU),
        (pdu(0x01, b"", length=0xFFFFFFFF), Abort.UNEXPECTED_PDU),
        (pdu(P_DATA, b"", length=4096 + 65), Abort.INVALID_PARAMETER_VALUE),
        (pdu(P_DATA, b""), Abort.INVALID_PARAMETER_VALUE),
        (pdu(0x05, bytes(5)), Abort.INVALID_PARAMETER_VALUE),
        (pdu(P_DATA, pdv(1, 3, ECHO) + b"\0"), Abort.INVALID_PARAMETER_VALUE),
        (
            pdu(P_DATA, struct.pack(">LBB", 1, 1, 3)),
            Abort.INVALID_PARAMETER_VALUE,
        ),
        (
            pdu(P_DATA, struct.pack(">LBB", 90, 1, 3) + ECHO),
            Abort.INVALID_PARAMETER_VALUE,
        ),
        (pdu(P_DATA, pdv(5, 3, ECHO)), Abort.INVALID_PARAMETER_VALUE),
        (pdu(P_DATA, pdv(2, 3, ECHO)), Abort.INVALID_PARAMETER_VALUE),
        (pdu(P_DATA, pdv(1, 1, bytes(1025))), Abort.SERVICE_USER),
        (pdu(P_DATA, pdv(3, 2, b"data")), Abort.SERVICE_USER),
        (pdu(P_DATA, pdv(1, 3, ECHO) + pdv(1, 2, b"data")), Abort.SERVICE_USER),
        (pdu(P_DATA, pdv(3, 3, store_command()) * 2), Abort.SERVICE_USER),
        (
            pdu(P_DATA, pdv(3, 3, store_command()) + pdv(1, 0, b"data")),
            Abort.SERVICE_USER,
        ),
        (pdu(P_DATA, pdv(1, 1, ECHO) + pdv(3, 3, b"")), Abort.SERVICE_USER),
        (pdu(P_DATA, pdv(1, 3, b"\xff" * 20)), Abort.SERVICE_USER),
        (pdu(P_DATA, pdv(1, 3, ECHO[:-1])), Abort.SERVICE_USER),
        (pdu(P_DATA, pdv(3, 3, store_command(e0110=None))), Abort.SERVICE_USER),
        (pdu(P_DATA, pdv(3, 3, store_command(e0800=None))), Abort.SERVICE_USER),
        (pdu(P_DATA, pdv(3, 3, store_command(e0100=b"\x10\x01"))), Abort.SERVICE_USER),
        (
            pdu(P_DATA, pdv(3, 3, store_command()))
            + pdu(P_DATA, pdv(3, 0, bytes(4000))) * 3,
            Abort.SERVICE_USER,
        ),
    ],
)
def test_what_breaks_the_protocol_is_aborted_with_its_source_and_reason(
    data: bytes, abort: Abort
) -> None:
    last = events([data])[-1]

    assert isinstance(last, tuple)
    assert last[0] is abort


def test_a_refused_peer_is_not_listened_to_any_more() -> None:
    protocol = parser()
    with pytest.raises(ProtocolError):
        list(protocol.receive(memoryview(pdu(0x09, bytes(4)))))

    assert list(protocol.receive(memoryview(pdu(P_DATA, pdv(1, 3, ECHO))))) == []


def test_fragments_are_views_of_what_was_received_and_no_copies() -> None:
    received = pdu(P_DATA, pdv(3, 3, store_command()) + pdv(3, 2, b"abcd"))

    (fragment,) = (
        event
        for event in parser().receive(memoryview(received))
        if isinstance(event, Fragment)
    )

    assert fragment.data.obj is received


def test_a_fragment_is_passed_on_before_its_pdu_is_complete() -> None:
    protocol = parser()
    begun = pdu(P_DATA, pdv(3, 3, store_command()) + pdv(3, 2, b"abcd"))[:-3]

    said = list(protocol.receive(memoryview(begun)))

    assert [type(event) for event in said] == [MessageBegan, Fragment]
    assert protocol.pdus == 0


def test_a_cancel_request_is_a_message_without_an_id() -> None:
    began, ended = events([pdu(P_DATA, pdv(1, 3, CANCEL))])

    assert isinstance(began, MessageBegan)
    assert began.request.command is Command.C_CANCEL_RQ
    assert ended == MessageEnded()


def test_pdus_without_content_of_ours_are_written_as_in_the_standard() -> None:
    assert encode_release_response().hex() == "06000000000400000000"
    assert encode_abort(Abort.UNEXPECTED_PDU).hex() == "07000000000400000202"


@pytest.mark.parametrize("peer_maximum", [0, 7, 8, 20, 64, 16384])
def test_a_response_is_cut_to_what_the_peer_takes(peer_maximum: int) -> None:
    encoded = encode_message(ECHO, 1, peer_maximum)

    began, _ = events([encoded])
    lengths = []
    while encoded:
        (length,) = struct.unpack_from(">L", encoded, 2)
        lengths.append(length)
        encoded = encoded[6 + length :]
    assert isinstance(began, MessageBegan)
    assert max(lengths) <= max(peer_maximum, 8) or peer_maximum == 0


@pytest.mark.parametrize("peer_maximum", [0, 8, 20, 64, 16384])
def test_a_data_set_that_we_send_is_what_a_peer_reads(peer_maximum: int) -> None:
    limits = Limits(
        maximum_pdu_length=1 << 18,
        maximum_command_bytes=1024,
        maximum_data_set_bytes=1 << 20,
    )
    content = bytes(range(256)) * 700
    pieces = [content[:1], content[1:1000], b"", content[1000:]]
    protocol = DataTransfer([3], limits)

    sent = pdu(P_DATA, pdv(3, 3, store_command())) + b"".join(
        encode_data_set(pieces, 3, peer_maximum)
    )
    received = b"".join(
        bytes(event.data)
        for event in protocol.receive(memoryview(sent))
        if isinstance(event, Fragment)
    )

    assert received == content
