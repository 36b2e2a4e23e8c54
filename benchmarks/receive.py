"""Receive rate of the node against DCMTK storescp: paired rounds, one sender.

Both take Explicit VR Little Endian over loopback with TCP_NODELAY on both ends.
storescp syncs nothing to the disk; the node answers only after file and directory are
synced. Each round writes into fresh folders and deletes nothing.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from core.uids import derived_uid

SETS = {"MR 34 KB": (MRImageStorage, 128, 500), "CT 0.5 MB": (CTImageStorage, 512, 100)}
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.release()}"
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (sop_class, size, count) in SETS.items():
            studies = Path(folder) / name.split()[0]
            write_instances(studies, sop_class, size, count)
            figures[name] = measure(studies, count, arguments.rounds, Path(folder))
            print(name, json.dumps(figures[name], indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def measure(studies: Path, count: int, rounds: int, folder: Path) -> dict[str, object]:
    """Time `rounds` pairs after one that is not counted."""
    receivers: dict[str, Callable[[Path], object]] = {
        "storescp": storescp,
        "secondread": secondread_node,
    }
    rates: dict[str, list[float]] = {name: [] for name in receivers}
    peaks: list[int] = []
    for number in range(rounds + 1):
        names = list(receivers)[:: 1 if number % 2 else -1]
        for name in names:
            fresh = folder / f"{studies.name}-{name}-{number}"
            fresh.mkdir()
            with receivers[name](fresh) as (port, process_id):  # type: ignore[attr-defined]
                os.sync()
                started = time.perf_counter()
                send(studies, port)
                seconds = time.perf_counter() - started
                if name == "secondread":
                    peaks.append(peak_kib(process_id))
            if number:
                rates[name].append(count / seconds)
    ratios = [
        a / b for a, b in zip(rates["secondread"], rates["storescp"], strict=True)
    ]
    return {
        "storescp_per_s": summary(rates["storescp"]),
        "secondread_per_s": summary(rates["secondread"]),
        "ratio_of_pairs": summary(ratios),
        "node_peak_mib": round(max(peaks) / 1024, 1),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Return median, least and greatest."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def write_instances(folder: Path, sop_class: str, size: int, count: int) -> None:
    """Write one study of `count` instances of noise."""
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 4096, (size, size), np.uint16)
    for number in range(count):
        dataset = Dataset()
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = derived_uid("benchmark", folder.name, str(number))
        dataset.StudyInstanceUID = derived_uid("benchmark", folder.name)
        dataset.SeriesInstanceUID = derived_uid("benchmark", folder.name, "series")
        dataset.Modality = folder.name
        dataset.PatientName = "PHANTOM^BENCHMARK"
        dataset.PatientID = "PHANTOM"
        dataset.InstanceNumber = number + 1
        dataset.Rows = dataset.Columns = size
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelRepresentation = 0
        dataset.PixelData = np.roll(pixels, number).tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def send(studies: Path, port: int) -> None:
    """Send a folder over one association."""
    subprocess.run(
        ["dcmsend", "-aec", "SECONDREAD", "127.0.0.1", str(port), "+sd", str(studies)],
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )


@contextmanager
def storescp(folder: Path) -> Iterator[tuple[int, int]]:
    """Run DCMTK's receiver; it writes files and syncs nothing."""
    port = free_port()
    command = ["storescp", "-pdu", "131072", "+xe", "-od", str(folder), str(port)]
    with running(command, port, ENVIRONMENT) as process_id:
        yield port, process_id


@contextmanager
def secondread_node(folder: Path) -> Iterator[tuple[int, int]]:
    """Run the node alone, as `secondread node` does."""
    port = free_port()
    environment = {
        **ENVIRONMENT,
        "SECONDREAD_DATA_DIR": str(folder),
        "SECONDREAD_NODE__PORT": str(port),
        "SECONDREAD_STORE__LOW_WATER_BYTES": "0",
        "SECONDREAD_ASSEMBLY__QUIET_TIME_S": "3600",
        "SECONDREAD_QUEUE__BROKER_URL": "redis://127.0.0.1:1/0",
    }
    command = [str(Path(sys.executable).parent / "secondread"), "node"]
    with running(command, port, environment) as process_id:
        yield port, process_id


@contextmanager
def running(
    command: list[str], port: int, environment: dict[str, str]
) -> Iterator[int]:
    """Run a receiver until it takes connections; end it afterwards."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise SystemExit(f"{command[0]} does not listen on port {port}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=60)


def peak_kib(process_id: int) -> int:
    """Return the largest resident size so far of one process, in KiB."""
    status = Path(f"/proc/{process_id}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    for program in ("dcmsend", "storescp"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing; install DCMTK")
    main()
