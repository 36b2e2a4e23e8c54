"""Promises of the index behind the inbox."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from core.errors import StoreUnavailable
from core.received import ReceivedInstance
from dicom_node import index_writer as module
from dicom_node.forgetting import forget_study
from dicom_node.inbox import Inbox
from dicom_node.reconcile import reconcile
from dicom_node.statuses import StorageOutcome
from tests.data_sets import INSTANCE, Sample
from tests.receiving import eventually, receiving, settings_for


def test_a_restart_takes_up_what_the_index_does_not_know(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, order="file")
    with receiving(settings, writing=False) as before:
        before.receive(Sample())

    with receiving(settings) as after:
        assert eventually(lambda: set(after.rows()) == {INSTANCE})
        assert after.inbox_files() == []


def test_a_restart_keeps_peer_and_time_of_reception(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, order="file")
    with receiving(settings, writing=False) as before:
        before.receive(Sample())

        (entry,) = Inbox(tmp_path).entries()

        assert entry.instance.calling_ae_title == "SCANNER"
        assert entry.instance.called_ae_title == "SECONDREAD"
        assert entry.instance.peer_address == "127.0.0.1"
        assert abs(entry.instance.received_at - time.time()) < 60
        assert entry.instance.bytes == len(Sample().data_set)


def test_after_a_restart_a_resend_is_a_duplicate_before_the_index_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path, order="file")
    with receiving(settings, writing=False) as before:
        before.receive(Sample())

    with receiving(settings, writing=False) as after:
        answer = after.receive(Sample())

        assert answer.outcome is StorageOutcome.DUPLICATE


def test_a_kill_after_the_commit_changes_nothing_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path, order="file")
    with receiving(settings) as before:
        monkeypatch.setattr(before.inbox, "remove", lambda _paths: None)
        before.receive(Sample())
        assert eventually(lambda: bool(before.rows()))

    with receiving(settings) as after:
        assert eventually(lambda: after.inbox_files() == [])
        assert len(after.rows()) == 1
        assert after.indexed == []


def test_an_entry_that_comes_alone_and_cannot_be_written_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.record_instances

    def record(
        connection: Connection, batch: list[ReceivedInstance], **options: object
    ) -> object:
        if any(instance.sop_instance_uid == "1.2.1" for instance in batch):
            raise StoreUnavailable("this row cannot be written")
        return real(connection, batch, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "record_instances", record)
    with receiving(settings_for(tmp_path, order="file")) as node:
        node.receive(Sample(sop_instance_uid="1.2.1"))
        time.sleep(0.1)
        node.receive(Sample(sop_instance_uid="1.2.2"))

        assert eventually(lambda: set(node.rows()) == {"1.2.2"})
        assert len(node.inbox_files()) == 1


def test_receiving_goes_on_while_the_database_is_locked(tmp_path: Path) -> None:
    with receiving(settings_for(tmp_path, order="file")) as node:
        with node.database.engine.connect() as holder:
            holder.exec_driver_sql("SELECT 1")
            statuses = [
                node.receive(Sample(sop_instance_uid=f"1.2.{i}")).status
                for i in range(3)
            ]
            time.sleep(0.5)
            assert node.rows() == {}
            holder.rollback()

        assert statuses == [0, 0, 0]
        assert eventually(lambda: len(node.rows()) == 3)


def test_a_result_of_ours_that_comes_back_is_known_as_such(tmp_path: Path) -> None:
    with receiving(settings_for(tmp_path, order="file")) as node:
        own = Sample(sop_instance_uid="1.2.1", manufacturer="secondread", modality="SR")
        phantom = Sample(sop_instance_uid="1.2.2", manufacturer="secondread")
        node.receive(own)
        node.receive(phantom)

        assert eventually(lambda: len(node.rows()) == 2)
        assert node.own_results() == {"1.2.1"}


def test_of_two_contents_found_in_the_inbox_the_first_received_stays(
    tmp_path: Path,
) -> None:
    settings = settings_for(tmp_path, order="file")
    first, second = Sample(), Sample(pixels=b"\1\2")
    inbox = Inbox(tmp_path)
    for age, sample in ((10, second), (20, first)):
        part = inbox.open(sample.meta)
        part.write(sample.data_set)
        path = part.keep()
        os.utime(path, (time.time() - age, time.time() - age))

    with receiving(settings) as node:
        assert eventually(lambda: len(node.conflicts()) == 1 and not node.inbox_files())
        kept = hashlib.sha256(first.data_set).hexdigest()
        assert node.rows() == {INSTANCE: kept}
        assert list(node.store.objects()) == [kept]


def test_a_hook_that_fails_does_not_stop_the_writer(tmp_path: Path) -> None:
    with receiving(settings_for(tmp_path, order="file")) as node:
        node.writer._on_indexed = lambda _uid: 1 / 0  # type: ignore[assignment]
        node.receive(Sample(sop_instance_uid="1.2.1"))
        node.receive(Sample(sop_instance_uid="1.2.2"))

        assert eventually(lambda: len(node.rows()) == 2)


def test_one_entry_that_cannot_be_written_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.record_instances
    broken = True

    def record(
        connection: Connection, batch: list[ReceivedInstance], **options: object
    ) -> object:
        if broken and any(one.sop_instance_uid == "1.2.1" for one in batch):
            raise StoreUnavailable("this row cannot be written")
        return real(connection, batch, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "record_instances", record)
    monkeypatch.setattr(module, "_LONGEST_RETRY_S", 0.2)
    with receiving(settings_for(tmp_path, order="file")) as node:
        for number in range(1, 4):
            node.receive(Sample(sop_instance_uid=f"1.2.{number}"))

        assert eventually(lambda: set(node.rows()) == {"1.2.2", "1.2.3"})
        broken = False
        assert eventually(lambda: len(node.rows()) == 3)


def test_unfinished_files_are_swept_and_acknowledged_ones_stay(tmp_path: Path) -> None:
    with receiving(settings_for(tmp_path, order="file"), writing=False) as node:
        node.receive(Sample())
        (node.inbox.path / "x.part").write_bytes(b"half")

        assert node.inbox.sweep() == 1
        assert [path.suffix for path in node.inbox_files()] == [".dcm"]


def test_a_damaged_inbox_file_stays_in_sight_and_stops_nothing(tmp_path: Path) -> None:
    with receiving(settings_for(tmp_path, order="file"), writing=False) as node:
        damaged = node.inbox.path / f"{'0' * 64}-00000000.dcm"
        damaged.write_bytes(b"nothing")
        node.receive(Sample())

        assert len(list(node.inbox.entries())) == 1
        assert damaged.exists()


def test_an_object_without_a_row_is_adopted(tmp_path: Path) -> None:
    with receiving(settings_for(tmp_path, order="file")) as node:
        node.receive(Sample())
        assert eventually(lambda: bool(node.rows()))
        with node.database.write() as connection:
            connection.execute(text("delete from instance"))

        found = reconcile(node.database, node.store)

        assert found.adopted == tuple(node.rows().values())
        assert set(node.rows()) == {INSTANCE}


def test_a_row_without_a_file_is_told(tmp_path: Path) -> None:
    with receiving(settings_for(tmp_path, order="file")) as node:
        node.receive(Sample())
        assert eventually(lambda: bool(node.rows()))
        (sha256,) = node.rows().values()
        node.store.remove([sha256])

        assert reconcile(node.database, node.store).missing == (sha256,)


def test_an_object_in_conflict_with_the_index_is_removed(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, order="file")
    with receiving(settings) as node:
        node.receive(Sample())
        assert eventually(lambda: bool(node.rows()))
    with receiving(
        settings_for(tmp_path / "other", order="file"), writing=False
    ) as other:
        other.receive(Sample(pixels=b"\1\1"))
        (entry,) = other.inbox.entries()

        node.store.adopt({entry.instance.sha256: entry.path})
        with receiving(settings, writing=False) as again:
            found = reconcile(again.database, again.store)

            assert found.removed == (entry.instance.sha256,)
            assert len(again.rows()) == 1
            assert list(again.store.objects()) == list(again.rows().values())


def test_ten_thousand_files_are_taken_up_quickly(tmp_path: Path) -> None:
    # Three hundred here: the promise is per file, and a slow machine gets a margin.
    settings = settings_for(tmp_path, order="file")
    with receiving(settings, writing=False) as before:
        for number in range(300):
            part = before.inbox.open(Sample(sop_instance_uid=f"1.2.{number}").meta)
            part._durable = False
            part.write(Sample(sop_instance_uid=f"1.2.{number}").data_set)
            part.keep()
    began = time.monotonic()

    with receiving(settings, writing=False) as after:
        duration = time.monotonic() - began
        assert len(after.reception.known.claims) == 300
        after.writer.start()
        assert eventually(lambda: len(after.rows()) == 300)
    assert duration < 2.0


def test_of_a_forgotten_study_nothing_is_left_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REST_AFTER_S", 0.05)
    monkeypatch.setattr(module, "_LONGEST_RETRY_S", 0.05)
    sample = Sample(patient_id="MARKER-4711")
    with receiving(settings_for(tmp_path)) as node:
        node.receive(sample)
        assert eventually(lambda: bool(node.rows()))
        assert _marked(tmp_path / "log")

        forget_study(node.database, node.store, sample.study_instance_uid)

        assert eventually(lambda: not _marked(tmp_path / "log"))
        assert node.rows() == {}


def test_after_a_loss_of_power_the_log_writes_the_files_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, receiving(settings_for(tmp_path)) as node:
        patch.setattr(node.writer, "_rest", lambda: None)
        node.receive(Sample())
        assert eventually(lambda: bool(node.rows()))
        (sha256,) = node.rows().values()
        path = node.store.path_of(sha256)
        size = path.stat().st_size
    # The file was never synced: its name and length are there, its content is not.
    path.write_bytes(bytes(size))

    with receiving(settings_for(tmp_path)) as node:
        assert eventually(lambda: node.store.verify(sha256))
        assert eventually(node.nothing_waits)


def _marked(folder: Path) -> bool:
    return any(b"MARKER-4711" in path.read_bytes() for path in folder.iterdir())
