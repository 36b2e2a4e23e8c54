"""Receive rate of the node beside its peers: `python -m benchmarks.receive`.

In each table every receiver gets the same instances from the same sender in paired
rounds. Our node answers when an instance is durable; the peers sync nothing. A run
counts only if every instance was answered Success and is kept as it was sent.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.harness import (
    Measured,
    Report,
    Sample,
    add_output_options,
    paired_rounds,
)
from benchmarks.harness.instances import KINDS, Studies, write_studies
from benchmarks.harness.machine import wait_for_quiet_disk
from benchmarks.harness.processes import TICK_S
from benchmarks.harness.summary import summarise
from benchmarks.receiving.check import check_kept
from benchmarks.receiving.peers import PEERS, Start, secondread
from benchmarks.receiving.senders import SENDERS, Send

PROGRAMS = ("storescp", "dcmsend", "Orthanc")
_ORDER = "SECONDREAD_STORE__RECEIVE_ORDER"
OURS: Mapping[str, Start] = {
    "log": secondread(settings={_ORDER: "log"}),
    "log, unpacking": secondread(
        settings={_ORDER: "log", "SECONDREAD_STORE__INDEX_DELAY_S": "0.001"}
    ),
    "log, TLS": secondread(settings={_ORDER: "log"}, tls=True),
    "file": secondread(settings={_ORDER: "file"}),
}
"""Our own arms. `unpacking`: files and index are written while instances come in."""


@dataclass(frozen=True)
class Bar:
    """Which ratio of a table is held against which bar."""

    key: str
    arm: str
    other: str = ""
    """Empty: the figure itself."""
    figure: str = "per_s"


@dataclass(frozen=True)
class Plan:
    """One table: who gets what from whom."""

    kind: str
    sender: str
    arms: tuple[str, ...]
    associations: int = 1
    count: int | None = None
    bars: tuple[Bar, ...] = ()


PLANS: Mapping[str, Plan] = {
    "mr": Plan(
        "MR",
        "dcmsend",
        (
            *("storescp", "log", "log, unpacking", "file"),
            *("Orthanc", "pynetdicom handler"),
        ),
        bars=(
            Bar("log-mr", "log", "storescp"),
            Bar("log-unpacking-mr", "log, unpacking", "storescp"),
            Bar("log-file-mr", "log", "file"),
            Bar("file-mr", "file", "storescp"),
            Bar("log-orthanc-mr", "log", "Orthanc"),
            Bar("log-pynetdicom-mr", "log", "pynetdicom handler"),
            Bar("cpu-mr", "log", "storescp", "cpu_s"),
        ),
    ),
    "mr-replay": Plan(
        "MR",
        "replay",
        ("storescp", "log", "file", "raw TCP, file", "raw TCP, log"),
        bars=(Bar("file-raw-mr", "file", "raw TCP, file"),),
    ),
    "mr-4": Plan(
        "MR",
        "dcmsend",
        ("storescp --fork", "log", "file"),
        associations=4,
        bars=(Bar("log-mr-4", "log", "storescp --fork"),),
    ),
    "ct": Plan(
        "CT",
        "dcmsend",
        ("storescp", "log", "file"),
        bars=(Bar("log-ct", "log", "storescp"), Bar("file-ct", "file", "storescp")),
    ),
    "mf": Plan(
        "MF",
        "dcmsend",
        ("storescp", "log", "file"),
        bars=(
            Bar("log-mf", "log", "storescp"),
            Bar("rss-mf", "log", figure="peak_mb"),
        ),
    ),
    "nagle": Plan(
        "CT",
        "dcmsend as shipped",
        ("storescp as shipped", "log", "file"),
        count=60,
        bars=(Bar("nagle", "log", "storescp as shipped"),),
    ),
    "tls": Plan(
        "MR",
        "storescu",
        ("log", "log, TLS", "storescp", "storescp, TLS"),
        count=500,
        bars=(Bar("tls", "log, TLS", "log"),),
    ),
    "mr-peers": Plan("MR", "dcmsend", ("storescp", "dcmqrscp", "pynetdicom app")),
    "mr-16": Plan("MR", "dcmsend", ("storescp --fork", "log", "file"), associations=16),
    "ct-replay": Plan("CT", "replay", ("storescp", "log", "file", "raw TCP, file")),
    "ct-4": Plan("CT", "dcmsend", ("storescp --fork", "log", "file"), associations=4),
    "ct-16": Plan("CT", "dcmsend", ("storescp --fork", "log", "file"), associations=16),
    "ct-peers": Plan(
        "CT",
        "dcmsend",
        ("storescp", "dcmqrscp", "Orthanc", "pynetdicom app", "pynetdicom handler"),
    ),
    "dx": Plan("DX", "dcmsend", ("storescp", "log", "file", "Orthanc")),
    "mf-peers": Plan("MF", "dcmsend", ("storescp", "Orthanc", "pynetdicom handler")),
}
BARS_ALONE = [name for name, plan in PLANS.items() if plan.bars]
QUICK = {"MR": 200, "CT": 30, "DX": 2, "MF": 1}


def main() -> None:
    """Measure and print."""
    given = _arguments()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        report = Report("receive", Path(folder), PROGRAMS)
        for name in given.tables:
            plan = PLANS[name]
            if given.quick:
                plan = replace(plan, count=min(QUICK[plan.kind], plan.count or 2000))
            _table(report, name, plan, given, Path(folder))
        report.finish(given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receive", description=__doc__
    )
    parser.add_argument(
        "--tables",
        nargs="+",
        choices=PLANS,
        default=BARS_ALONE,
        metavar="TABLE",
        help=f"which, of {', '.join(PLANS)}; those with bars by default",
    )
    parser.add_argument("--full", action="store_true", help="all tables")
    parser.add_argument(
        "--quick", action="store_true", help="small sets, one round: does it work?"
    )
    parser.add_argument("--rounds", type=int, help="counted rounds (6)")
    parser.add_argument("--arms", nargs="+", help="only these receivers")
    parser.add_argument("--count", type=int, help="instances, other than the usual")
    parser.add_argument("--before", type=Path, help="root of another copy to compare")
    parser.add_argument("--folder", type=Path, help="where to write; default: TMPDIR")
    add_output_options(parser)
    given = parser.parse_args()
    if given.full:
        given.tables = list(PLANS)
    given.rounds = given.rounds or (1 if given.quick else 6)
    for program in PROGRAMS:
        if shutil.which(program) is None:
            parser.error(f"{program} is missing (Debian: dcmtk, orthanc)")
    return given


def _table(
    report: Report, name: str, plan: Plan, given: argparse.Namespace, folder: Path
) -> None:
    kind = KINDS[plan.kind]
    count = given.count or plan.count or kind.usual
    place = folder / name
    studies = write_studies(
        place / "in", kind, count=count, associations=plan.associations
    )
    starts = {
        arm: start
        for arm, start in _starts(plan, given.before).items()
        if given.arms is None or arm in given.arms
    }
    arms = {
        arm: _runs(start, _sender(plan, arm), studies) for arm, start in starts.items()
    }
    measured = paired_rounds(arms, rounds=given.rounds, folder=place / "runs")
    many = "s" if plan.associations > 1 else ""
    report.table(
        f"{name}: {studies.count} x {kind.label}, {plan.associations} association"
        f"{many}, {plan.sender}",
        _rows(measured),
        plot="to first",
    )
    report.keep(name, measured.as_json())
    for bar in plan.bars:
        if {bar.arm, bar.other} <= {*measured.samples, ""}:
            report.bar(
                bar.key,
                measured.ratio(bar.arm, bar.other, bar.figure)
                if bar.other
                else measured.summary(bar.arm, bar.figure),
            )
    # Between tables alone: a disk that discards works for a while after this.
    shutil.rmtree(place)
    wait_for_quiet_disk()


def _starts(plan: Plan, before: Path | None) -> dict[str, Start]:
    """Return how each receiver of a table is started, ours by their mode."""
    found: dict[str, Start] = {}
    for arm in plan.arms:
        if arm in OURS:
            found[arm] = OURS[arm]
        elif arm in PEERS:
            found[arm] = PEERS[arm]
    if before is not None:
        found["before"] = secondread(root=before.resolve())
    return found


def _sender(plan: Plan, arm: str) -> Send:
    """Return who sends: the same for all, as far as a receiver speaks its language."""
    if arm.startswith("raw TCP"):
        return SENDERS["raw"]
    if arm.endswith(", TLS"):
        return SENDERS[f"{plan.sender}, TLS"]
    return SENDERS[plan.sender]


def _runs(start: Start, send: Send, studies: Studies) -> Callable[[Path], Sample]:
    def run(folder: Path) -> Sample:
        with start(folder) as receiver:
            program = receiver.program
            program.wait_until_idle()
            os.sync()
            before = program.usage()
            sent = send(studies, receiver.port, folder)
            after = program.usage()
            check_kept(receiver, studies)
            program.wait_until_idle()
            settled = program.usage()
        return {
            "per_s": studies.count / sent.seconds,
            "mb_per_s": studies.bytes / sent.seconds / 1e6,
            # The kernel counts in ticks: nobody uses less than one.
            "cpu_s": max(after.cpu_s - before.cpu_s, TICK_S),
            "cpu_settled_s": settled.cpu_s - before.cpu_s,
            "peak_mb": settled.peak_mib * 1.048576,
            "peak_sum_mb": settled.peak_sum_mib * 1.048576,
            "processes": after.processes,
            **_waits(sent.waits_ms),
        }

    return run


def _waits(waits_ms: tuple[float, ...]) -> dict[str, float]:
    if not waits_ms:
        return {}
    ordered = sorted(waits_ms)
    return {
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
    }


def _rows(measured: Measured) -> list[dict[str, object]]:
    first = next(iter(measured.samples))
    rows = []
    for arm, samples in measured.samples.items():
        row: dict[str, object] = {
            "receiver": arm,
            "per s": measured.summary(arm, "per_s"),
            "MB/s": measured.summary(arm, "mb_per_s"),
            "to first": measured.ratio(arm, first, "per_s"),
            "cpu s": measured.summary(arm, "cpu_s"),
            "cpu to first": measured.ratio(arm, first, "cpu_s"),
            "cpu s, all written": measured.summary(arm, "cpu_settled_s"),
            "peak MB": round(max(measured.values(arm, "peak_mb"))),
            "sum of peaks MB": round(max(measured.values(arm, "peak_sum_mb"))),
        }
        if "p50_ms" in samples[0]:
            row["p50 / p99 ms"] = " / ".join(
                f"{summarise(measured.values(arm, figure)).median:.2f}"
                for figure in ("p50_ms", "p99_ms")
            )
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
