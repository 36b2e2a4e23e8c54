"""`secondread licences`: under which licence every installed dependency stands."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.exit_codes import FAILURE
from cli.options import AsJson

if TYPE_CHECKING:
    from importlib import metadata

__all__ = ["Dependency", "dependencies", "licences", "objection"]

_DISTRIBUTION = "secondread"
# Strong copyleft asks that the whole be under its own terms, which Apache-2.0 code that
# is passed on with it is not. The weak kinds (LGPL, MPL) bind their own files only.
_STRONG_COPYLEFT = re.compile(
    r"\b(A?GPL|(Affero )?(GNU )?General Public)|SSPL|EUPL|OSL|CC-BY-SA",
    re.IGNORECASE,
)
_WEAK = re.compile(r"LGPL|Lesser General Public", re.IGNORECASE)
# PEP 639 exceptions that allow linking with anything.
_EXCEPTION = re.compile(r"WITH \S*exception", re.IGNORECASE)

# Names that licence files have in them, where the metadata are silent.
_WELL_KNOWN = {
    "Apache License": "Apache-2.0",
    "MIT License": "MIT",
    "Redistribution and use in source and binary forms": "BSD",
    "GNU General Public": "GPL",
}


@dataclass(frozen=True)
class Dependency:
    """One distribution that is installed because secondread needs it."""

    name: str
    version: str
    licence: str
    """As its own metadata says; empty if they do not."""
    objection: str
    """Why it must not be used; empty if it may."""


def licences(as_json: AsJson = False) -> None:
    """List the licence of every installed dependency, direct and indirect.

    Exit status 1 if one is missing or may not be combined with Apache-2.0.

    Example: `secondread licences`
    """
    from cli import output  # noqa: PLC0415

    found = dependencies()
    if as_json:
        output.print_json([asdict(one) for one in found])
    else:
        shown = output.table("dependency", "version", "licence", "objection")
        for one in found:
            shown.add_row(
                one.name, one.version, output.plain(one.licence), one.objection
            )
        output.print_table(shown)
    objections = sum(bool(one.objection) for one in found)
    output.messages().print(
        f"{len(found)} dependencies, {objections} with an objection."
    )
    if objections:
        raise typer.Exit(FAILURE)


def dependencies() -> list[Dependency]:
    """Return the installed closure of what this distribution requires, by name."""
    # With its e-mail parser it costs a tenth of what `--help` takes.
    from importlib import metadata  # noqa: PLC0415

    found: dict[str, Dependency] = {}
    queue = [(_DISTRIBUTION, frozenset[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        name, extras = queue.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an optional one, or one of another platform
        if name != _DISTRIBUTION and name not in found:
            licence = _licence_of(distribution)
            found[name] = Dependency(
                name, distribution.version, licence, objection(licence)
            )
        queue += _required(distribution, extras)
    return [found[name] for name in sorted(found)]


def objection(licence: str) -> str:
    """Tell why software under `licence` must not go with ours; empty if it may.

    Parameters
    ----------
    licence
        An SPDX expression, or what the metadata have instead.
    """
    if not licence:
        return "its metadata name no licence; look it up"
    choices = re.split(r"\s+OR\s+", licence)
    if all(_is_strong(choice) for choice in choices):
        return "strong copyleft, not compatible with Apache-2.0"
    return ""


def _is_strong(choice: str) -> bool:
    without_weak = _WEAK.sub("", choice)
    return bool(_STRONG_COPYLEFT.search(without_weak)) and not _EXCEPTION.search(choice)


def _required(
    distribution: "metadata.Distribution", extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    from packaging.requirements import Requirement  # noqa: PLC0415

    for line in distribution.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        wanted = marker is None or any(
            marker.evaluate({"extra": extra}) for extra in extras or {""}
        )
        if wanted:
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            yield name, frozenset(requirement.extras)


def _licence_of(distribution: "metadata.Distribution") -> str:
    return _stated_licence(distribution.metadata) or _named_in_licence_file(
        distribution
    )


def _named_in_licence_file(distribution: "metadata.Distribution") -> str:
    """Return the licence that the file which comes with it names; empty if unknown."""
    for path in distribution.files or ():
        if path.name.upper().startswith(("LICENSE", "LICENCE")):
            text = Path(str(path.locate())).read_text("utf-8", errors="replace")
            for words, name in _WELL_KNOWN.items():
                if words in text:
                    return f"{name} (by its file {path.name})"
    return ""


def _stated_licence(facts: "metadata.PackageMetadata") -> str:
    if "License-Expression" in facts:
        return facts["License-Expression"]
    classifiers = [
        line.rsplit(" :: ", 1)[-1]
        for line in facts.get_all("Classifier") or ()
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    if classifiers:
        return " OR ".join(dict.fromkeys(classifiers))
    written = facts["License"].strip() if "License" in facts else ""
    # Some put the whole text there; its first line is its name.
    return written.splitlines()[0][:80] if written else ""
