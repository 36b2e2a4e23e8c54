"""Joins the rooms for one installation: which models serve, where a part is started."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.settings import DATA_DIRECTORY_VARIABLE, Settings

if TYPE_CHECKING:
    from concurrent.futures import Future

    from core.domain import ModelIdentity
    from models.bundle import Bundle
    from models.catalogue import Catalogue

__all__ = [
    "ServingModels",
    "active_bundles",
    "catalogue",
    "identities",
    "looking_through_models",
    "part_command",
    "render_command",
]


@dataclass(frozen=True)
class ServingModels:
    """What a node must know of the model packages."""

    identities: tuple["ModelIdentity", ...]
    """Of those that serve."""
    refused: tuple[tuple[str, str], ...]
    """Folder and reason of those that must not."""


@contextmanager
def looking_through_models(settings: Settings) -> Iterator["Future[ServingModels]"]:
    """Look through the model packages in a child process while the block runs.

    Every byte of a package is checked, and before that the index gets the schema of
    this release. A node does not keep what that takes (15 MB, and 12 MB for Alembic),
    and imports the rest of itself meanwhile on another core. What goes wrong is raised
    by the result.
    """
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415
    from multiprocessing import get_context  # noqa: PLC0415

    # A fork is safe as long as this process has one thread, and starts at once.
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as child:
        yield child.submit(_serving_models, settings)


def _serving_models(settings: Settings) -> ServingModels:
    from core.database.engine import open_database  # noqa: PLC0415

    open_database(settings).close()
    found = catalogue(settings)
    return ServingModels(
        identities(active_bundles(found)),
        tuple((str(one.path), one.reason) for one in found.refused),
    )


def catalogue(settings: Settings) -> "Catalogue":
    """Read every model package of the installation, the shipped ones first."""
    from models.catalogue import SHIPPED_BUNDLES, find_bundles  # noqa: PLC0415

    return find_bundles(SHIPPED_BUNDLES, *settings.model_directories)


def active_bundles(found: "Catalogue") -> list["Bundle"]:
    """Return what serves: of each model the highest version."""
    return [found.find(name) for name in sorted({name for name, _ in found.bundles})]


def identities(bundles: Sequence["Bundle"]) -> tuple["ModelIdentity", ...]:
    """Return the models as node and queue know them."""
    from core.domain import ModelIdentity  # noqa: PLC0415

    return tuple(
        ModelIdentity(bundle.name, bundle.version, bundle.bundle_sha256)
        for bundle in bundles
    )


def part_command(name: str, data_dir: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return how to start one part of an installation as a process.

    Parameters
    ----------
    name
        Its command, `node` or `review serve`.
    data_dir
        Of the installation.

    Returns
    -------
    Its command line and what it needs in its environment.
    """
    # -P: a folder that happens to be the current one must not become a library.
    arguments = (sys.executable, "-P", "-m", "cli.main", *name.split())
    environment = {DATA_DIRECTORY_VARIABLE: str(data_dir), "PYTHONUNBUFFERED": "1"}
    return (*arguments, "--data-dir", str(data_dir)), environment


def render_command() -> tuple[str, ...]:
    """Return how to start a process that decodes pixels for DICOMweb."""
    return (sys.executable, "-P", "-m", "worker.rendering_main")
