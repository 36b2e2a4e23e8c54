"""Promises of an acknowledged instance: it survives kill -9 at any named point."""

import hashlib
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from dicom_node.instance_store import InstanceStore
from tests.data_sets import Sample
from tests.integration.receiving_node import (
    NodeProcess,
    associated,
    rows_in,
    store_bytes,
)
from tests.receiving import Order, eventually, receiving, settings_for

pytestmark = pytest.mark.integration

IN_THE_INDEX = ("index.before_commit", "index.after_commit")
POINTS: list[tuple[Order, str]] = [
    ("file", "scp.after_part_write"),
    ("file", "scp.after_fsync"),
    ("file", "scp.after_rename"),
    ("log", "scp.after_append"),
    ("log", "scp.after_log_sync"),
    *product(("log", "file"), ("scp.before_ack", *IN_THE_INDEX)),
]
SAMPLES = [Sample(sop_instance_uid=f"1.2.3.4.{number}") for number in range(1, 9)]


def _send(port: int, samples: list[Sample]) -> set[str]:
    """Send until the node dies; return what it acknowledged."""
    acknowledged = set()
    with suppress(Exception), associated(port, *samples) as association:
        association.dimse_timeout = 5
        for sample in samples:
            if store_bytes(association, sample).get("Status") == 0:
                acknowledged.add(sample.sop_instance_uid)
            else:
                break
    return acknowledged


@pytest.mark.parametrize(("order", "point"), POINTS)
def test_what_was_acknowledged_is_there_after_a_kill(
    tmp_path: Path, order: Order, point: str
) -> None:
    # The first batch of rows may hold all, so the index is killed at its first visit.
    nth = 1 if point in IN_THE_INDEX else 3
    with NodeProcess(tmp_path, order=order, faults=f"{point}:kill:{nth}") as dying:
        acknowledged = _send(dying.port, SAMPLES)
        dying.wait()

    with receiving(settings_for(tmp_path, order=order)) as node:
        assert eventually(lambda: acknowledged <= set(node.rows()))
        assert eventually(node.nothing_waits)
        assert not list(tmp_path.rglob("*.part"))
        expected = {
            s.sop_instance_uid: hashlib.sha256(s.data_set).hexdigest() for s in SAMPLES
        }
        rows = node.rows()
        assert rows.items() <= expected.items()
        assert all(node.store.verify(sha256) for sha256 in rows.values())
        assert sorted(node.store.objects()) == sorted(rows.values())


@pytest.mark.parametrize("order", ["log", "file"])
def test_a_restarted_node_finishes_what_was_sent(tmp_path: Path, order: Order) -> None:
    with NodeProcess(tmp_path, order=order, faults="scp.before_ack:kill:3") as dying:
        first = _send(dying.port, SAMPLES)

    with NodeProcess(tmp_path, order=order) as again:
        second = _send(again.port, SAMPLES)
        complete = eventually(lambda: rows_in(tmp_path) == len(SAMPLES))

    assert len(first) == 2
    assert len(second) == len(SAMPLES)
    assert complete
    assert len(list(InstanceStore(tmp_path).objects())) == len(SAMPLES)


@pytest.mark.parametrize(
    ("order", "faults"),
    [
        ("file", "scp.after_part_write:enospc:2,scp.after_rename:raise:3"),
        ("log", "scp.after_append:enospc:2,scp.after_log_sync:raise:3"),
    ],
)
def test_a_disk_that_fails_once_costs_one_a700(
    tmp_path: Path, order: Order, faults: str
) -> None:
    with (
        NodeProcess(tmp_path, order=order, faults=faults) as failing,
        associated(failing.port, *SAMPLES) as association,
    ):
        # The third visit of the second point is that of the fourth instance.
        statuses = [store_bytes(association, sample).Status for sample in SAMPLES[:4]]
        resent = [store_bytes(association, SAMPLES[i]).Status for i in (1, 3)]

    assert statuses == [0, 0xA700, 0, 0xA700]
    assert resent == [0, 0]
