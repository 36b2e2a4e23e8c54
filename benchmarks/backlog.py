"""What a study costs while ten thousand others wait.

Studies come in, settle and are queued until so many wait, with nobody reading. Then a
worker as it is shipped (Celery, a real broker, claims, reports, deliveries to a PACS
that is away) takes them one by one, with a trivial answer in place of the network and
no report file, so that what is left is index and queue. The node's publisher and sweep
run beside it. The first hundred are compared with the last hundred: of the way in,
with an empty queue against a full one; of the way out the other way round.

    python -m benchmarks.backlog [--studies 10000]
"""

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from benchmarks.harness import Report, add_output_options, running, summarise
from cli.supervision.broker import broker_command, find_server, prepare_directories
from core.database import deliveries, overview, studies
from core.database.checkpoint import Checkpoints
from core.database.engine import Database, open_database
from core.domain import (
    AlgorithmIdentity,
    ModelIdentity,
    NotAnalysed,
    NotAnalysedReason,
    reading_to_json,
)
from core.log import configure_logging
from core.queue import announce_job, make_celery
from core.settings import Priority, Settings, load_settings
from core.settings.loading import DATA_DIRECTORY_VARIABLE
from core.uids import derived_uid
from dicom_node.assembly import Assembler
from dicom_node.periodic import PeriodicThread
from dicom_node.publisher import Publisher
from dicom_node.sweep import Sweep

_BLOCK = 100
_INSTANCES_OF_STUDY = 2
_BATCH = 64
_WARM_UP = 20
"""Of the way out: the worker's first jobs, which import and compile."""
_DX = "1.2.840.10008.5.1.4.1.1.1.1"
_EXPLICIT = "1.2.840.10008.1.2.1"
_MODEL = ModelIdentity("trivial", "1.0", "b" * 64)
_SETTINGS = """
[log]
level = "warning"
[assembly]
quiet_time_s = 10
hard_cap_s = 1000
[[rules]]
name = "radiographs"
when = { Modality = "DX" }
[[destinations]]
name = "pacs"
"""


class OneFile:
    """A store in which every instance is the same radiograph."""

    def __init__(self, folder: Path) -> None:
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = _DX, "1.2.3"
        dataset.Modality = "DX"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(_EXPLICIT)
        self._path = folder / "radiograph.dcm"
        dataset.save_as(self._path, enforce_file_format=True)

    def path_of(self, _sha256: str) -> Path:
        """Return where it lies."""
        return self._path


class TrivialProcess:
    """Answers like a reading process, at once; notes when each report was asked for."""

    def __init__(self, settings: Settings) -> None:
        self._log = (settings.data_dir / "timeline").open("a", buffering=1)

    def start(self) -> int:
        """Return a process id."""
        return os.getpid()

    def kill(self) -> None:
        """There is nothing to end."""

    def request(
        self, operation: str, payload: Mapping[str, Any], **_limits: object
    ) -> dict[str, Any]:
        """Return the same answer to every study."""
        if operation == "warm up":
            return {"models": []}
        if operation == "read":
            return {"timings": {"inference": 0.0}, "reading": _READING}
        self._log.write(f"{time.monotonic()} {time.process_time()}\n")
        uid = derived_uid("report", payload["study_instance_uid"])
        digest = hashlib.sha256(uid.encode("ascii")).hexdigest()
        documents = [
            {
                "sop_class_uid": name,
                "sop_instance_uid": uid,
                "series_instance_uid": f"{uid[:60]}.1",
                "sha256": digest,
                "bytes": 5000,
            }
            for name in payload["sop_class_uids"]
        ]
        return {"documents": documents}


_READING = reading_to_json(
    NotAnalysed(
        AlgorithmIdentity("trivial", "1.0", "secondread", "a" * 64, "b" * 64),
        (),
        NotAnalysedReason.OUT_OF_SCOPE,
        "nothing was looked at",
    )
)


def work(folder: Path) -> int:
    """Be the worker."""
    os.environ[DATA_DIRECTORY_VARIABLE] = str(folder)
    from worker import tasks  # noqa: PLC0415 - reads its settings from the environment
    from worker.job_runner import JobRunner  # noqa: PLC0415
    from worker.main import run_worker  # noqa: PLC0415

    def trivial(settings: Settings) -> JobRunner:
        return JobRunner(settings, TrivialProcess)  # type: ignore[arg-type]

    vars(tasks)["JobRunner"] = trivial
    return run_worker(tasks.settings)


