"""`secondread up` as a user runs it: a process, its children, and what is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import free_port, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

START_S = 90.0
"""On a machine that does much else; alone it is some seconds."""


@dataclass
class Service:
    """A running `secondread up`."""

    process: "subprocess.Popen[bytes]"
    data_dir: Path
    port: int
    log: Path
    environment: dict[str, str]

    def words(self) -> str:
        return self.log.read_text(errors="replace")

    def children(self) -> dict[str, int]:
        """Name to process id of the parts, as the log told last."""
        found = {}
        for line in self.words().splitlines():
            if " part_started " in line:
                fields = dict(
                    word.split("=", 1) for word in line.split() if "=" in word
                )
                found[fields["name"]] = int(fields["pid"])
        return found

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def answers(self) -> bool:
        return self.run("echo", "--timeout", "5").returncode == 0

    def wait_until_it_answers(self) -> None:
        wait_until(
            lambda: "node_started" in self.words() and self.answers(),
            f"an answer to C-ECHO; the log ends {self.words()[-1500:]}",
            timeout_s=START_S,
        )


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (ProcessLookupError, FileNotFoundError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def descendants(pid: int) -> set[int]:
    """Every process that `pid` started, whatever its session is."""
    found, queue = set(), [pid]
    while queue:
        parent = queue.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            children = {int(word) for word in task.read_text("ascii").split()}
            queue += children - found
            found |= children
    return found


@contextmanager
def running_service(data_dir: Path, **settings: str) -> Iterator[Service]:
    port = free_port()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SECONDREAD_")
    }
    environment = {
        **inherited,
        "SECONDREAD_DATA_DIR": str(data_dir),
        "SECONDREAD_NODE__PORT": str(port),
        "SECONDREAD_REVIEW__PORT": "0",
        "SECONDREAD_DICOMWEB__PORT": "0",
        "NO_COLOR": "1",
        **settings,
    }
    log = data_dir.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    service = Service(process, data_dir, port, log, environment)
    try:
        yield service
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path / "data") as running:
        running.wait_until_it_answers()
        yield running


def test_sigterm_ends_everything_with_status_0_within_30_s(service: Service):
    children = descendants(service.process.pid)
    assert {"broker", "node", "worker", "review"} == set(service.children())
    began = time.monotonic()

    service.process.terminate()
    status = service.process.wait(60)

    assert status == 0, service.words()[-2000:]
    assert time.monotonic() - began < 30
    assert [pid for pid in children if lives(pid)] == []
    ended = service.words()
    assert ended.index("node_stopped") < ended.index("User requested shutdown")


def test_a_killed_node_answers_again(service: Service):
    first = service.children()["node"]

    os.kill(first, signal.SIGKILL)

    wait_until(
        lambda: service.children()["node"] != first and service.answers(),
        "the node to be started again",
        timeout_s=START_S,
    )
    assert "part_ended" in service.words()


def test_a_killed_broker_is_started_again(service: Service):
    first = service.children()["broker"]
    socket = service.data_dir / "broker" / "broker.sock"
    recorded = service.data_dir / "broker" / "broker.pid"
    assert int(recorded.read_text("ascii")) == first
    assert socket.stat().st_mode & 0o777 == 0o700

    os.kill(first, signal.SIGKILL)

    wait_until(
        lambda: service.children()["broker"] != first,
        "the broker to be started again",
        timeout_s=START_S,
    )


def test_a_second_one_on_the_same_directory_is_refused(service: Service):
    second = service.run("up")

    assert second.returncode == 3
    assert f"process {service.process.pid}" in second.stderr
    assert service.answers()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_nothing_is_left_behind_when_it_is_killed(service: Service):
    children = descendants(service.process.pid)
    assert len(children) >= 3

    service.process.kill()
    service.process.wait()

    wait_until(
        lambda: not any(lives(pid) for pid in children),
        "the end of every child",
        timeout_s=20,
    )


def test_a_taken_port_is_told_before_anything_is_started(service: Service, tmp_path):
    other = tmp_path / "other"

    result = service.run("up", "--data-dir", str(other))

    assert result.returncode == 1
    assert f"port {service.port}" in result.stderr
    assert not (other / "broker").exists()


def test_a_queue_that_cannot_be_read_is_set_aside(tmp_path: Path):
    from cli.supervision.broker import find_server

    data_dir = tmp_path / "data"
    server = find_server()
    queue = data_dir / "broker" / f"{server.family}-{server.version[0]}"
    (queue / "appendonlydir").mkdir(parents=True)
    manifest = queue / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
    (manifest.parent / "appendonly.aof.1.base.rdb").write_bytes(b"no queue at all")

    with running_service(data_dir) as service:
        service.wait_until_it_answers()

        assert "queue_set_aside" in service.words()
        assert list(data_dir.glob("broker/*-unreadable-*"))


def test_settings_that_a_part_refuses_end_everything_with_status_2(tmp_path: Path):
    rule = '[{"name": "odd", "when": {"NoSuchAttribute": "1"}}]'

    with running_service(tmp_path / "data", SECONDREAD_RULES=rule) as service:
        status = service.process.wait(START_S)

    assert status == 2
    assert "odd" in service.words()
