"""Promises of command sets, held against pynetdicom's own reading and writing."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode, encode

from dicom_node.data_transfer.command_set import (
    Command,
    InvalidCommand,
    Request,
    encode_response,
    parse_request,
)
from tests.data_sets import CT, INSTANCE

STORE = Request(Command.C_STORE_RQ, 7, True, CT, INSTANCE)


def written_by_pynetdicom(message: C_STORE_RQ | C_ECHO_RQ) -> bytes:
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    return encoded


def test_a_store_request_is_read_as_pynetdicom_writes_it() -> None:
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = INSTANCE
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"ab")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)

    assert parse_request(written_by_pynetdicom(message)) == STORE


def test_an_echo_request_is_read_as_pynetdicom_writes_it() -> None:
    primitive = C_ECHO()
    primitive.MessageID = 65535
    primitive.AffectedSOPClassUID = "1.2.840.10008.1.1"
    message = C_ECHO_RQ()
    message.primitive_to_message(primitive)

    assert parse_request(written_by_pynetdicom(message)) == Request(
        Command.C_ECHO_RQ, 65535, False, "1.2.840.10008.1.1", ""
    )


@pytest.mark.parametrize("comment", ["", "odd", "even"])
def test_pynetdicom_reads_our_response(comment: str) -> None:
    encoded = encode_response(
        STORE, 0xA900, error_comment=comment, sop_class_uid=CT, sop_instance_uid="1.23"
    )

    response = decode(BytesIO(encoded), True, True)

    assert response.CommandField == 0x8001
    assert response.MessageIDBeingRespondedTo == 7
    assert response.CommandDataSetType == 0x0101
    assert response.Status == 0xA900
    assert response.get("ErrorComment", "") == comment
    assert response.AffectedSOPClassUID == CT
    assert response.AffectedSOPInstanceUID == "1.23"
    assert response.CommandGroupLength == len(encoded) - 12


def test_broken_uids_are_left_out_of_a_response() -> None:
    response = decode(BytesIO(encode_response(STORE, 0x0117)), True, True)

    assert "AffectedSOPClassUID" not in response
    assert "AffectedSOPInstanceUID" not in response


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_the_command_s_error(encoded: bytes) -> None:
    try:
        parse_request(encoded)
    except InvalidCommand:
        return
