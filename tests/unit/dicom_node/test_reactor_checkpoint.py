import threading
from types import SimpleNamespace

from dicom_node.senders.checkpoint import ReactorCheckpoint


def test_whoever_passes_the_checkpoint_has_lowered_the_flag():
    association = SimpleNamespace(_is_paused=True)
    checkpoint = ReactorCheckpoint(association)

    checkpoint.wait()

    assert association._is_paused is False


def test_whoever_is_held_at_the_checkpoint_keeps_the_flag_up():
    association = SimpleNamespace(_is_paused=True)
    checkpoint = ReactorCheckpoint(association)
    checkpoint.clear()

    passed = checkpoint.wait(timeout=0.05)

    assert (passed, association._is_paused) == (False, True)


def test_a_checkpoint_that_opens_lets_its_thread_pass():
    association = SimpleNamespace(_is_paused=True)
    checkpoint = ReactorCheckpoint(association)
    checkpoint.clear()
    thread = threading.Thread(target=checkpoint.wait)
    thread.start()

    checkpoint.set()
    thread.join(5)

    assert not thread.is_alive()
    assert association._is_paused is False