@dataclass
class Node:
    """The parts of a node that a queued study passes, in this process."""

    settings: Settings
    database: Database
    files: OneFile
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.assembler = Assembler(
            self.settings,
            self.database,
            self.files,
            lambda: [_MODEL],
            clock=lambda: self.now,
        )

    def receive(self, first: int, count: int) -> None:
        """Record, settle and queue some studies."""
        received = [
            _instance(study, number)
            for study in range(first, first + count)
            for number in range(_INSTANCES_OF_STUDY)
        ]
        for start in range(0, len(received), _BATCH):
            batch = received[start : start + _BATCH]
            with self.database.write() as connection:
                studies.record_instances(connection, batch)
            for one in batch:
                self.assembler.note_arrival(one.study_instance_uid)
        self.assembler.tick()
        self.now += self.settings.assembly.quiet_time_s
        self.assembler.tick()


def _instance(study: int, number: int) -> studies.ReceivedInstance:
    uid = derived_uid("study", str(study))
    instance_uid = derived_uid("instance", str(study), str(number))
    return studies.ReceivedInstance(
        study_instance_uid=uid,
        series_instance_uid=derived_uid("series", str(study)),
        sop_instance_uid=instance_uid,
        sop_class_uid=_DX,
        transfer_syntax_uid=_EXPLICIT,
        sha256=hashlib.sha256(instance_uid.encode("ascii")).hexdigest(),
        bytes=15_700_000,
        modality="DX",
        is_image=True,
        own_result=False,
        order_priority=Priority.ROUTINE,
        calling_ae_title="DX1",
        called_ae_title="SECONDREAD",
        peer_address="10.0.0.1",
        received_at=time.time(),
    )


@dataclass(frozen=True)
class Cost:
    """Of one study or one call."""

    wall_ms: float
    cpu_ms: float


def timed(work_to_do: Callable[[], object], times: int = 1) -> Cost:
    """Measure a call; with `times`, the cost of one of so many parts of it."""
    cpu, wall = time.process_time(), time.perf_counter()
    work_to_do()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(1e3 * wall / times, 1e3 * cpu / times)


def queries(node: Node) -> dict[str, Cost]:
    """Measure what is asked again and again while studies wait."""

    def read(query: Callable[[Any], object]) -> Callable[[], None]:
        def run() -> None:
            with node.database.read() as connection:
                query(connection)

        return run

    now = time.time()
    asked: dict[str, Callable[[], object]] = {
        "sweep": Sweep(node.settings, node.database).sweep,
        "assembly takes up": node.assembler.resume,
        "secondread studies": read(overview.study_lines),
        "secondread jobs": read(overview.job_lines),
        "deliveries due": read(
            lambda connection: deliveries.due(connection, now=now, destination="pacs")
        ),
        "counts for health": read(overview.backlog),
    }
    for query in asked.values():
        query()
    return {
        name: min((timed(query) for _ in range(5)), key=lambda cost: cost.wall_ms)
        for name, query in asked.items()
    }


@contextmanager
def broker(settings: Settings, folder: Path) -> Iterator[None]:
    """Run the embedded broker."""
    server = find_server()
    prepare_directories(settings, server)
    command = broker_command(settings, server).arguments
    with running(command, log=folder / "broker.log", environment=os.environ):
        deadline = time.monotonic() + 10
        while not settings.broker_socket.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("the broker did not start; see broker.log")
            time.sleep(0.05)
        yield


def come_in(node: Node, count: int) -> tuple[list[Cost], dict[str, list[Cost]]]:
    """Queue so many studies; return the cost of one in each block, and of queries."""
    blocks: list[Cost] = []
    asked: dict[str, list[Cost]] = {}
    for first in range(0, count, _BLOCK):

        def receive(first: int = first) -> None:
            node.receive(first, _BLOCK)

        blocks.append(timed(receive, _BLOCK))
        if first + _BLOCK in (_BLOCK, count):
            for name, cost in queries(node).items():
                asked.setdefault(name, []).append(cost)
        _progress(f"{first + _BLOCK} of {count} studies queued")
    return blocks, asked


