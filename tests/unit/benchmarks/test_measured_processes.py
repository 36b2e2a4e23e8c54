"""A measured program is all of its processes, and ends with all of them."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.harness import free_port, machine_facts, running, versions
from benchmarks.harness.machine import wait_for_quiet_disk

BUSY = "import time; e = time.process_time() + {0}\nwhile time.process_time() < e: pass"
PARENT = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {BUSY.format(0.3)!r}])
left = subprocess.Popen([sys.executable, "-c", {BUSY.format(0.3)!r}])
while not open(f"/proc/{{left.pid}}/stat").read().rpartition(") ")[2].startswith("Z"):
    time.sleep(0.01)
child = subprocess.Popen([sys.executable, "-c",
    "data = b'x' * 60_000_000; import time; time.sleep(60)"])
print("ready", child.pid, flush=True)
time.sleep(60)
"""


def wait_for_words(program: object, words: str, log: Path) -> None:
    for _ in range(2000):
        if words in log.read_text():
            return
        time.sleep(0.005)
    raise AssertionError(f"{program} never said {words!r}: {log.read_text()}")


def test_time_and_memory_are_those_of_the_whole_tree(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running([sys.executable, "-c", PARENT], log=log) as program:
        wait_for_words(program, "ready", log)
        child = int(log.read_text().split()[1])
        for _ in range(2000):
            used = program.usage()
            if used.peak_mib > 55:
                break
            time.sleep(0.005)

    # One child was waited for and one was not; both count.
    assert used.cpu_s >= 0.6
    assert used.processes == 3
    assert used.peak_mib > 55, "the largest is the child"
    assert used.peak_sum_mib > used.peak_mib
    assert not psutil.pid_exists(child), "nothing of the tree is left"


def test_idle_means_that_its_work_is_done(tmp_path: Path) -> None:
    work = f"{BUSY.format(0.5)}\nprint('done', flush=True)\ntime.sleep(60)"
    log = tmp_path / "log"
    with running([sys.executable, "-c", work], log=log) as program:
        program.wait_until_idle(quiet_s=0.2)

        assert "done" in program.said()


def test_who_never_gets_idle_is_named(tmp_path: Path) -> None:
    with (
        running([sys.executable, "-c", BUSY.format(60)], log=tmp_path / "log") as busy,
        pytest.raises(TimeoutError, match="still busy after 0.5 s"),
    ):
        busy.wait_until_idle(quiet_s=0.1, timeout_s=0.5)


def test_block_starts_once_the_program_listens(tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import socket, time; time.sleep(0.2); s = socket.socket(); "
        f"s.bind(('127.0.0.1', {port})); s.listen(); time.sleep(60)"
    )
    started = time.monotonic()
    with running([sys.executable, "-c", code], log=tmp_path / "log", port=port):
        assert time.monotonic() - started >= 0.2


def test_program_that_ends_at_once_is_an_error_with_its_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no licence')"]

    with (
        pytest.raises(RuntimeError, match="no licence"),
        running(command, log=tmp_path / "log", port=free_port()),
    ):
        pass


def test_facts_name_the_machine_and_the_file_system_of_the_folder(
    tmp_path: Path,
) -> None:
    facts = machine_facts(tmp_path)

    assert facts["processor"]
    assert facts["folder"] != "unknown"
    assert str(tmp_path) not in facts.values()
    assert "pydicom" in versions()


def test_disk_is_quiet_once_its_counters_stand_still(tmp_path: Path) -> None:
    table = tmp_path / "diskstats"
    table.write_text("254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n")

    started = time.monotonic()
    wait_for_quiet_disk(quiet_s=0.05, timeout_s=10, table=str(table))

    assert time.monotonic() - started < 5
