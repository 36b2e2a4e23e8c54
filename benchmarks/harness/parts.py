"""Our own parts as processes, each on a folder of its own: node, worker, broker."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness.processes import SHIPPED, Running, running
from cli.supervision import broker as embedded
from core.settings import Settings

__all__ = ["AE_TITLE", "ROOT", "broker", "node", "part_environment", "worker"]

ROOT = Path(__file__).parents[2]
AE_TITLE = "SECONDREAD"
NO_BROKER = "redis://127.0.0.1:1/0"
"""Nothing answers there: a node receives without a broker."""


def part_environment(
    data_dir: Path, *, root: Path = ROOT, broker_url: str = NO_BROKER, **more: str
) -> dict[str, str]:
    """Return the environment of a part that works in `data_dir`.

    Parameters
    ----------
    root
        Which copy of this repository runs.
    more
        Further variables, such as `SECONDREAD_NODE__PORT`.
    """
    return {
        **SHIPPED,
        "PYTHONPATH": str(root),
        "SECONDREAD_DATA_DIR": str(data_dir),
        "SECONDREAD_STORE__LOW_WATER_BYTES": "0",
        "SECONDREAD_QUEUE__BROKER_URL": broker_url,
        **more,
    }


@contextmanager
def node(
    folder: Path,
    port: int,
    *,
    root: Path = ROOT,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run the node of the copy at `root`, as `secondread node` does.

    No study is settled while it is measured, unless `settings` say otherwise.

    Parameters
    ----------
    folder
        Fresh; the data directory is made in it.
    settings
        Environment variables of further settings.
    """
    environment = part_environment(
        folder / "data",
        root=root,
        SECONDREAD_NODE__PORT=str(port),
        SECONDREAD_ASSEMBLY__QUIET_TIME_S="3600",
    ) | dict(settings or {})
    command = [sys.executable, "-P", "-m", "cli.main", "node"]
    with running(
        command, log=folder / "node.log", environment=environment, port=port
    ) as program:
        yield program


@contextmanager
def worker(
    data_dir: Path, log: Path, broker_url: str, *, root: Path = ROOT
) -> Iterator[Running]:
    """Run a worker, as `secondread worker` does."""
    environment = part_environment(data_dir, root=root, broker_url=broker_url)
    command = [sys.executable, "-P", "-m", "cli.main", "worker"]
    with running(command, log=log, environment=environment) as program:
        yield program


@contextmanager
def broker(data_dir: Path) -> Iterator[str]:
    """Run the embedded broker of an installation; gives its URL."""
    settings = Settings(data_dir=data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    server = embedded.find_server()
    embedded.prepare_directories(settings, server)
    command = embedded.broker_command(settings, server)
    with running(command.arguments, log=data_dir / "broker.log", environment=SHIPPED):
        yield settings.broker_url
