"""What a study costs while ten thousand others wait.

Studies come in, settle and are queued until so many wait, with nobody reading. Then a
worker as it is shipped (Celery, a real broker, claims, reports, deliveries to a PACS
that is away) takes them one by one, with a trivial answer in place of the network and
no report file, so that what is left is index and queue. The node's publisher and sweep
run beside it. The first hundred are compared with the last hundred: of the way in,
with an empty queue against a full one; of the way out the other way round.

All along, single studies pass the same calls in a second index that holds no others:
what a study costs is told in units of these, so that a machine that is busier at the
end than at the start does not look like a queue that grows slow.

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
from itertools import pairwise
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
from core.received import ReceivedInstance
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
_CONTROL_PAUSE_S = 0.15
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


def _instance(study: int, number: int) -> ReceivedInstance:
    uid = derived_uid("study", str(study))
    instance_uid = derived_uid("instance", str(study), str(number))
    return ReceivedInstance(
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


class Control:
    """An index in which one study at a time goes the whole way, and none waits."""

    def __init__(self, folder: Path) -> None:
        from worker.job_runner import JobRunner  # noqa: PLC0415 - takes long to import

        folder.mkdir()
        (folder / "secondread.toml").write_text(_SETTINGS)
        self._settings = load_settings(folder)
        self._database = open_database(self._settings)
        self._node = Node(self._settings, self._database, OneFile(folder))
        self._job_ids: list[int] = []
        self._publisher = Publisher(
            self._database, lambda job_id, _priority: self._job_ids.append(job_id)
        )
        self._runner = JobRunner(self._settings, TrivialProcess)  # type: ignore[arg-type]
        self._studies = 0
        self._costs: list[tuple[float, Cost]] = []
        for _ in range(_WARM_UP):
            self.step()
        self._costs.clear()

    def step(self) -> float:
        """Let one study go the whole way; return the seconds until the next one."""

        def go() -> None:
            self._node.receive(self._studies, 1)
            self._publisher.publish_due()
            self._runner.run(self._job_ids.pop())

        wall, cpu = time.perf_counter(), time.thread_time()
        go()
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
        self._studies += 1
        self._costs.append((time.monotonic(), Cost(1e3 * wall, 1e3 * cpu)))
        return _CONTROL_PAUSE_S

    def cost(self, begin: float, end: float) -> Cost:
        """Return the median cost of a study in some time of the monotonic clock."""
        margin = 2 * _CONTROL_PAUSE_S
        costs = [c for at, c in self._costs if begin - margin <= at <= end + margin]
        if not costs:
            raise RuntimeError("no control study passed in this time")
        return Cost(_median(costs, "wall_ms"), _median(costs, "cpu_ms"))

    def close(self) -> None:
        """Close its index."""
        self._database.close()


@dataclass(frozen=True)
class Passage:
    """What some studies cost one by one, and a control study at the same time."""

    cost: Cost
    control: Cost

    def relative(self, figure: str) -> float:
        """Return a figure in units of the control study."""
        return float(getattr(self.cost, figure) / getattr(self.control, figure))


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


def come_in(
    node: Node, control: Control, count: int
) -> tuple[list[Passage], dict[str, list[Cost]]]:
    """Queue so many studies; return the cost of one in each block, and of queries."""
    blocks: list[Passage] = []
    asked: dict[str, list[Cost]] = {}
    for first in range(0, count, _BLOCK):

        def receive(first: int = first) -> None:
            node.receive(first, _BLOCK)

        began = time.monotonic()
        control.step()
        cost = timed(receive, _BLOCK)
        control.step()
        blocks.append(Passage(cost, control.cost(began, time.monotonic())))
        if first + _BLOCK in (_BLOCK, count):
            for name, query_cost in queries(node).items():
                asked.setdefault(name, []).append(query_cost)
        _progress(f"{first + _BLOCK} of {count} studies queued")
    return blocks, asked


def go_out(node: Node, control: Control, folder: Path, count: int) -> list[Passage]:
    """Have all read; return what one of each hundred cost node and worker together."""
    app = make_celery(node.settings)

    def announce(job_id: int, priority: Priority) -> None:
        announce_job(app, job_id, priority)

    crash: list[str] = []
    threads = [
        PeriodicThread(name, step, on_crash=lambda name, error: crash.append(name))
        for name, step in (
            ("publisher", Publisher(node.database, announce).publish_due),
            ("sweep", Sweep(node.settings, node.database).step),
            ("checkpoints", Checkpoints(node.database).step),
            ("control", control.step),
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
        _passage(ends[start : start + _BLOCK + 1], control)
        for start in range(_WARM_UP, len(ends) - _BLOCK, _BLOCK)
    ]


def _passage(ends: list[tuple[float, ...]], control: Control) -> Passage:
    """Join what the worker noted at the end of each job with the control studies."""
    costs = [
        Cost(1e3 * (after[0] - before[0]), 1e3 * (after[1] - before[1]))
        for before, after in pairwise(ends)
    ]
    # The median: one checkpoint among a hundred studies says nothing of the queue.
    median = Cost(_median(costs, "wall_ms"), _median(costs, "cpu_ms"))
    return Passage(median, control.cost(ends[0][0], ends[-1][0]))


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _median(costs: list[Cost], figure: str) -> float:
    return float(statistics.median(getattr(cost, figure) for cost in costs))


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
            control = Control(folder / "control")
            node = Node(settings, database, OneFile(folder))
            ways_in, asked = come_in(node, control, count)
            ways_out = go_out(node, control, folder, count)
            control.close()
        _tell(report, ways_in, ways_out, asked, count)
        report.finish(given)


def _tell(
    report: Report,
    ways_in: list[Passage],
    ways_out: list[Passage],
    asked: dict[str, list[Cost]],
    count: int,
) -> None:
    ways = {"received to queued": ways_in, "claimed to reported": ways_out}
    rows = []
    for figure in ("wall_ms", "cpu_ms"):
        for name, passages in ways.items():
            first, last = passages[0], passages[-1]
            rows.append(
                {
                    "cost of a study": f"{name}, {figure.replace('_', ' ')}",
                    f"first {_BLOCK}": getattr(first.cost, figure),
                    f"last {_BLOCK}": getattr(last.cost, figure),
                    "control study then": getattr(first.control, figure),
                    "control study at the end": getattr(last.control, figure),
                    "last / first": _ratio(last.cost, first.cost, figure),
                    "the same in control studies": last.relative(figure)
                    / first.relative(figure),
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
    whole = [
        sum(way[at].relative("wall_ms") for way in ways.values()) for at in (0, -1)
    ]
    report.bar("backlog", summarise([whole[1] / whole[0]]))
    for name, passages in ways.items():
        report.keep(
            name,
            [
                {"wall_ms": way.cost.wall_ms, "control_wall_ms": way.control.wall_ms,
                 "cpu_ms": way.cost.cpu_ms, "control_cpu_ms": way.control.cpu_ms}
                for way in passages
            ],
        )  # fmt: skip


def _ratio(one: Cost, other: Cost, figure: str) -> float:
    return float(getattr(one, figure) / getattr(other, figure))


if __name__ == "__main__":
    main()
