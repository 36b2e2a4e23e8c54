"""All model packages of this installation, the sound and the refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from core.errors import InvalidBundle
from models.bundle import MANIFEST_NAME, Bundle, read_bundle

__all__ = ["SHIPPED_BUNDLES", "Catalogue", "RefusedBundle", "find_bundles"]

SHIPPED_BUNDLES = Path(__file__).parent / "bundles"
"""The packages that come with secondread."""


@dataclass(frozen=True)
class RefusedBundle:
    """A folder that looks like a package and must not be served."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Catalogue:
    """What was found."""

    bundles: Mapping[tuple[str, str], Bundle]
    """By name and version."""
    refused: tuple[RefusedBundle, ...]

    def find(self, name: str, version: str | None = None) -> Bundle:
        """Return a package by name; the highest version unless one is asked for.

        Raises
        ------
        InvalidBundle
            If there is none; the message lists what there is.
        """
        versions = {
            key[1]: found for key, found in self.bundles.items() if key[0] == name
        }
        if version is None and versions:
            return versions[max(versions, key=_version_key)]
        if version in versions:
            return versions[version]
        known = (
            ", ".join(f"{key[0]} {key[1]}" for key in sorted(self.bundles)) or "none"
        )
        refused = "".join(f"; {one.path.name} was refused" for one in self.refused)
        raise InvalidBundle(
            f"There is no model {name!r}{f' {version}' if version else ''}. Known: "
            f"{known}{refused}. Install the bundle or correct the name."
        )


def find_bundles(*directories: Path) -> Catalogue:
    """Read every package in some directories; a broken one does not hide the others.

    Parameters
    ----------
    directories
        Folders whose subfolders are packages; one that does not exist counts as empty.
        If two packages share name and version but not content, the first stays.
    """
    bundles: dict[tuple[str, str], Bundle] = {}
    refused: list[RefusedBundle] = []
    folders = (
        folder
        for directory in directories
        if directory.is_dir()
        for folder in sorted(directory.iterdir())
    )
    for folder in folders:
        if not (folder / MANIFEST_NAME).exists():
            continue
        try:
            bundle = read_bundle(folder)
        except InvalidBundle as error:
            refused.append(RefusedBundle(folder, str(error)))
            continue
        first = bundles.setdefault((bundle.name, bundle.version), bundle)
        if first.bundle_sha256 != bundle.bundle_sha256:
            refused.append(RefusedBundle(folder, _same_name(bundle, first)))
    return Catalogue(MappingProxyType(bundles), tuple(refused))


def _same_name(bundle: Bundle, first: Bundle) -> str:
    return (
        f"{bundle.path} has the name and version of {first.path} ({bundle.name} "
        f"{bundle.version}) and another content. Give one of them a new version."
    )


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
