"""Promises of receiving one instance: what is answered and what is kept."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import (
    ConflictingInstance,
    InvalidInstance,
    InvalidUid,
    MismatchedInstance,
    StoreFull,
    StoreUnavailable,
)
from dicom_node.receive import FreeSpace, Receiver
from dicom_node.segment_log import LARGEST_BODY
from dicom_node.statuses import StorageOutcome, answer_for
from tests.data_sets import INSTANCE, JPEG, Sample
from tests.receiving import Order, Receiving, eventually, receiving, settings_for

MARKER = "MARKER^PATIENT"


@pytest.fixture(params=["log", "file"])
def order(request: pytest.FixtureRequest) -> Order:
    """How instances become durable: every promise holds for both."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def node(tmp_path: Path, order: Order) -> Iterator[Receiving]:
    with receiving(settings_for(tmp_path, order=order)) as parts:
        yield parts


@pytest.fixture
def silent_node(tmp_path: Path, order: Order) -> Iterator[Receiving]:
    """A node whose index writer does not run."""
    with receiving(settings_for(tmp_path, order=order), writing=False) as parts:
        yield parts


def test_a_sound_instance_is_stored_as_it_came(node: Receiving) -> None:
    sample = Sample(pixels=bytes(range(128)))

    answer = node.receive(sample)

    sha256 = hashlib.sha256(sample.data_set).hexdigest()
    assert answer.status == 0x0000
    assert eventually(lambda: node.rows() == {INSTANCE: sha256})
    assert node.store.path_of(sha256).read_bytes().endswith(sample.data_set)
    assert node.store.verify(sha256)


