"""What a peer answers is read as what it says, however it is cut and whatever it is."""

import random
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.data_transfer.command_set import (
    Command,
    InvalidCommand,
    Request,
    Response,
    encode_request,
    encode_response,
    parse_request,
    parse_response,
)
from dicom_node.data_transfer.protocol import (
    Abort,
    PduType,
    ProtocolError,
    encode_abort,
    encode_message,
    encode_release_request,
    encode_release_response,
)
from dicom_node.data_transfer.requestor import (
    TRANSITIONS,
    Aborted,
    Action,
    Answers,
    Event,
    PeerReleases,
    Released,
    State,
)
from tests.recordings.record import FOLDER, SAMPLES

CONTEXTS = (1, 3)
REQUEST = Request(Command.C_STORE_RQ, 7, True, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")
ANSWER = encode_message(
    encode_response(
        REQUEST,
        0xB000,
        error_comment="coerced",
        sop_class_uid=REQUEST.sop_class_uid,
        sop_instance_uid=REQUEST.sop_instance_uid,
    ),
    3,
    0,
)


def heard(answers: Answers, *pieces: bytes) -> list[Event]:
    return [event for piece in pieces for event in answers.receive(piece)]


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def pdv(context: int, control: int, content: bytes) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context, control) + content


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 100, 16384]))
def test_any_cut_of_the_same_bytes_means_the_same(seed, peer_maximum):
    rng = random.Random(seed)
    message = encode_response(REQUEST, 0x0000)
    stream = encode_message(message, 3, peer_maximum) * 3 + encode_release_request()
    pieces = []
    while stream:
        count = rng.choice([1, 2, 5, 6, 7, 100, 4096])
        pieces.append(stream[:count])
        stream = stream[count:]

    events = heard(Answers(CONTEXTS), *pieces)

    answer = Response(Command.C_STORE_RQ, 7, False, 0, "")
    assert events == [answer, answer, answer, PeerReleases()]


def test_an_answer_says_what_was_written_into_it():
    (answer,) = heard(Answers(CONTEXTS), ANSWER)

    assert answer == Response(Command.C_STORE_RQ, 7, False, 0xB000, "coerced")


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*.answers")), ids=lambda path: path.stem
)
@pytest.mark.parametrize("seed", range(3))
def test_what_real_archives_answered_is_read(path: Path, seed: int):
    rng = random.Random(seed)
    recorded = path.read_bytes()
    release = len(encode_release_response())
    stream, pieces = recorded[:-release], []
    while stream:
        count = rng.choice([1, 7, 50, 1000])
        pieces.append(stream[:count])
        stream = stream[count:]
    answers = Answers(range(1, 256, 2))

    events = heard(answers, *pieces)
    answers.release()
    events += heard(answers, recorded[-release:])

    responses = [event for event in events if isinstance(event, Response)]
    assert [one.message_id for one in responses] == [
        number for number, _ in enumerate(SAMPLES, start=1)
    ]
    assert {one.status for one in responses} == {0}
    assert isinstance(events[-1], Released)


def test_the_recordings_are_there():
    assert len(list(FOLDER.glob("*.answers"))) >= 3


BODIES = {
    PduType.A_ASSOCIATE_RQ: pdu(1, bytes(4)),
    PduType.A_ASSOCIATE_AC: pdu(2, bytes(4)),
    PduType.A_ASSOCIATE_RJ: pdu(3, bytes(4)),
    PduType.P_DATA_TF: ANSWER,
    PduType.A_RELEASE_RQ: encode_release_request(),
    PduType.A_RELEASE_RP: encode_release_response(),
    PduType.A_ABORT: encode_abort(Abort.NOT_SPECIFIED),
}
EXPECTED = {
    Action.INDICATE_DATA: Response,
    Action.INDICATE_RELEASE: PeerReleases,
    Action.CONFIRM_RELEASE: Released,
    Action.INDICATE_COLLISION: PeerReleases,
    Action.INDICATE_ABORT: Aborted,
}


@pytest.mark.parametrize("received", list(PduType))
@pytest.mark.parametrize("state", [one for one in State if one is not State.ENDED])
def test_every_pdu_in_every_state_does_what_the_table_says(state, received):
    action, following = TRANSITIONS[state, received]
    answers = Answers(CONTEXTS)
    answers.state = state

    if action is Action.ABORT:
        with pytest.raises(ProtocolError) as found:
            heard(answers, BODIES[received])
        assert found.value.abort is Abort.UNEXPECTED_PDU
    else:
        events = heard(answers, BODIES[received])
        assert [type(event) for event in events] == [
            EXPECTED[action] for _ in [0] if action in EXPECTED
        ]
    assert answers.state is following


def test_the_end_is_the_end():
    answers = Answers(CONTEXTS)
    heard(answers, encode_abort(Abort.NOT_SPECIFIED))

    assert heard(answers, ANSWER) == []


@pytest.mark.parametrize(
    ("stream", "abort"),
    [
        (pdu(9, b"")[:6], Abort.UNRECOGNIZED_PDU),
        (struct.pack(">BxL", 4, 1 << 20), Abort.INVALID_PARAMETER_VALUE),
        (struct.pack(">BxL", 7, 5), Abort.INVALID_PARAMETER_VALUE),
        (pdu(4, b"\0\0"), Abort.INVALID_PARAMETER_VALUE),
        (pdu(4, struct.pack(">LBB", 9, 1, 3)), Abort.INVALID_PARAMETER_VALUE),
        (pdu(4, struct.pack(">LBB", 1, 1, 3)), Abort.INVALID_PARAMETER_VALUE),
        (pdu(4, pdv(5, 3, b"")), Abort.INVALID_PARAMETER_VALUE),
        (pdu(4, pdv(1, 0, b"data")), Abort.SERVICE_USER),
        (pdu(4, pdv(1, 3, b"no command set")), Abort.SERVICE_USER),
        (pdu(4, pdv(1, 1, bytes(16000))) * 5, Abort.SERVICE_USER),
    ],
)
def test_what_breaks_the_protocol_is_an_abort_with_its_reason(stream, abort):
    with pytest.raises(ProtocolError) as found:
        heard(Answers(CONTEXTS), stream)

    assert found.value.abort is abort


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(stream):
    answers = Answers(CONTEXTS)

    with suppress(ProtocolError):
        heard(answers, stream)


def test_a_request_reads_back_as_it_was_meant():
    encoded = encode_request(
        Command.C_STORE_RQ, 65535, sop_class_uid="1.2.3", sop_instance_uid="1.2.3.4"
    )
    echo = encode_request(Command.C_ECHO_RQ, 1, sop_class_uid="1.2.840.10008.1.1")

    assert parse_request(encoded) == Request(
        Command.C_STORE_RQ, 65535, True, "1.2.3", "1.2.3.4"
    )
    assert parse_request(echo).has_data_set is False


@pytest.mark.parametrize(
    "encoded", [encode_request(Command.C_ECHO_RQ, 1, sop_class_uid="1.2"), b"", b"x"]
)
def test_what_is_no_response_is_refused(encoded):
    with pytest.raises(InvalidCommand):
        parse_response(encoded)
