"""Where a demonstration runs: its folder, its ports, its settings."""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import StoreUnavailable
from core.settings import DATA_DIRECTORY_VARIABLE, Settings, load_settings

__all__ = ["DESTINATION", "PACS_AE_TITLE", "Place", "open_place"]

PARENT = Path("secondread-demo")
DESTINATION = "demo-pacs"
PACS_AE_TITLE = "DEMOPACS"
_QUIET_TIME_S = 1.0
_LOW_WATER_BYTES = 200_000_000


@dataclass(frozen=True)
class Place:
    """A folder with everything of one demonstration in it."""

    settings: Settings
    pacs_port: int

    @property
    def sent(self) -> Path:
        """Folder of the files that are sent."""
        return self.settings.data_dir / "sent"

    @property
    def pacs(self) -> Path:
        """Folder that the receiving PACS writes into."""
        return self.settings.data_dir / "pacs"

    @property
    def log(self) -> Path:
        """What broker, node and worker say."""
        return self.settings.data_dir / "demo.log"


@contextmanager
def open_place(data_dir: Path | None, *, keep: bool) -> Iterator[Place]:
    """Make a demonstration's folder and settings, for this process and its children.

    Parameters
    ----------
    data_dir
        None: the next free number below `secondread-demo`.
    keep
        Otherwise the folder is removed at the end, if it was made here. One in which
        nothing was received goes in any case.

    Raises
    ------
    StoreUnavailable
        If the folder cannot be made.
    """
    made_here = data_dir is None or not data_dir.exists()
    try:
        folder = _fresh_folder() if data_dir is None else data_dir.expanduser()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreUnavailable(
            f"the demonstration cannot make its folder ({error.strerror}); give "
            "another one with --data-dir"
        ) from error
    folder = folder.resolve()
    before = dict(os.environ)
    try:
        pacs_port = _use_demonstration_settings(folder)
        yield Place(load_settings(folder), pacs_port)
    finally:
        os.environ.clear()
        os.environ.update(before)
        if made_here and not (keep and (folder / "index.sqlite").exists()):
            shutil.rmtree(folder, ignore_errors=True)


def _fresh_folder() -> Path:
    """Take the next number: nothing of an earlier demonstration is touched."""
    PARENT.mkdir(exist_ok=True, mode=0o700)
    number = 1
    while True:
        try:
            (PARENT / str(number)).mkdir(mode=0o700)
        except FileExistsError:
            number += 1
        else:
            return PARENT / str(number)


def _use_demonstration_settings(folder: Path) -> int:
    # A demonstration must not reach into whatever installation this shell is set up
    # for, so of SECONDREAD_* nothing is kept. The environment, and not a file in the
    # folder: the folder then stays an ordinary one that `secondread up` can go on with.
    for name in [name for name in os.environ if name.startswith("SECONDREAD_")]:
        del os.environ[name]
    node_port, pacs_port = _free_ports(2)
    destination = {
        "name": DESTINATION,
        "host": "127.0.0.1",
        "port": pacs_port,
        "ae_title": PACS_AE_TITLE,
    }
    os.environ |= {
        DATA_DIRECTORY_VARIABLE: str(folder),
        "SECONDREAD_NODE__PORT": str(node_port),
        "SECONDREAD_NODE__BIND_ADDRESS": "127.0.0.1",
        "SECONDREAD_DICOMWEB__PORT": "0",
        "SECONDREAD_ASSEMBLY__QUIET_TIME_S": str(_QUIET_TIME_S),
        "SECONDREAD_STORE__LOW_WATER_BYTES": str(_LOW_WATER_BYTES),
        "SECONDREAD_DESTINATIONS": json.dumps([destination]),
        # Every modality, so that what no model reads ends in a report that says so.
        "SECONDREAD_RULES": json.dumps([{"name": "everything to every model"}]),
    }
    return pacs_port


def _free_ports(count: int) -> list[int]:
    """Choose ports that nobody uses now; all are held until the last is chosen."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    ports = []
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
        ports.append(int(probe.getsockname()[1]))
    for probe in probes:
        with closing(probe):
            pass
    return ports