@pytest.mark.parametrize("beyond", [-200, 1, 300_000])
def test_an_instance_too_large_for_the_log_is_stored_as_it_came(
    node: Receiving, beyond: int
) -> None:
    sample = Sample(pixels=os.urandom((LARGEST_BODY + beyond) // 2 * 2))
    sink = node.receiver.begin(sample.meta)
    for start in range(0, len(sample.data_set), 100_000):
        sink.write(sample.data_set[start : start + 100_000])

    answer = sink.commit()

    sha256 = hashlib.sha256(sample.data_set).hexdigest()
    assert answer.status == 0x0000
    assert eventually(lambda: node.rows() == {INSTANCE: sha256})
    assert node.store.verify(sha256)
    assert eventually(node.nothing_waits)


def test_what_is_indexed_leaves_the_inbox_and_is_told(node: Receiving) -> None:
    node.receive(Sample())

    assert eventually(lambda: node.indexed == ["1.2.3.4"])
    assert eventually(node.nothing_waits)


def test_the_same_instance_twice_is_a_success_and_nothing_new(
    silent_node: Receiving,
) -> None:
    silent_node.receive(Sample())

    answer = silent_node.receive(Sample())

    assert answer.status == 0x0000
    assert answer.outcome is StorageOutcome.DUPLICATE
    assert len(silent_node.kept()) == 1


def test_an_indexed_instance_is_a_duplicate_too(node: Receiving) -> None:
    node.receive(Sample())
    assert eventually(lambda: bool(node.rows()))

    answer = node.receive(Sample())

    assert answer.outcome is StorageOutcome.DUPLICATE


@pytest.mark.parametrize("indexed", [True, False])
def test_other_content_under_a_known_uid_is_refused_and_remembered(
    node: Receiving, indexed: bool
) -> None:
    first, second = Sample(), Sample(pixels=b"\x01" * 128)
    node.receive(first)
    assert not indexed or eventually(lambda: bool(node.rows()))

    answer = node.receive(second)

    kept = hashlib.sha256(first.data_set).hexdigest()
    refused = hashlib.sha256(second.data_set).hexdigest()
    assert answer.status == 0xC111
    assert eventually(lambda: node.conflicts() == {(INSTANCE, kept, refused)})
    assert node.rows() == {INSTANCE: kept}
    assert not node.store.path_of(refused).exists()


def test_equal_bytes_in_another_transfer_syntax_are_other_content(
    silent_node: Receiving,
) -> None:
    silent_node.receive(Sample())

    answer = silent_node.receive(Sample(transfer_syntax_uid=JPEG))

    assert answer.status == 0xC111


def test_an_unreadable_index_does_not_stop_receiving(
    silent_node: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> None:
        raise StoreUnavailable("no index")

    monkeypatch.setattr(silent_node.database, "read", unreadable)

    answer = silent_node.receive(Sample())

    assert answer.status == 0x0000


@pytest.mark.parametrize(
    ("sample", "data", "status"),
    [
        (Sample(sop_instance_uid="1.2.03"), None, 0x0117),
        (Sample(sop_instance_uid="1." + "2" * 64), None, 0x0117),
        (Sample(sop_instance_uid="../../etc/passwd"), None, 0x0117),
        (Sample(sop_class_uid=""), None, 0x0117),
        (Sample(), Sample(sop_instance_uid="1.2.9").data_set, 0xA900),
        (Sample(), Sample(sop_class_uid="1.2.9").data_set, 0xA900),
        (Sample(), Sample(sop_instance_uid="").data_set, 0xA900),
        (Sample(study_instance_uid=""), None, 0xC000),
        (Sample(study_instance_uid="../../x"), None, 0xC000),
        (Sample(series_instance_uid="1.2.003"), None, 0xC000),
        (Sample(), Sample().data_set[:-1], 0xC000),
        (Sample(), b"", 0xA900),
        (Sample(), b"GET / HTTP/1.1\r\n\r\n", 0xC000),
    ],
)
def test_what_cannot_be_filed_is_refused_and_leaves_nothing(
    silent_node: Receiving, sample: Sample, data: bytes | None, status: int
) -> None:
    answer = silent_node.receive(sample, data)

    assert answer.status == status
    assert 0 < len(answer.error_comment) <= 64
    assert silent_node.kept() == []
    assert silent_node.nothing_waits()


def test_a_missing_patient_id_is_no_reason_to_refuse(silent_node: Receiving) -> None:
    assert silent_node.receive(Sample(patient_id="")).status == 0x0000


def test_no_comment_names_a_patient(silent_node: Receiving) -> None:
    sample = Sample(patient_id=MARKER, study_instance_uid=MARKER)

    answer = silent_node.receive(sample)

    assert "MARKER" not in answer.error_comment


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidUid("x"), 0x0117),
        (MismatchedInstance("x"), 0xA900),
        (InvalidInstance("x"), 0xC000),
        (ConflictingInstance("x"), 0xC111),
        (StoreFull("x"), 0xA700),
        (StoreUnavailable("x"), 0xA700),
        (ValueError("x"), 0x0110),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int) -> None:
    assert answer_for(error).status == status


@pytest.mark.parametrize(
    ("order", "call"),
    [
        ("log", "pwrite"),
        ("log", "fdatasync"),
        ("file", "write"),
        ("file", "fdatasync"),
        ("file", "rename"),
        ("file", "fsync"),
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EFBIG])
def test_a_disk_that_fails_is_answered_a700_and_leaves_nothing(
    silent_node: Receiving, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    sink = silent_node.receiver.begin(Sample().meta)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    target = Path if call == "rename" else os
    with monkeypatch.context() as patch:
        patch.setattr(target, call, fail)
        sink.write(Sample().data_set)
        answer = sink.commit()

    assert answer.status == 0xA700
    assert silent_node.kept() == []
    assert silent_node.nothing_waits()


def test_a_failed_sync_is_never_repeated_on_the_same_descriptor(
    silent_node: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)

    silent_node.receive(Sample())

    assert len(calls) == 1


def test_after_a_failure_the_resend_is_stored(
    silent_node: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        silent_node.receive(Sample())

    answer = silent_node.receive(Sample())

    assert answer.outcome is StorageOutcome.STORED


def test_a_bug_of_ours_is_an_answer_too(
    silent_node: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("dicom_node.receive.filed_instance", bug)

    assert silent_node.receive(Sample()).status == 0x0110


def test_an_abandoned_instance_leaves_nothing(silent_node: Receiving) -> None:
    sink = silent_node.receiver.begin(Sample().meta)
    sink.write(b"abc")

    sink.abandon()

    assert silent_node.kept() == []
    assert silent_node.nothing_waits()


def test_below_the_low_water_mark_nothing_is_taken(silent_node: Receiving) -> None:
    part = silent_node.receiver
    full = Receiver(
        inbox=part.inbox,
        known=part.known,
        free_space=FreeSpace(silent_node.settings.data_dir, 1 << 62),
        on_kept=part.on_kept,
    )

    answer = full.begin(Sample().meta).commit()

    assert answer.status == 0xA700


@pytest.mark.parametrize(
    ("order", "last_calls"),
    [
        ("log", ["pwrite", "fdatasync", "answer"]),
        ("file", ["fdatasync", "rename", "fsync", "answer"]),
    ],
)
def test_success_is_said_after_everything_is_synced(
    silent_node: Receiving, monkeypatch: pytest.MonkeyPatch, last_calls: list[str]
) -> None:
    calls: list[str] = []

    def recorded(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            result = real(*arguments, **options)
            calls.append(name)
            return result

        return call

    monkeypatch.setattr(silent_node.receiver, "on_kept", lambda: None)
    for name in ("write", "pwrite", "fdatasync", "fsync"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    monkeypatch.setattr(Path, "rename", recorded("rename", Path.rename))

    silent_node.receive(Sample())
    calls.append("answer")

    assert calls[-len(last_calls) :] == last_calls


def test_four_senders_of_one_instance_at_once_make_one_row(node: Receiving) -> None:
    answers: list[int] = []

    def send() -> None:
        answers.append(node.receive(Sample()).status)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [0, 0, 0, 0]
    assert eventually(lambda: len(node.rows()) == 1 and node.nothing_waits())
    assert len(list(node.store.objects())) == 1
