"""A sender process: `python -m benchmarks.receiving.replay dicom|raw PORT AE FOLDER`.

It encodes everything, says `ready`, waits for a line, sends, and prints its figures as
JSON. `raw` sends each file behind its length and waits for one byte: raw TCP without
DICOM.
"""

import json
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pydicom

from benchmarks.receiving.wire import Association, encode

__all__ = ["main"]


def main() -> None:
    """Send one folder over one connection."""
    protocol, port, ae_title, folder = sys.argv[1:]
    paths = sorted(Path(folder).glob("*.dcm"), key=lambda path: int(path.stem))
    if protocol == "raw":
        sends, finish = _raw(int(port), paths)
    else:
        sends, finish = _dicom(int(port), ae_title, paths)
    print("ready", flush=True)
    sys.stdin.readline()
    waits, bad = [], 0
    started = before = time.perf_counter()
    for send in sends:
        bad += send() != 0
        now = time.perf_counter()
        waits.append(now - before)
        before = now
    seconds = time.perf_counter() - started
    finish()
    print(json.dumps({"seconds": seconds, "waits": waits, "refused": bad}))


Sends = list[Callable[[], int]]


def _dicom(
    port: int, ae_title: str, paths: list[Path]
) -> tuple[Sends, Callable[[], None]]:
    heads = [
        pydicom.dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        for path in paths
    ]
    association = Association(port, ae_title, heads[0].SOPClassUID)
    instances = [
        encode(path, head.SOPInstanceUID)
        for path, head in zip(paths, heads, strict=True)
    ]
    prepared = association.prepare(instances)
    return [_bound(association, pdus) for pdus in prepared], association.release


def _bound(association: Association, pdus: list[bytes]) -> Callable[[], int]:
    return lambda: association.store(pdus)


def _raw(port: int, paths: list[Path]) -> tuple[Sends, Callable[[], None]]:
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(message: bytes) -> int:
        connection.sendall(message)
        return connection.recv(1)[0]

    def bound(message: bytes) -> Callable[[], int]:
        return lambda: send(message)

    contents = [path.read_bytes() for path in paths]
    messages = [struct.pack("<Q", len(one)) + one for one in contents]
    return [bound(message) for message in messages], connection.close


if __name__ == "__main__":
    main()
