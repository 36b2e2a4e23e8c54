"""Sending rate beside DCMTK's dcmsend: `python -m benchmarks.send`.

In each table both send the same instances over one association to DCMTK's storescp,
Explicit VR Little Endian, in paired rounds; a run counts only if every instance was
accepted and is kept as it was sent. `ours` is the sender in a running process, as the
node delivers; `secondread send` is the whole command with Python's start. dcmsend is a
whole command, too, but starts in some milliseconds.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import (
    PROMPT,
    Measured,
    Report,
    Sample,
    add_output_options,
    paired_rounds,
)
from benchmarks.harness.instances import KINDS, Studies, write_studies
from benchmarks.harness.machine import wait_for_quiet_disk
from benchmarks.harness.parts import AE_TITLE, part_environment
from benchmarks.receiving.check import check_kept
from benchmarks.receiving.peers import PEERS
from benchmarks.receiving.senders import SENDERS
from dicom_node.senders.c_store import send_files

PROGRAMS = ("storescp", "dcmsend")
RECEIVER = "storescp"
DEFAULT_TABLES = ("CT", "MR")
QUICK = {"CT": 30, "MR": 100, "DX": 2, "MF": 1}

Sending = Callable[[Studies, int, Path], float]
"""Send studies to a port; the folder is for logs. Returns the seconds it took."""


def main() -> None:
    """Measure and print."""
    given = _arguments()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        report = Report("send", Path(folder), PROGRAMS)
        for name in given.tables:
            _table(report, name, given, Path(folder))
        report.finish(given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.send", description=__doc__
    )
    parser.add_argument(
        "--tables", nargs="+", choices=KINDS, default=list(DEFAULT_TABLES)
    )
    parser.add_argument("--rounds", type=int, help="counted rounds (6)")
    parser.add_argument("--count", type=int, help="instances, other than the usual")
    parser.add_argument(
        "--quick", action="store_true", help="small sets, one round: does it work?"
    )
    parser.add_argument("--folder", type=Path, help="where to write; default: TMPDIR")
    add_output_options(parser)
    given = parser.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 6)
    for program in PROGRAMS:
        if shutil.which(program) is None:
            parser.error(f"{program} is missing (Debian: dcmtk)")
    return given


def _table(report: Report, name: str, given: argparse.Namespace, folder: Path) -> None:
    kind = KINDS[name]
    count = given.count or (QUICK[name] if given.quick else kind.usual)
    place = folder / name
    studies = write_studies(place / "in", kind, count=count)
    arms = {arm: _runs(send, studies) for arm, send in _senders().items()}
    measured = paired_rounds(arms, rounds=given.rounds, folder=place / "runs")
    report.table(
        f"{name}: {studies.count} x {kind.label}, 1 association, to {RECEIVER}",
        _rows(measured),
        plot="to dcmsend",
    )
    report.keep(name, measured.as_json())
    if name == "CT":
        report.bar("send-ct", measured.ratio("ours", "dcmsend", "per_s"))
    # Between tables alone: a disk that discards works for a while after this.
    shutil.rmtree(place)
    wait_for_quiet_disk()


def _senders() -> Mapping[str, Sending]:
    def dcmsend(studies: Studies, port: int, folder: Path) -> float:
        return SENDERS["dcmsend"](studies, port, folder).seconds

    return {"dcmsend": dcmsend, "ours": _ours, "secondread send": _command}


def _ours(studies: Studies, port: int, _folder: Path) -> float:
    paths = sorted(studies.sources.values())
    started = time.perf_counter()
    results = send_files(
        paths, host="127.0.0.1", port=port, called=AE_TITLE, calling="SECONDREAD-SEND"
    )
    seconds = time.perf_counter() - started
    if not all(result.ok for result in results):
        raise RuntimeError("not every instance was accepted")
    return seconds


def _command(studies: Studies, port: int, folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", "send", str(studies.folders[0])]
        + ["--to", f"127.0.0.1:{port}", "--called", AE_TITLE],
        env={**PROMPT, **part_environment(folder / "data")},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


def _runs(send: Sending, studies: Studies) -> Callable[[Path], Sample]:
    def run(folder: Path) -> Sample:
        with PEERS[RECEIVER](folder) as receiver:
            receiver.program.wait_until_idle()
            os.sync()
            own, children = time.process_time(), _children_cpu()
            seconds = send(studies, receiver.port, folder)
            own = time.process_time() - own
            children = _children_cpu() - children
            receiver.program.wait_until_idle()
            check_kept(receiver, studies)
        return {
            "per_s": studies.count / seconds,
            "mb_per_s": studies.bytes / seconds / 1e6,
            # Who sends is this process or a child of it, never both.
            "cpu_s": max(own, children),
        }

    return run


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _rows(measured: Measured) -> list[dict[str, object]]:
    return [
        {
            "sender": arm,
            "per s": measured.summary(arm, "per_s"),
            "MB/s": measured.summary(arm, "mb_per_s"),
            "to dcmsend": measured.ratio(arm, "dcmsend", "per_s"),
            "cpu s": measured.summary(arm, "cpu_s"),
        }
        for arm in measured.samples
    ]


if __name__ == "__main__":
    main()
