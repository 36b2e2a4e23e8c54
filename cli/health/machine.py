"""Checks of the machine: versions, disk, port."""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path

from cli.health.check import Check, fail, ok, warn
from cli.output import size
from core.settings import Settings

__all__ = [
    "check_data_directory",
    "check_disk",
    "check_port",
    "check_tls",
    "check_versions",
]


# PS3.8 Table 9-21: rejected by the service user, calling AE title not recognised.
_REJECTED_CALLER = "(1/3)"


def check_versions() -> Iterator[Check]:
    """Hold what is installed against what this release asks for.

    The floors are there for reasons (CVEs, repaired bugs), told in pyproject.toml.
    """
    from packaging.requirements import Requirement  # noqa: PLC0415

    wrong = []
    for line in metadata.requires("secondread") or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is not None and not marker.evaluate({"extra": ""}):
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            asked = f"{requirement.name}{requirement.specifier}"
            wrong.append(f"{requirement.name} {installed} ({asked} is asked for)")
    python = f"Python {platform.python_version()}"
    if wrong:
        yield fail(
            "versions",
            "; ".join(wrong),
            f"{sys.executable} -m pip install -U secondread",
        )
    else:
        yield ok("versions", f"{python}, every library at or above its floor")


def check_data_directory(settings: Settings) -> Iterator[Check]:
    """Look whether the data directory can be written, and by whom it can be read."""
    path = settings.data_dir
    if not path.exists():
        parent = next(one for one in path.parents if one.exists())
        if os.access(parent, os.W_OK):
            yield ok("data directory", f"{path} is made at the first start")
        else:
            yield fail(
                "data directory", f"{path} cannot be made: {parent} is not writable",
                "choose another one with --data-dir",
            )  # fmt: skip
        return
    if not os.access(path, os.W_OK | os.X_OK):
        yield fail(
            "data directory", f"{path} is not writable for this user",
            f"run as its owner, or: chown {os.getuid()} {path}",
        )  # fmt: skip
    elif path.stat().st_mode & 0o007:
        yield warn(
            "data directory", f"{path} can be entered by every user of this machine",
            f"chmod 700 {path}",
        )  # fmt: skip
    else:
        yield ok("data directory", str(path))


def check_disk(settings: Settings) -> Iterator[Check]:
    """Compare free space with the low-water mark."""
    place: Path = settings.data_dir
    while not place.exists():
        place = place.parent
    free, mark = shutil.disk_usage(place).free, settings.store.low_water_bytes
    finding = f"{size(free)} free; associations are rejected below {size(mark)}"
    action = "free some space, or lower store.low_water_bytes knowing what you do"
    if free < mark:
        yield fail("disk", finding, action)
    elif free < 3 * mark:
        yield warn("disk", finding, action)
    else:
        yield ok("disk", finding)


def check_port(settings: Settings) -> Iterator[Check]:
    """Look who listens on the DICOM port: nobody, our node, or somebody else."""
    from dicom_node.senders.c_echo import echo  # noqa: PLC0415

    if settings.tls.only:
        yield ok("DICOM port", "closed by tls.only")
        return
    address, port = settings.bind_address, settings.node.port
    place = f"{address} port {port}"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            yield fail(
                "DICOM port", f"this user may not listen on {place}",
                "choose node.port above 1023",
            )  # fmt: skip
            return
        except OSError as error:
            refused = error.strerror
        else:
            yield ok("DICOM port", f"{place} is free; no node runs")
            return
    host = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104
    title = settings.node.ae_title
    answer = echo(host, port, called=title, calling=title, timeout_s=5.0)
    if answer.ok:
        yield ok("DICOM port", f"{title} answers C-ECHO on {place}")
    elif _REJECTED_CALLER in answer.words:
        yield ok(
            "DICOM port", f"a node answers on {place}; it rejects this machine, which "
            "is not in node.allowed_callers",
        )  # fmt: skip
    else:
        yield fail(
            "DICOM port", f"{place} is taken ({refused}) and no {title} answers there: "
            f"{answer.words}", "stop the other program, or choose another node.port",
        )  # fmt: skip


def check_tls(settings: Settings) -> Iterator[Check]:
    """Look whether the files of certificates can be used."""
    from core.errors import InvalidSettings  # noqa: PLC0415
    from dicom_node.tls import ServerTls  # noqa: PLC0415

    if settings.tls.port is None:
        return
    try:
        ServerTls(settings.tls)
    except InvalidSettings as error:
        yield fail("TLS", str(error), "docs/operations.md tells how to make them")
    else:
        asked = settings.tls.require_client_certificate
        who = "only callers with a certificate" if asked else "any caller"
        yield ok("TLS", f"port {settings.tls.port}, {who}")