def go_out(node: Node, folder: Path, count: int) -> list[Cost]:
    """Have all of them read; return what each cost node and worker together."""
    app = make_celery(node.settings)
    node_cpu: list[float] = []

    def announce(job_id: int, priority: Priority) -> None:
        node_cpu.append(time.process_time())
        announce_job(app, job_id, priority)

    crash: list[str] = []
    threads = [
        PeriodicThread(name, step, on_crash=lambda name, error: crash.append(name))
        for name, step in (
            ("publisher", Publisher(node.database, announce).publish_due),
            ("sweep", Sweep(node.settings, node.database).step),
            ("checkpoints", Checkpoints(node.database).step),
        )
    ]
    timeline = folder / "timeline"
    command = [sys.executable, "-m", "benchmarks.backlog", "--worker", str(folder)]
    with running(command, log=folder / "worker.log", environment=os.environ) as worker:
        for thread in threads:
            thread.start()
        lines: list[str] = []
        while len(lines) < count:
            time.sleep(1)
            if crash or worker.process.poll() is not None:
                raise RuntimeError(f"the worker or {crash} ended; see worker.log")
            lines = timeline.read_text().splitlines() if timeline.exists() else []
            _progress(f"{len(lines)} of {count} studies reported")
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(10)
    ends = [tuple(map(float, line.split())) for line in lines[:count]]
    return [
        Cost(
            1e3 * (ends[at][0] - ends[at - 1][0]),
            1e3 * (ends[at][1] - ends[at - 1][1] + node_cpu[at] - node_cpu[at - 1]),
        )
        for at in range(1, min(len(ends), len(node_cpu)))
    ]


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _median(costs: list[Cost], figure: str) -> float:
    return float(statistics.median(getattr(cost, figure) for cost in costs))


def _mean(costs: list[Cost], figure: str) -> float:
    return statistics.fmean(getattr(cost, figure) for cost in costs)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backlog")
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    add_output_options(parser)
    given = parser.parse_args()
    if given.worker:
        sys.exit(work(given.worker))
    count = max(2, given.studies // _BLOCK) * _BLOCK
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "secondread.toml").write_text(_SETTINGS)
        os.environ[DATA_DIRECTORY_VARIABLE] = str(folder)
        settings = load_settings()
        configure_logging(settings.log, "node")
        report = Report("backlog", folder)
        with (
            broker(settings, folder),
            closing(open_database(settings)) as database,
        ):
            node = Node(settings, database, OneFile(folder))
            node.receive(count, 1)  # imports what a first study imports
            ways_in, asked = come_in(node, count)
            ways_out = go_out(node, folder, count)
        _tell(report, ways_in, ways_out, asked, count)
        report.finish(given)


def _tell(
    report: Report,
    ways_in: list[Cost],
    ways_out: list[Cost],
    asked: dict[str, list[Cost]],
    count: int,
) -> None:
    first_out, last_out = ways_out[_WARM_UP : _WARM_UP + _BLOCK], ways_out[-_BLOCK:]
    rows = []
    totals: dict[str, list[float]] = {}
    for figure in ("wall_ms", "cpu_ms"):
        pairs = {
            "received to queued": (
                getattr(ways_in[0], figure), getattr(ways_in[-1], figure)
            ),
            "claimed to reported, mean": (
                _mean(first_out, figure), _mean(last_out, figure)
            ),
            "claimed to reported, median": (
                _median(first_out, figure), _median(last_out, figure)
            ),
        }  # fmt: skip
        # The median: one checkpoint within a hundred studies says nothing of the queue.
        whole = [
            pairs["received to queued"][at] + pairs["claimed to reported, median"][at]
            for at in (0, 1)
        ]
        totals[figure] = whole
        for name, (first, last) in [*pairs.items(), ("whole way", tuple(whole))]:
            rows.append(
                {
                    "cost of a study": f"{name}, {figure.replace('_', ' ')}",
                    f"first {_BLOCK}": first,
                    f"last {_BLOCK}": last,
                    "last / first": last / first,
                }
            )
    report.table(f"{count} queued studies", rows)
    report.table(
        f"what is asked while studies wait, ms (with {_BLOCK} and {count} waiting)",
        [
            {
                "query": name,
                f"{_BLOCK} waiting": costs[0].wall_ms,
                f"{count} waiting": costs[-1].wall_ms,
            }
            for name, costs in asked.items()
        ],
    )
    first, last = totals["wall_ms"]
    report.bar("backlog", summarise([last / first]))
    report.keep("in_blocks_wall_ms", [cost.wall_ms for cost in ways_in])
    report.keep("out_wall_ms", [round(cost.wall_ms, 3) for cost in ways_out])


if __name__ == "__main__":
    main()
