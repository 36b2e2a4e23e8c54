"""Receivers that are compared: each starts in a fresh folder and tells what it kept.

All of them take Explicit VR Little Endian. The peers sync no instance to the disk.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.parts import AE_TITLE, ROOT, node
from benchmarks.harness.processes import (
    PROMPT,
    SHIPPED,
    Running,
    free_port,
    running,
)
from benchmarks.receiving.certificate import certificate
from benchmarks.receiving.raw_tcp import records

__all__ = ["PEERS", "Receiver", "secondread"]

Kept = Callable[[], bytes]
_PDU = "131072"


@dataclass(frozen=True)
class Receiver:
    """One that runs now."""

    program: Running
    port: int
    kept: Callable[[], list[Kept]]
    """Tells each instance that it keeps, as a DICOM file to be read."""
    exact: bool = False
    """Whether data sets must be kept byte by byte; else element by element."""


# What `dicom_node.segment_log.reader` prepares when nothing arrives.
_SEGMENTS_IN_A_PAUSE = 8

Start = Callable[[Path], AbstractContextManager[Receiver]]


def secondread(
    *,
    settings: Mapping[str, str] | None = None,
    root: Path = ROOT,
    tls: bool = False,
) -> Start:
    """Return how our own node is started.

    Parameters
    ----------
    settings
        Environment variables of settings that make this arm.
    root
        Which copy of this repository runs.
    tls
        Whether instances are sent to a TLS port, which asks for no client certificate.
    """

    @contextmanager
    def start(folder: Path) -> Iterator[Receiver]:
        port, tls_port = free_port(), free_port()
        more = dict(settings or {}) | (_tls_settings(tls_port) if tls else {})
        with node(folder, port, root=root, settings=more) as program:
            if more.get("SECONDREAD_STORE__RECEIVE_ORDER") != "file":
                _wait_for_segments(folder / "data" / "log")
            # Its store: what lies there is in the index, too.
            kept = _files_below(folder / "data" / "objects")
            yield Receiver(program, tls_port if tls else port, kept, exact=True)

    return start


def _wait_for_segments(log: Path) -> None:
    """Wait for what a node prepares once in its life, in its first idle seconds.

    Segments are recycled from then on; without the wait, the first use of a folder
    would be measured, in which they are written during the run.
    """
    deadline = time.monotonic() + 15
    while len(list(log.glob("*.segment"))) < _SEGMENTS_IN_A_PAUSE:
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)


def _tls_settings(port: int) -> dict[str, str]:
    made = certificate()
    return {
        "SECONDREAD_TLS__PORT": str(port),
        "SECONDREAD_TLS__CERTIFICATE_FILE": str(made.certificate),
        "SECONDREAD_TLS__KEY_FILE": str(made.key),
        "SECONDREAD_TLS__REQUIRE_CLIENT_CERTIFICATE": "false",
    }


def storescp(*options: str, shipped: bool = False) -> Start:
    """Return how DCMTK's receiver is started."""

    @contextmanager
    def start(folder: Path) -> Iterator[Receiver]:
        port, out = free_port(), folder / "out"
        out.mkdir()
        pdu = () if shipped else ("-pdu", _PDU)
        command = ["storescp", "+xe", *pdu, *options, "-od", str(out), str(port)]
        environment = SHIPPED if shipped else PROMPT
        with running(
            command, log=folder / "log", environment=environment, port=port
        ) as program:
            yield Receiver(program, port, _files_below(out))

    return start


@contextmanager
def storescp_tls(folder: Path) -> Iterator[Receiver]:
    """Start DCMTK's receiver with TLS; it asks for no client certificate either."""
    made = certificate()
    options = ("+tls", str(made.key), str(made.certificate), "-ic")
    with storescp(*options)(folder) as receiver:
        yield receiver


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[Receiver]:
    """Start DCMTK's image archive, which keeps an index in a file."""
    port, out = free_port(), folder / "out"
    out.mkdir()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = {_PDU}\nMaxAssociations = 64\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{AE_TITLE} {out} RW (200, 8000mb) ANY\nAETable END\n"
    )
    command = ["dcmqrscp", "+xe", "-c", str(configuration), str(port)]
    with running(command, log=folder / "log", port=port) as program:
        yield Receiver(program, port, _files_below(out))


@contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    """Start Orthanc as it is shipped: SQLite index, HTTP server on."""
    port, storage = free_port(), folder / "storage"
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "StorageDirectory": str(storage),
                "IndexDirectory": str(storage),
                "DicomPort": port,
                "HttpPort": free_port(),
                "Plugins": [],
            }
        )
    )
    command = ["Orthanc", str(configuration)]
    with running(command, log=folder / "log", port=port) as program:
        yield Receiver(program, port, _files_below(storage))


@contextmanager
def pynetdicom_app(folder: Path) -> Iterator[Receiver]:
    """Start the storescp that comes with pynetdicom."""
    port, out = free_port(), folder / "out"
    command = [sys.executable, "-P", "-m", "pynetdicom", "storescp"]
    command += ["-xe", "-pdu", "0", "-od", str(out), str(port)]
    with running(command, log=folder / "log", port=port) as program:
        yield Receiver(program, port, _files_below(out))


@contextmanager
def pynetdicom_handler(folder: Path) -> Iterator[Receiver]:
    """Start what pynetdicom's guide shows: a handler that decodes and saves."""
    port, out = free_port(), folder / "out"
    out.mkdir()
    with _own_module(folder, "pynetdicom_handler", str(port), str(out)) as program:
        yield Receiver(program, port, _files_below(out))


def raw(order: str) -> Start:
    """Return how the limit without DICOM is started; `order` is `file` or `log`."""

    @contextmanager
    def start(folder: Path) -> Iterator[Receiver]:
        port, out = free_port(), folder / "out"
        out.mkdir()
        kept = _files_below(out) if order == "file" else _records_below(out)
        with _own_module(folder, "raw_tcp", order, str(port), str(out)) as program:
            yield Receiver(program, port, kept, exact=True)

    return start


PEERS: Mapping[str, Start] = {
    "storescp": storescp(),
    "storescp --fork": storescp("--fork"),
    "storescp as shipped": storescp(shipped=True),
    "storescp, TLS": storescp_tls,
    "dcmqrscp": dcmqrscp,
    "Orthanc": orthanc,
    "pynetdicom app": pynetdicom_app,
    "pynetdicom handler": pynetdicom_handler,
    "raw TCP, file": raw("file"),
    "raw TCP, log": raw("log"),
}


@contextmanager
def _own_module(folder: Path, name: str, *arguments: str) -> Iterator[Running]:
    command = [sys.executable, "-P", "-m", f"benchmarks.receiving.{name}", *arguments]
    environment = {**PROMPT, "PYTHONPATH": str(ROOT)}
    port = next(int(one) for one in arguments if one.isdigit())
    with running(
        command, log=folder / "log", environment=environment, port=port
    ) as program:
        yield program


def _files_below(folder: Path) -> Callable[[], list[Kept]]:
    """Tell DICOM files by their prefix: archives keep other files beside them."""

    def kept() -> list[Kept]:
        paths = [
            Path(parent, name)
            for parent, _, names in os.walk(folder)
            for name in sorted(names)
        ]
        return [path.read_bytes for path in paths if _is_dicom(path)]

    return kept


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except FileNotFoundError:
        return False  # renamed just now


def _records_below(folder: Path) -> Callable[[], list[Kept]]:
    def reader(path: Path, at: int, length: int) -> Kept:
        def read() -> bytes:
            with path.open("rb") as segment:
                segment.seek(at)
                return segment.read(length)

        return read

    return lambda: [reader(*record) for record in records(folder)]
