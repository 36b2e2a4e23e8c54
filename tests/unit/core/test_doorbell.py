import threading
import time

import fakeredis
import pytest

from core.doorbell import Doorbell
from core.settings import Settings


@pytest.fixture
def server():
    return fakeredis.FakeServer()


@pytest.fixture
def bell(server, tmp_path):
    def make():
        settings = Settings(data_dir=tmp_path)
        return Doorbell(settings, fakeredis.FakeStrictRedis(server=server))

    return make


def test_whoever_waits_is_woken_at_once(bell):
    listener, ringer = bell(), bell()
    assert listener.wait(0.01), "what rang before it listened may be due"
    threading.Timer(0.1, ringer.ring).start()
    began = time.monotonic()

    assert listener.wait(10)

    assert time.monotonic() - began < 5


def test_many_rings_are_one(bell):
    listener, ringer = bell(), bell()
    listener.wait(0.01)
    for _ in range(20):
        assert ringer.ring()

    assert listener.wait(1)
    assert listener.wait(0.01) is False


def test_silence_is_no_bell(bell):
    listener = bell()
    listener.wait(0.01)

    assert listener.wait(0.01) is False


def test_a_dead_broker_costs_the_ringer_one_try_and_the_listener_a_look(bell, server):
    listener, ringer = bell(), bell()
    listener.wait(0.01)
    server.connected = False

    assert ringer.ring() is False
    server.connected = True
    assert ringer.ring() is False, "it is not asked again at once"

    server.connected = False
    assert listener.wait(0.01) is None
    server.connected = True
    assert listener.wait(0.01), "what rang meanwhile may be due"


def test_a_broker_that_is_not_there_is_no_error(tmp_path):
    bell = Doorbell(Settings(data_dir=tmp_path))

    assert bell.ring() is False
    assert bell.wait(0.01) is None
    bell.close()
