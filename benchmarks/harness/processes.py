"""Programs that are measured: started, waited for, looked at and ended.

Processor time and memory are those of a program and all that it started: a node of
several processes is compared with a peer of one.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = [
    "PROMPT",
    "SHIPPED",
    "TICK_S",
    "Running",
    "Usage",
    "free_port",
    "process_tree",
    "running",
    "wait_for_port",
]

SHIPPED = {
    name: value
    for name, value in os.environ.items()
    if name != "TCP_NODELAY" and not name.startswith(("SECONDREAD_", "FAULTS"))
}
"""The environment for a program as it is shipped: DCMTK leaves Nagle's algorithm on."""

PROMPT = {**SHIPPED, "TCP_NODELAY": "1"}
"""The environment in which DCMTK and what builds on it turn Nagle's algorithm off.

Without it a DCMTK sender waits 45 ms an instance for delayed acknowledgements, and
nothing else is measured.
"""

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
"""Processor time is known to this many seconds."""


@dataclass(frozen=True)
class Usage:
    """What a program and all that it started have used so far."""

    cpu_s: float
    """Processor seconds, those of ended children included."""
    peak_mib: float
    """Largest resident size that one of the living processes ever had."""
    peak_sum_mib: float
    """Sum of those peaks: pages that processes share are counted in each."""
    processes: int


def process_tree(process_id: int) -> list[int]:
    """Return the ids of a process and of all that it started and that still exist."""
    try:
        parent = psutil.Process(process_id)
        return [process_id, *(one.pid for one in parent.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


@dataclass
class Running:
    """A program that runs, in a session of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def process_id(self) -> int:
        """Id of the process that was started."""
        return self.process.pid

    def usage(self) -> Usage:
        """Look at the whole tree of processes now."""
        tree = process_tree(self.process_id)
        peaks = [_peak_mib(one) for one in tree]
        return Usage(
            cpu_s=sum(_cpu_seconds(one) for one in tree),
            peak_mib=max(peaks, default=0.0),
            peak_sum_mib=sum(peaks),
            processes=len(tree),
        )

    def read_bytes(self) -> int:
        """Return how much the tree has read from disks: nothing that was in memory."""
        return sum(read for read, _ in self._disk())

    def wait_until_idle(
        self, *, quiet_s: float = 0.4, share: float = 0.05, timeout_s: float = 60.0
    ) -> None:
        """Wait until the tree hardly uses a processor for `quiet_s` seconds.

        What a program does before its first instance (connections, segments written in
        advance) and after its last (an index written behind the answers) is then done.

        Parameters
        ----------
        share
            Of one processor; below it a program counts as idle.

        Raises
        ------
        TimeoutError
            If it is still busy after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        before = self._work()
        while time.monotonic() < deadline:
            time.sleep(quiet_s)
            now = self._work()
            if now[0] - before[0] <= share * quiet_s and now[1] == before[1]:
                return
            before = now
        raise TimeoutError(
            f"{self.process.args!r} is still busy after {timeout_s:g} s; see {self.log}"
        )

    def _work(self) -> tuple[float, int]:
        return self.usage().cpu_s, sum(written for _, written in self._disk())

    def _disk(self) -> Iterator[tuple[int, int]]:
        for one in process_tree(self.process_id):
            with suppress(psutil.Error):
                counted = psutil.Process(one).io_counters()
                yield counted.read_bytes, counted.write_bytes

    def said(self) -> str:
        """Return what it wrote to standard output and error."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] = PROMPT,
    port: int | None = None,
    ready_within_s: float = 60.0,
) -> Iterator[Running]:
    """Run a program until the block ends, then end it and what it left behind.

    Parameters
    ----------
    port
        If given, the block starts once something listens there on loopback.

    Raises
    ------
    RuntimeError
        If it ends or does not listen within `ready_within_s`; with the end of its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    program = Running(process, log)
    try:
        if port is not None:
            wait_for_port(port, program=program, timeout_s=ready_within_s)
        yield program
    finally:
        _end(process)


def wait_for_port(
    port: int, *, program: Running | None = None, timeout_s: float = 60.0
) -> None:
    """Wait until something listens on a port of loopback.

    It looks at the kernel's table and does not connect: a connection that is closed at
    once is an event that a receiver handles and logs.

    Raises
    ------
    RuntimeError
        If nothing does within `timeout_s`, or `program` has ended.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if _listens(port):
            return
        if program is not None and program.process.poll() is not None:
            raise RuntimeError(
                f"{program.process.args!r} ended with {program.process.returncode}:\n"
                f"{program.said()[-2000:]}"
            )
        time.sleep(0.005)
    said = "" if program is None else f":\n{program.said()[-2000:]}"
    raise RuntimeError(f"nothing listens on port {port} after {timeout_s:g} s{said}")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    listening = "0A"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == listening and int(fields[1].split(":")[1], 16) == port:
                    return True
    return False


def _cpu_seconds(process_id: int) -> float:
    """User and system time of a process and of the children that it has waited for.

    From `/proc`, because psutil refuses what has ended and not been waited for: DCMTK's
    `storescp --fork` leaves its children so.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        line = Path(f"/proc/{process_id}/stat").read_text()
        fields = line.rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) * TICK_S
    return 0.0


def _peak_mib(process_id: int) -> float:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then see to it that nothing of its tree is left."""
    started = []
    for one in process_tree(process.pid)[1:]:
        with suppress(psutil.NoSuchProcess):
            started.append(psutil.Process(one))
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(started, timeout=0)
    for child in left:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(left, timeout=10)
