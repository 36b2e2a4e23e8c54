"""Memory of each process at each stage: `python -m benchmarks.memory`.

Peaks are the kernel's own (VmHWM), reset before each stage. Pages that processes share
(a listener is forked from the node) count in each; `own` is what they do not share.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.harness import (
    Report,
    Running,
    add_output_options,
    free_port,
    process_tree,
    summarise,
)
from benchmarks.harness.instances import KINDS, Studies, write_studies
from benchmarks.harness.parts import broker, node, worker
from benchmarks.receiving.senders import dcmsend
from core.database import overview
from core.database.engine import open_database
from core.settings import Settings
from worker.phantom import PhantomIdentity, chest_radiograph, to_dicom

_MB = 1e6
_MATRIX = 2048
_STUDIES = 20
_READ_WITHIN_S = 180.0


@dataclass(frozen=True)
class _Process:
    name: str
    peak_mb: float
    now_mb: float
    own_mb: float


class _Stages:
    """Collects rows of the table."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    @contextmanager
    def stage(self, name: str, program: Running) -> Iterator[None]:
        """Measure the processes of a program over a block, without its afterwards."""
        _reset_peaks(program)
        yield
        program.wait_until_idle()
        for process in _processes(program):
            self.rows.append(
                {
                    "stage": name,
                    "process": process.name,
                    "peak MB": summarise([process.peak_mb]),
                    "now MB": round(process.now_mb),
                    "own MB": round(process.own_mb),
                }
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__
    )
    parser.add_argument("--instances", type=int, default=10_000, help="MR to receive")
    add_output_options(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = Report("memory", folder, ["dcmsend"])
        stages = _Stages()
        _receiving(stages, folder, given.instances)
        _reading(stages, folder / "reading")
        report.table("Memory", stages.rows)
        report.finish(given)


def _receiving(stages: _Stages, folder: Path, instances: int) -> None:
    large = write_studies(folder / "large", KINDS["MF"])
    small = write_studies(
        folder / "small", KINDS["MR"], count=instances, associations=4
    )
    port = free_port()
    with node(folder, port) as program:
        with stages.stage("node, idle", program):
            pass
        for name, studies in (
            ("node, 524 MB multi-frame", large),
            (f"node, {instances} MR over 4 associations", small),
        ):
            with stages.stage(name, program):
                dcmsend()(studies, port, folder)


def _reading(stages: _Stages, folder: Path) -> None:
    data_dir, port = folder / "data", free_port()
    settings = {"SECONDREAD_ASSEMBLY__QUIET_TIME_S": "1"}
    with (
        broker(data_dir) as url,
        node(folder, port, settings=settings | {"SECONDREAD_QUEUE__BROKER_URL": url}),
        worker(data_dir, folder / "worker.log", url) as program,
    ):
        with stages.stage("worker, models loaded", program):
            _until(lambda: "models_ready" in program.said(), "models_ready")
        total = 0
        for count in (1, _STUDIES):
            studies = _radiographs(folder / str(count), count)
            name = f"worker, {count} radiograph{'s' * (count > 1)} read"
            total += count
            with stages.stage(name, program):
                dcmsend()(studies, port, folder)
                _until(partial(_all_reported, data_dir, total), name)


def _radiographs(folder: Path, count: int) -> Studies:
    folder.mkdir(parents=True)
    sources, written = {}, 0
    for number in range(count):
        image = chest_radiograph(rows=_MATRIX, columns=_MATRIX, opacity=number % 2 > 0)
        identity = PhantomIdentity(study_seed=f"{folder.name}-{number}")
        dataset = to_dicom(image, identity=identity)
        path = folder / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        sources[str(dataset.SOPInstanceUID)] = path
        written += path.stat().st_size
    return Studies((folder,), sources, written)


def _all_reported(data_dir: Path, count: int) -> bool:
    """Tell whether so many studies have their report.

    Raises
    ------
    RuntimeError
        If one failed.
    """
    database = open_database(Settings(data_dir=data_dir), migrate=False)
    try:
        with database.read() as connection:
            lines = overview.study_lines(
                connection, standing=None, modality=None, limit=10_000
            )
    finally:
        database.close()
    ended = (overview.Standing.REPORTED, overview.Standing.NOT_ANALYSED)
    failed = [line for line in lines if line.standing is overview.Standing.FAILED]
    if failed:
        raise RuntimeError(f"a study was not read: {failed[0].why}")
    return sum(line.standing in ended for line in lines) >= count


def _until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _READ_WITHIN_S
    while not happened():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_READ_WITHIN_S:g} s: {what}")
        time.sleep(0.1)


def _processes(program: Running) -> list[_Process]:
    found = []
    for process_id in process_tree(program.process_id):
        with suppress(psutil.Error, FileNotFoundError):
            process = psutil.Process(process_id)
            full = process.memory_full_info()
            peak = _peak_bytes(process_id)
            name = _name(process, parent=process_id == program.process_id)
            found.append(_Process(name, peak / _MB, full.rss / _MB, full.uss / _MB))
    return found


def _name(process: psutil.Process, *, parent: bool) -> str:
    """Tell processes apart by what they were started as; a fork keeps that."""
    words = " ".join(process.cmdline())
    if "reading_process" in words:
        return "reading process"
    part = next((one for one in ("node", "worker") if f"main {one}" in words), words)
    return part if parent else f"{part}'s child"


def _reset_peaks(program: Running) -> None:
    for process_id in process_tree(program.process_id):
        with suppress(FileNotFoundError, ProcessLookupError):
            # proc(5): 5 sets the peak resident size to what it is now.
            Path(f"/proc/{process_id}/clear_refs").write_text("5")


def _peak_bytes(process_id: int) -> int:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
