"""Start-up times: `python -m benchmarks.startup`.

From starting the command to its end (`--help`, `studies`), to the first accepted
association (node) and to loaded models (worker): warm, and with `--cold` cold, too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pynetdicom import AE

from benchmarks.harness import (
    Measured,
    Report,
    Sample,
    add_output_options,
    free_port,
    paired_rounds,
)
from benchmarks.harness.instances import KINDS, write_studies
from benchmarks.harness.parts import (
    AE_TITLE,
    ROOT,
    broker,
    node,
    part_environment,
    worker,
)
from benchmarks.harness.processes import Running
from benchmarks.receiving.senders import dcmsend

_STUDIES = 50
_VERIFICATION = "1.2.840.10008.1.1"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--cold",
        action="store_true",
        help="also with the files of Python and of this project forgotten before each "
        "start; slows down whatever else of this machine uses them",
    )
    add_output_options(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = Report("startup", folder)
        installation = folder / "installation"
        _fill(installation)
        arms = {
            "secondread --help": _command("--help"),
            f"secondread studies, {_STUDIES} of them": _command(
                "studies", data_dir=installation / "data"
            ),
            "node takes associations, new": _node,
            "node takes associations, again": _again(installation),
            "worker has its models loaded": _worker,
        }
        measured = paired_rounds(arms, rounds=given.rounds, folder=folder / "warm")
        _tell(report, "warm: files in memory", measured)
        help_, studies, _, again, ready = arms
        report.bar("start-help", measured.summary(help_, "s"))
        report.bar("start-studies", measured.summary(studies, "s"))
        report.bar("start-node", measured.summary(again, "s"))
        if given.cold:
            cold = {arm: _cold(start) for arm, start in arms.items()}
            measured = paired_rounds(cold, rounds=given.rounds, folder=folder / "cold")
            _tell(report, "cold: files not in memory", measured)
        else:
            report.note("The worker was started warm; its bar is for a cold start.")
        report.bar("start-worker", measured.summary(ready, "s"))
        report.finish(given)


def _tell(report: Report, kind: str, measured: Measured) -> None:
    figures = {"seconds": "s", "cpu s": "cpu_s", "MB read": "read_mb"}
    report.table(
        f"Start-up, {kind}",
        [
            {
                "what": arm,
                **{
                    column: measured.summary(arm, figure)
                    for column, figure in figures.items()
                    if figure in measured.samples[arm][0]
                },
            }
            for arm in measured.samples
        ],
        plot="seconds",
    )
    report.keep(kind, measured.as_json())


Start = Callable[[Path], Sample]


def _command(*arguments: str, data_dir: Path | None = None) -> Start:
    """Time a command from its start to its end."""

    def start(folder: Path) -> Sample:
        environment = part_environment(data_dir or folder / "data", NO_COLOR="1")
        command = [sys.executable, "-P", "-m", "cli.main", *arguments]
        before, started = os.times(), time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        seconds, after = time.perf_counter() - started, os.times()
        cpu_s = after.children_user - before.children_user
        cpu_s += after.children_system - before.children_system
        return {"s": seconds, "cpu_s": cpu_s}

    return start


def _node(folder: Path) -> Sample:
    """Time a node to the first association that it accepts."""
    port = free_port()
    started = time.perf_counter()
    with node(folder, port) as program:
        while not _accepts(port):
            time.sleep(0.01)
        return _sample(program, time.perf_counter() - started)


def _again(installation: Path) -> Start:
    return lambda _folder: _node(installation)


def _worker(folder: Path) -> Sample:
    """Time a worker to its models being loaded, with the broker already there."""
    data_dir, log = folder / "data", folder / "worker.log"
    with broker(data_dir) as url:
        started = time.perf_counter()
        with worker(data_dir, log, url) as program:
            while "models_ready" not in program.said():
                if program.process.poll() is not None:
                    raise RuntimeError(f"the worker ended:\n{program.said()[-2000:]}")
                time.sleep(0.02)
            return _sample(program, time.perf_counter() - started)


def _accepts(port: int) -> bool:
    entity = AE()
    entity.add_requested_context(_VERIFICATION)
    association = entity.associate("127.0.0.1", port, ae_title=AE_TITLE)
    if not association.is_established:
        return False
    association.release()
    return True


def _sample(program: Running, seconds: float) -> Sample:
    return {
        "s": seconds,
        "cpu_s": program.usage().cpu_s,
        "read_mb": program.read_bytes() / 1e6,
    }


def _fill(installation: Path) -> None:
    """Make an installation that has received some studies."""
    place = installation / "in"
    studies = write_studies(place, KINDS["MR"], count=_STUDIES, associations=_STUDIES)
    one_association = replace(studies, folders=(place,))
    port = free_port()
    with node(installation, port) as program:
        dcmsend()(one_association, port, installation)
        program.wait_until_idle()


def _cold(start: Start) -> Start:
    def run(folder: Path) -> Sample:
        _forget_files()
        return start(folder)

    return run


def _forget_files() -> None:
    """Ask the kernel to drop the files of Python, its packages and ours from memory.

    It keeps what another process has mapped. Nobody's rights are needed for it.
    """
    os.sync()
    places = {Path(place).resolve() for place in sys.path if Path(place).is_dir()}
    for place in {ROOT.resolve(), *places}:
        for parent, _, names in os.walk(place):
            for name in names:
                _forget(Path(parent, name))


def _forget(path: Path) -> None:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


if __name__ == "__main__":
    main()
