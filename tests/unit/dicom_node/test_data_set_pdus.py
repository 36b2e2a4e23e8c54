"""PDUs made of a file hold its bytes, and no more than the peer takes."""

import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.data_transfer import data_set_pdus
from dicom_node.data_transfer.data_set_pdus import (
    DataSetPdus,
    Source,
    UnreadableSource,
)


def read(pdus: DataSetPdus, source: Source, context_id: int) -> tuple[bytes, list[int]]:
    """The data set that a receiver gets, and the lengths of the PDUs."""
    pdus.begin(source, context_id)
    stream = b""
    while chunk := pdus.next():
        stream += bytes(chunk)
    data, lengths, last = b"", [], False
    while stream:
        kind, length, size, context, control = struct.unpack(">BxLLBB", stream[:12])
        assert (kind, context, size) == (4, context_id, length - 4)
        assert not last
        last = control == 2
        data += stream[12 : 6 + length]
        lengths.append(length)
        stream = stream[6 + length :]
    assert last
    return data, lengths


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "data"
    path.write_bytes(os.urandom(1_000_000))
    with path.open("rb") as file:
        yield file, path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    maximum=st.sampled_from([0, 7, 8, 100, 4096, 16384, 131072, 1 << 20, 1 << 31]),
    sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=3),
    offset=st.integers(0, 1000),
)
def test_a_data_set_arrives_whole_in_pdus_that_fit(content, maximum, sizes, offset):
    file, everything = content
    pdus = DataSetPdus(maximum)

    for number, size in enumerate(sizes):
        if 0 < maximum < 100:
            size %= 5000
        source = Source(file.fileno(), offset, size)
        # Some follow in the same presentation context, some in another.
        data, lengths = read(pdus, source, 2 * (number // 2) + 1)

        assert data == everything[offset : offset + size]
        assert max(lengths) <= max(maximum, 8) or not maximum


def test_fragments_have_an_even_length_but_for_an_odd_end(content):
    file, _ = content

    _, lengths = read(DataSetPdus(101), Source(file.fileno(), 0, 999), 1)

    assert {length % 2 for length in lengths[:-1]} == {0}


def test_a_large_pdu_is_made_where_the_peer_takes_one(content):
    file, _ = content

    _, lengths = read(DataSetPdus(131072), Source(file.fileno(), 0, 500_000), 1)

    assert lengths[0] == 131072


def test_a_file_that_became_shorter_is_no_whole_data_set(content):
    file, everything = content
    pdus = DataSetPdus(4096)
    pdus.begin(Source(file.fileno(), len(everything) - 10, 20), 1)

    with pytest.raises(UnreadableSource, match="shorter"):
        pdus.next()


def test_a_file_that_cannot_be_read_is_told(content):
    pdus = DataSetPdus(4096)
    pdus.begin(Source(-1, 0, 20), 1)

    with pytest.raises(UnreadableSource, match="cannot be read"):
        pdus.next()


def test_a_disk_that_gives_little_at_a_time_gives_the_same(content, monkeypatch):
    file, everything = content
    whole = os.preadv

    def little(descriptor, buffers, offset):
        return whole(descriptor, [buffers[0][:37]], offset)

    monkeypatch.setattr(data_set_pdus.os, "preadv", little)

    data, _ = read(DataSetPdus(100), Source(file.fileno(), 3, 5000), 1)

    assert data == everything[3:5003]
