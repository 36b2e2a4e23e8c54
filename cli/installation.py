"""Joins the rooms for one installation: which models serve, where a part is started."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.settings import DATA_DIRECTORY_VARIABLE, Settings

if TYPE_CHECKING:
    from core.domain import ModelIdentity
    from models.bundle import Bundle
    from models.catalogue import Catalogue

__all__ = ["active_bundles", "catalogue", "identities", "part_command"]


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
