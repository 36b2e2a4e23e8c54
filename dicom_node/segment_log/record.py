"""One record of the log: a head of fixed size, then a whole Part 10 file.

    head  magic, CRC-32 of the rest of the head | generation of its segment, sequence
          number in it | length of the body, where its data set begins, CRC-32 of what
          stands before that | SHA-256 of the data set | facts as JSON, zeros
    body  preamble, File Meta Information, data set as the peer sent it
    zeros up to the next multiple of `ALIGNMENT`

A record counts when every number agrees with where it stands and both checksums match.
What follows the last record of a generation is an older generation or zeros, and never
agrees.
"""

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass, fields
from operator import attrgetter

from core.received import ReceivedInstance
from core.settings import Priority

__all__ = [
    "ALIGNMENT",
    "HEAD_BYTES",
    "LARGEST_BODY",
    "Record",
    "body_is_whole",
    "decode_head",
    "encode_head",
    "record_bytes",
]

ALIGNMENT = 512
HEAD_BYTES = 2048
# A slice of CT or MR; what is larger gains nothing from being written twice.
LARGEST_BODY = 1 << 20

_MAGIC = b"SRR1"
_CHECKED = struct.Struct("<4sI")
_FIXED = struct.Struct("<QQIII32sH")
_FACTS_AT = _CHECKED.size + _FIXED.size
_NAMES = tuple(field.name for field in fields(ReceivedInstance))
_values = attrgetter(*_NAMES)


@dataclass(frozen=True, slots=True)
class Record:
    """What the head of a record says."""

    generation: int
    sequence: int
    body_bytes: int
    data_set_at: int
    """In the body."""
    meta_crc: int
    """CRC-32 of the body up to `data_set_at`."""
    instance: ReceivedInstance


def record_bytes(body_bytes: int) -> int:
    """Return how much room a record takes in its segment."""
    return -(-(HEAD_BYTES + body_bytes) // ALIGNMENT) * ALIGNMENT


def encode_head(
    buffer: bytearray | memoryview,
    instance: ReceivedInstance,
    *,
    generation: int,
    sequence: int,
    body_bytes: int,
    data_set_at: int,
) -> None:
    """Write the head of a record whose body stands behind it already.

    Parameters
    ----------
    buffer
        `HEAD_BYTES`, then the body. Only the head is changed.
    """
    facts = json.dumps(_values(instance)).encode("ascii")
    _FIXED.pack_into(
        buffer,
        _CHECKED.size,
        generation,
        sequence,
        body_bytes,
        data_set_at,
        zlib.crc32(buffer[HEAD_BYTES : HEAD_BYTES + data_set_at]),
        bytes.fromhex(instance.sha256),
        len(facts),
    )
    end = _FACTS_AT + len(facts)
    assert end <= HEAD_BYTES, "every field of an instance's facts is limited"
    buffer[_FACTS_AT:end] = facts
    _CHECKED.pack_into(buffer, 0, _MAGIC, zlib.crc32(buffer[_CHECKED.size : end]))


def decode_head(head: bytes, *, generation: int | None, sequence: int) -> Record | None:
    """Read a head; None if no record of this generation and number begins here.

    Parameters
    ----------
    head
        `HEAD_BYTES` or less.
    generation
        The one that is expected; None takes any, at the beginning of a segment.
    sequence
        The number that is expected.
    """
    if len(head) < _FACTS_AT:
        return None
    magic, crc = _CHECKED.unpack_from(head)
    (found, number, body_bytes, data_set_at, meta_crc, sha256, length) = (
        _FIXED.unpack_from(head, _CHECKED.size)
    )
    end = _FACTS_AT + length
    if (
        magic != _MAGIC
        or number != sequence
        or generation not in (None, found)
        or end > len(head)
        or zlib.crc32(head[_CHECKED.size : end]) != crc
    ):
        return None
    values = dict(zip(_NAMES, json.loads(head[_FACTS_AT:end]), strict=True))
    # JSON has no enumerations.
    values["order_priority"] = Priority(values["order_priority"])
    instance = ReceivedInstance(**values)
    if instance.sha256 != sha256.hex():
        return None
    return Record(found, number, body_bytes, data_set_at, meta_crc, instance)


def body_is_whole(body: bytes | memoryview, record: Record) -> bool:
    """Tell whether a body is what its head says."""
    start = record.data_set_at
    return (
        len(body) == record.body_bytes
        and zlib.crc32(body[:start]) == record.meta_crc
        and hashlib.sha256(body[start:]).hexdigest() == record.instance.sha256
    )
