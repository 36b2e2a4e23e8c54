"""Receive rate of the node against DCMTK storescp: paired rounds, one sender.

Both take Explicit VR Little Endian over loopback with TCP_NODELAY on both ends.
storescp syncs nothing to the disk; the node answers only after file and directory are
synced. Each round writes into fresh folders and deletes nothing. `--before` measures
another copy of this repository in the same rounds. `--nagle` leaves sender and storescp
as they are shipped, with Nagle's algorithm on.
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
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from core.uids import derived_uid

Receiver = AbstractContextManager[tuple[int, int]]
HERE = Path(__file__).parents[1]
# SOP class, rows and columns, frames, instances
SETS = {
    "MR 34 KB": (MRImageStorage, 128, 1, 500),
    "CT 0.5 MB": (CTImageStorage, 512, 1, 100),
    "MF 500 MB": (EnhancedCTImageStorage, 512, 1000, 1),
}
PROMPT = {**os.environ, "TCP_NODELAY": "1"}
SHIPPED = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS][:2])
    parser.add_argument("--count", type=int, help="instances, other than the usual")
    parser.add_argument("--before", type=Path, help="root of another copy to compare")
    parser.add_argument("--nagle", action="store_true", help="sender as shipped")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.release()}"
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets:
            sop_class, size, frames, count = SETS[name]
            count = arguments.count or count
            studies = Path(folder) / name.split()[0]
            write_instances(studies, sop_class, size, frames, count)
            figures[name] = measure(
                studies,
                count,
                arguments.rounds,
                Path(folder),
                before=arguments.before,
                environment=SHIPPED if arguments.nagle else PROMPT,
            )
            print(name, json.dumps(figures[name], indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def measure(
    studies: Path,
    count: int,
    rounds: int,
    folder: Path,
    *,
    before: Path | None,
    environment: dict[str, str],
) -> dict[str, object]:
    """Time `rounds` rounds after one that is not counted."""
    receivers: dict[str, Callable[[Path], Receiver]] = {
        "storescp": lambda fresh: storescp(fresh, environment),
        "secondread": lambda fresh: secondread_node(fresh, HERE),
    }
    if before is not None:
        receivers["before"] = lambda fresh: secondread_node(fresh, before.resolve())
    rates: dict[str, list[float]] = {name: [] for name in receivers}
    cpu: dict[str, list[float]] = {name: [] for name in receivers}
    peaks: dict[str, int] = dict.fromkeys(receivers, 0)
    for number in range(rounds + 1):
        names = list(receivers)[:: 1 if number % 2 else -1]
        for name in names:
            fresh = folder / f"{studies.name}-{name}-{number}"
            fresh.mkdir()
            with receivers[name](fresh) as (port, process_id):
                os.sync()
                used = cpu_seconds(process_id)
                started = time.perf_counter()
                send(studies, port, environment)
                seconds = time.perf_counter() - started
                peaks[name] = max(peaks[name], peak_kib(process_id))
                used = cpu_seconds(process_id) - used
            if number:
                rates[name].append(count / seconds)
                cpu[name].append(used)
    result: dict[str, object] = {
        f"{name}_per_s": summary(values) for name, values in rates.items()
    }
    for other in [name for name in receivers if name != "secondread"]:
        result[f"rate_to_{other}"] = summary(pairs(rates, other))
        result[f"cpu_to_{other}"] = summary(pairs(cpu, other))
    result["peak_mib"] = {name: round(peak / 1024, 1) for name, peak in peaks.items()}
    return result


def pairs(values: dict[str, list[float]], other: str) -> list[float]:
    """Return the ratios to `other`, round by round."""
    return [
        a / max(b, 0.01)
        for a, b in zip(values["secondread"], values[other], strict=True)
    ]


def summary(values: list[float]) -> dict[str, float]:
    """Return median, least and greatest."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def write_instances(
    folder: Path, sop_class: str, size: int, frames: int, count: int
) -> None:
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
        dataset.NumberOfFrames = frames
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelRepresentation = 0
        dataset.PixelData = np.roll(pixels, number).tobytes() * frames
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def send(studies: Path, port: int, environment: dict[str, str]) -> None:
    """Send a folder over one association."""
    subprocess.run(
        ["dcmsend", "-aec", "SECONDREAD", "127.0.0.1", str(port), "+sd", str(studies)],
        env=environment,
        check=True,
        capture_output=True,
    )


@contextmanager
def storescp(folder: Path, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Run DCMTK's receiver; it writes files and syncs nothing."""
    port = free_port()
    command = ["storescp", "+xe", "-od", str(folder), str(port)]
    if environment is PROMPT:
        command[1:1] = ["-pdu", "131072"]
    with running(command, port, environment) as process_id:
        yield port, process_id


@contextmanager
def secondread_node(folder: Path, root: Path) -> Iterator[tuple[int, int]]:
    """Run the node of the copy at `root` alone, as `secondread node` does."""
    port = free_port()
    environment = {
        **SHIPPED,
        "PYTHONPATH": str(root),
        "SECONDREAD_DATA_DIR": str(folder),
        "SECONDREAD_NODE__PORT": str(port),
        "SECONDREAD_STORE__LOW_WATER_BYTES": "0",
        "SECONDREAD_ASSEMBLY__QUIET_TIME_S": "3600",
        "SECONDREAD_QUEUE__BROKER_URL": "redis://127.0.0.1:1/0",
    }
    command = [sys.executable, "-P", "-m", "cli.main", "node"]
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


def cpu_seconds(process_id: int) -> float:
    """Return the processor time of one process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
