import subprocess
import sys
import threading

from worker.memory_watch import OUT_OF_MEMORY_STATUS, MemoryWatch


def test_growth_beyond_what_is_allowed_ends_the_process():
    used = [1000]
    ended = threading.Event()
    watch = MemoryWatch(lambda: used[0], ended.set)

    with watch.within(500):
        used[0] = 1501

        assert ended.wait(10)


def test_growth_within_what_is_allowed_ends_nothing():
    used = [1000]
    ended = threading.Event()
    watch = MemoryWatch(lambda: used[0], ended.set)

    with watch.within(500):
        used[0] = 1500
        assert not ended.wait(0.3)
    used[0] = 9999

    assert not ended.wait(0.3), "nobody asked for a look any more"


def test_the_process_ends_with_the_status_that_its_parent_knows():
    hungry = (
        "import time\n"
        "from worker.memory_watch import MemoryWatch\n"
        "with MemoryWatch().within(50 * 2**20):\n"
        "    held = [bytearray(b'x' * 2**20) for _ in range(200)]\n"
        "    time.sleep(30)\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", hungry], timeout=60, check=False, capture_output=True
    )

    assert ended.returncode == OUT_OF_MEMORY_STATUS
