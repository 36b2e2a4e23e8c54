"""Promises of the small archive that stands for a PACS."""

import hashlib
from pathlib import Path

import pytest

from dicom_node.archive import Archive, Behaviour
from tests.data_sets import Sample
from tests.integration.receiving_node import associated, store_bytes

pytestmark = pytest.mark.integration

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SAMPLE = Sample(sop_class_uid=COMPREHENSIVE_3D_SR, modality="SR")


def test_what_arrives_is_kept_and_told(tmp_path: Path) -> None:
    with Archive(tmp_path, "PACS") as archive:
        with associated(archive.port, SAMPLE, called="PACS") as association:
            status = store_bytes(association, SAMPLE).Status
        arrived = archive.wait_for(1, 5)

    (arrival,) = archive.arrivals
    assert (status, arrived) == (0, True)
    assert arrival.sop_instance_uid == SAMPLE.sop_instance_uid
    assert arrival.sha256 == hashlib.sha256(SAMPLE.data_set).hexdigest()
    assert arrival.path.read_bytes().endswith(SAMPLE.data_set)


@pytest.mark.parametrize(("status", "kept"), [(0xA700, 0), (0x0122, 0), (0xB000, 1)])
def test_it_answers_the_status_it_is_told(
    tmp_path: Path, status: int, kept: int
) -> None:
    with (
        Archive(tmp_path, "PACS") as archive,
        archive.behaving(Behaviour.STORE, status=status),
        associated(archive.port, SAMPLE, called="PACS") as association,
    ):
        assert store_bytes(association, SAMPLE).Status == status
        assert len(archive.arrivals) == kept


@pytest.mark.parametrize(
    ("behaviour", "kept"),
    [
        (Behaviour.ABORT, 0),
        (Behaviour.CLOSE_AFTER_STORING, 1),
        (Behaviour.HANG, 0),
    ],
)
def test_it_misbehaves_as_it_is_told(
    tmp_path: Path, behaviour: Behaviour, kept: int
) -> None:
    with (
        Archive(tmp_path, "PACS") as archive,
        archive.behaving(behaviour),
        associated(archive.port, SAMPLE, called="PACS") as association,
    ):
        association.dimse_timeout = 0.5
        answer = store_bytes(association, SAMPLE)
        association.abort()

        assert "Status" not in answer
        assert len(archive.arrivals) == kept


def test_it_may_refuse_a_class(tmp_path: Path) -> None:
    refused = frozenset({COMPREHENSIVE_3D_SR})
    with (
        Archive(tmp_path, "PACS", refused_sop_classes=refused) as archive,
        associated(archive.port, SAMPLE, called="PACS") as association,
    ):
        (rejected,) = association.rejected_contexts
        assert rejected.result == 3


def test_it_may_be_stopped_and_started_again_on_its_port(tmp_path: Path) -> None:
    archive = Archive(tmp_path, "PACS")
    port = archive.start()
    archive.stop()

    again = archive.start()
    archive.stop()

    assert again == port
