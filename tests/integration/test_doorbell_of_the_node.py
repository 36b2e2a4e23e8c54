"""The node acts on a worker's bell at once, and without one at its next look."""

import time

import fakeredis
import pytest
from node_world import make_world

from core.doorbell import Doorbell
from core.settings import DestinationSettings, Settings
from dicom_node import node
from dicom_node.archive import Archive
from tests.running import wait_until


@pytest.fixture
def world(tmp_path):
    with Archive(tmp_path / "pacs", "PACS") as pacs:
        there = DestinationSettings(name="pacs", port=pacs.port, ae_title="PACS")
        made = make_world(Settings(data_dir=tmp_path, destinations=(there,)))
        yield made
        made.database.close()


@pytest.fixture
def wire(monkeypatch):
    """A broker that the node hears; returns a way to get another end of it."""
    server = fakeredis.FakeServer()

    def end(settings):
        return Doorbell(settings, fakeredis.FakeStrictRedis(server=server))

    monkeypatch.setattr(node, "Doorbell", end)
    monkeypatch.setattr("dicom_node.delivery.courier.POLL_S", 60.0)
    return end


def test_a_report_leaves_when_the_bell_rings_and_not_at_the_next_look(world, wire):
    crashed = []
    threads = node._Threads(
        world.settings,
        world.database,
        world.store,
        lambda: (),
        announce=lambda *_: None,
        on_crash=lambda *what: crashed.append(what),
    )
    threads.start()
    try:
        time.sleep(0.5)  # its first look finds nothing
        world.report("a", ("pacs",))
        bell = wire(world.settings)
        time.sleep(0.3)
        assert world.deliveries("a")[0].last_answer is None

        assert bell.ring()

        wait_until(
            lambda: world.deliveries("a")[0].last_answer, "an attempt", timeout_s=20
        )
        assert not crashed
    finally:
        threads.stop(time.monotonic() + 10)
