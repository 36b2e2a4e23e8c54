"""Promises of the segment log: what a restart finds in it, and what is left of it."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.received import ReceivedInstance
from core.settings import Priority
from dicom_node.segment_log import (
    HEAD_BYTES,
    WANTED_FREE,
    LogFull,
    Logged,
    LogReader,
    SegmentLog,
)
from dicom_node.segment_log.record import decode_head, encode_head, record_bytes
from dicom_node.segment_log.segments import FIRST_RECORD_AT, SegmentState
from dicom_node.shared_state import SharedLock

SEGMENT_BYTES = FIRST_RECORD_AT + 4 * record_bytes(1000)


def facts(number: int, data_set: bytes) -> ReceivedInstance:
    return ReceivedInstance(
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.4",
        sop_instance_uid=f"1.2.3.4.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sha256=hashlib.sha256(data_set).hexdigest(),
        bytes=len(data_set),
        modality="CT",
        is_image=True,
        own_result=False,
        order_priority=Priority.STAT,
        calling_ae_title='CT "1" \\ 2',
        called_ae_title="SECONDREAD",
        peer_address="::1",
        received_at=1.5,
    )


class Log:
    """A log and its reader, as one process or after a restart."""

    def __init__(self, root: Path, *, segments: int = 3, size: int = SEGMENT_BYTES):
        self.log = SegmentLog(root, SharedLock(), segments=segments, segment_bytes=size)
        self.reader = LogReader(self.log, lambda: True)
        self.recovered = list(self.reader.recover())

    def append(self, number: int, data_set: bytes = b"", meta: bytes = b"meta") -> None:
        body = meta + (data_set or bytes([number]) * 900)
        instance = facts(number, body[len(meta) :])
        self.log.append(
            bytearray(HEAD_BYTES) + body,
            instance,
            body_bytes=len(body),
            data_set_at=len(meta),
            owner=0,
        )

    def arrived(self) -> list[Logged]:
        return self.reader.arrived(1000)

    def numbers(self) -> list[int]:
        return [number_of(one.instance) for one in self.arrived()]

    def close(self) -> None:
        self.log.files.close()
        self.log.lock.close()


def number_of(instance: ReceivedInstance) -> int:
    return int(instance.sop_instance_uid.rpartition(".")[2])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.close()


def restarted(log: Log, **changes: int) -> Log:
    """What a new process makes of what the old one left at a kill."""
    return Log(log.log.folder.parent, **changes)


def test_what_was_appended_is_read_back_byte_for_byte(log: Log) -> None:
    log.append(1, b"data set", meta=b"preamble")

    (one,) = log.arrived()

    assert one.instance == facts(1, b"data set")
    assert log.reader.read_body(one) == b"preambledata set"


def test_what_is_not_in_the_index_is_found_by_a_restart(log: Log) -> None:
    for number in range(6):
        log.append(number)

    again = restarted(log)

    assert sorted(map(number_of, again.recovered)) == list(range(6))
    assert sorted(again.numbers()) == list(range(6))
    again.close()


def test_a_restart_finds_nothing_that_was_done_with(log: Log) -> None:
    for number in range(5):
        log.append(number)
    log.reader.done(log.arrived())
    log.reader.checkpoint()
    log.append(5)

    again = restarted(log)

    assert again.numbers() == [5]
    again.close()


def test_an_instance_that_is_not_done_holds_back_only_what_came_after_it(
    log: Log,
) -> None:
    for number in range(3):
        log.append(number)
    first, second, third = log.arrived()
    log.reader.done([first, third])
    log.reader.checkpoint()

    again = restarted(log)

    assert again.numbers() == [1, 2]
    again.close()


def test_a_full_log_says_so_and_takes_more_once_it_was_recycled(log: Log) -> None:
    log.reader.prepare(3)
    for number in range(12):
        log.append(number)
    with pytest.raises(LogFull):
        log.append(12)

    log.reader.done(log.arrived())
    assert log.reader.recycle() == 3
    log.append(12)

    assert log.numbers() == [12]


def test_nothing_is_recycled_before_everything_in_it_is_done(log: Log) -> None:
    for number in range(5):
        log.append(number)
    arrived = log.arrived()

    log.reader.done(arrived[1:])

    assert log.reader.recycle() == 0


def test_an_older_generation_is_never_read_as_the_present_one(log: Log) -> None:
    for number in range(5):
        log.append(number)
    log.reader.done(log.arrived())
    log.reader.recycle()
    # Records of the same size, so the old ones behind begin where new ones would.
    for number in (20, 21, 22, 23):
        log.append(number)

    again = restarted(log)

    assert set(map(number_of, again.recovered)) <= {4, 20, 21, 22, 23}
    assert {20, 21, 22, 23} <= set(again.numbers())
    again.close()


@given(cut=st.integers(0, record_bytes(904) - 1), zeros=st.booleans())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_recovery_stops_at_a_record_that_is_not_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int, zeros: bool
) -> None:
    log = Log(tmp_path_factory.mktemp("log"))
    for number in range(3):
        log.append(number)
    record = record_bytes(904)
    at = FIRST_RECORD_AT + 2 * record + cut
    lost = min(record - cut, HEAD_BYTES + 904 - cut)
    if lost > 0:
        (used,) = log.log.table.with_state(SegmentState.OPEN)
        garbage = bytes(lost) if zeros else b"\xa5" * lost
        os.pwrite(log.log.files.descriptor(used), garbage, at)

    again = restarted(log)

    # A head is padded with zeros, so zeros may be what stood there.
    assert again.numbers() in ([0, 1], [0, 1, 2])
    if lost > 904 or (lost > 0 and not zeros and cut >= HEAD_BYTES):
        assert sorted(map(number_of, again.recovered)) == [0, 1]
    log.close()
    again.close()


def test_an_append_that_could_not_be_synced_is_not_told_to_the_index(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(0)

    def fail(_descriptor: int) -> None:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(Exception, match="Input/output"):
            log.append(1)
    log.append(2)

    assert sorted(log.numbers()) == [0, 2]


def test_a_segment_that_failed_takes_no_more_and_is_recycled_in_the_end(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(Exception, match="Input/output"):
            log.append(1)
    (failed,) = log.log.table.with_state(SegmentState.FULL)
    log.append(2)

    (one,) = log.arrived()
    assert one.segment != failed
    assert log.reader.recycle() == 1


def test_files_are_synced_before_their_copies_in_the_log_are_given_up(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for number in range(5):
        log.append(number)
    log.reader.done(log.arrived())

    def sync(_folder: Path) -> None:
        calls.append("sync")

    def write_header(*_: object) -> None:
        calls.append("header")

    monkeypatch.setattr("dicom_node.segment_log.reader.sync_file_system", sync)
    monkeypatch.setattr(log.log.files, "write_header", write_header)
    log.reader.recycle()
    log.reader.checkpoint()

    assert calls[0] == "sync"
    assert calls[-2:] == ["sync", "header"]
    assert "header" in calls[1:-2]


def test_a_listener_that_died_leaves_its_segment_to_be_read_and_recycled(
    log: Log,
) -> None:
    log.append(0)
    log.log.abandon(owner=0)

    arrived = log.arrived()
    log.reader.done(arrived)

    assert len(arrived) == 1
    assert log.reader.recycle() == 1


def test_segments_of_another_size_are_read_and_then_removed(log: Log) -> None:
    for number in range(5):
        log.append(number)

    again = restarted(log, size=2 * SEGMENT_BYTES)
    arrived = again.arrived()
    again.reader.done(arrived)
    again.reader.recycle()

    assert len(arrived) == 5
    sizes = {path.stat().st_size for path in again.log.folder.glob("*.segment")}
    assert sizes == {2 * SEGMENT_BYTES}
    again.close()


def test_a_log_that_is_switched_off_is_read_and_then_removed(log: Log) -> None:
    log.append(7)

    again = restarted(log, segments=0)
    arrived = again.arrived()
    with pytest.raises(LogFull):
        again.append(8)
    again.reader.done(arrived)
    again.reader.recycle()

    assert [number_of(one.instance) for one in arrived] == [7]
    assert list(again.log.folder.iterdir()) == []
    again.close()


def test_after_scrubbing_no_byte_of_what_is_done_is_left(log: Log) -> None:
    log.reader.prepare(2)
    for number in range(6):
        log.append(number, b"MARKER^PATIENT" * 10)
    log.reader.done(log.arrived())
    log.append(6, b"still needed")

    log.reader.scrub()

    left = b"".join(path.read_bytes() for path in log.log.folder.iterdir())
    assert b"MARKER" not in left
    assert b"1.2.3.4.1" not in left
    assert log.numbers() == [6]


def test_a_damaged_header_costs_nothing(log: Log) -> None:
    log.append(3)
    (used,) = log.log.table.with_state(SegmentState.OPEN)
    os.pwrite(log.log.files.descriptor(used), b"\xff" * 16, 0)

    again = restarted(log)

    assert again.numbers() == [3]
    again.close()


def test_without_room_for_another_segment_the_log_stays_as_it_is(
    tmp_path: Path,
) -> None:
    log = SegmentLog(tmp_path, SharedLock(), segments=3, segment_bytes=SEGMENT_BYTES)
    reader = LogReader(log, lambda: False)

    assert list(reader.recover()) == []

    assert list(log.folder.iterdir()) == []


@given(
    number=st.integers(0, 2**40),
    title=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16),
    generation=st.integers(0, 2**63),
    body=st.binary(max_size=50),
)
def test_a_head_says_what_was_put_into_it(
    number: int, title: str, generation: int, body: bytes
) -> None:
    instance = replace(facts(number, body), calling_ae_title=title)
    buffer = bytearray(HEAD_BYTES) + body
    encode_head(
        buffer,
        instance,
        generation=generation,
        sequence=9,
        body_bytes=len(body),
        data_set_at=0,
    )
    head = bytes(buffer[:HEAD_BYTES])

    record = decode_head(head, generation=generation, sequence=9)

    assert record is not None
    assert record.instance == instance
    assert decode_head(head, generation=generation + 1, sequence=9) is None
    assert decode_head(head, generation=generation, sequence=8) is None


def test_there_is_always_a_segment_more_than_is_used_as_long_as_there_may_be(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path, segments=6)
    for number in range(20):
        log.append(number)
        log.reader.prepare(WANTED_FREE)

    assert len(log.numbers()) == 20
    log.close()
