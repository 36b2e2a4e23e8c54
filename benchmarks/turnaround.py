"""`python -m benchmarks.turnaround`: from the last C-STORE-RSP to the SR at the PACS.

Broker, node and worker run as in service; radiographs of the built-in phantom go in,
one after the other (the system is warm and idle each time), and a storage peer of our
own notes when each report has come. The quiet time is subtracted: it is a setting, not
work. Where the rest goes is read from the times that the index keeps.
"""

import argparse
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pynetdicom import AE
from sqlalchemy import select

from benchmarks.harness import Report, Summary, add_output_options, summarise
from cli.demonstration.installation import Installation, running_installation
from cli.demonstration.place import PACS_AE_TITLE, Place, open_place
from core.database.engine import Database, open_database
from core.database.schema import delivery, job, report, study
from dicom_node.archive import Archive, Arrival
from worker.phantom import PhantomIdentity, chest_radiograph, to_dicom

LONGEST_WAIT_S = 120.0
READY = "models_ready"


@dataclass(frozen=True)
class Passage:
    """One radiograph's way."""

    beyond_quiet_s: float
    stages: Mapping[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turnaround")
    parser.add_argument("--radiographs", type=int, default=50)
    parser.add_argument("--side", type=int, default=2048, help="rows and columns")
    add_output_options(parser)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="secondread-turnaround-"))
    figures = Report("turnaround", folder)
    try:
        with open_place(folder / "data", keep=True) as place:
            ready_s, passages = _measure(place, given.radiographs, given.side)
        _tell(figures, passages, ready_s)
        figures.finish(given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(place: Place, count: int, side: int) -> tuple[float, list[Passage]]:
    datasets = []
    image = chest_radiograph(rows=side, columns=side)
    for _ in range(count + 1):
        identity = PhantomIdentity(study_seed=uuid.uuid4().hex)
        datasets.append(to_dicom(image, identity=identity))
    started = time.monotonic()
    with (
        closing(open_database(place.settings)) as database,
        running_installation(place) as installation,
        Archive(place.pacs, PACS_AE_TITLE, place.pacs_port) as pacs,
    ):
        installation.wait_until_node_accepts()
        _wait_for_worker(place, installation)
        ready_s = time.monotonic() - started
        passages = []
        for number, dataset in enumerate(datasets):
            passage = _send_and_wait(place, database, pacs, dataset, installation)
            if number:  # the first warms caches up
                passages.append(passage)
        return ready_s, passages


def _wait_for_worker(place: Place, installation: Installation) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_S
    while READY not in place.log.read_text(encoding="utf-8", errors="replace"):
        installation.check()
        if time.monotonic() > deadline:
            raise TimeoutError("the worker loads no models")
        time.sleep(0.05)


def _send_and_wait(
    place: Place,
    database: Database,
    pacs: Archive,
    dataset: Dataset,
    installation: Installation,
) -> Passage:
    before = len(pacs.arrivals)
    answered = _store(place, dataset)
    deadline = time.monotonic() + LONGEST_WAIT_S
    while len(pacs.arrivals) == before:
        installation.check()
        if time.monotonic() > deadline:
            raise TimeoutError("no report came to the PACS")
        time.sleep(0.002)
    arrival = pacs.arrivals[-1]
    quiet_s = place.settings.assembly.quiet_time_s
    stages = _stages(
        database, str(dataset.StudyInstanceUID), answered, arrival, quiet_s
    )
    # Whatever is still written down behind the report must not meet the next one.
    time.sleep(0.3)
    return Passage(arrival.at - answered - quiet_s, stages)


def _store(place: Place, dataset: Dataset) -> float:
    entity = AE("BENCHMARK")
    entity.add_requested_context(
        dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID
    )
    node = place.settings.node
    association = entity.associate(
        "127.0.0.1", node.port, ae_title=node.ae_title, max_pdu=131072
    )
    if not association.is_established:
        raise RuntimeError("the node does not accept")
    try:
        status = association.send_c_store(dataset)
        answered = time.time()
    finally:
        association.release()
    if status.Status != 0:
        raise RuntimeError(f"the node answered {status.Status:04X}")
    return answered


def _stages(
    database: Database, uid: str, answered: float, arrival: Arrival, quiet_s: float
) -> dict[str, float]:
    """Read the times of one study from the index; each stage follows the one before."""
    query = (
        select(study.c.settled_at, *job.c)
        .join(job, job.c.study_id == study.c.id)
        .join(report, report.c.job_id == job.c.id)
        .join(delivery, delivery.c.report_id == report.c.id)
        .where(study.c.study_instance_uid == uid)
    )
    with database.read() as connection:
        row = connection.execute(query).mappings().one()
    stages = {
        "settle late": row["settled_at"] - answered - quiet_s,
        "announce, wake worker, claim": row["started_at"] - row["created_at"],
        "read and commit": row["inferred_at"] - row["started_at"],
        "report and commit": row["finished_at"] - row["inferred_at"],
        "wake delivery, send": arrival.at - row["finished_at"],
    }
    for name, seconds in (row["timings"] or {}).items():
        stages[f"in the worker: {name}"] = seconds
    return stages


def _tell(figures: Report, passages: list[Passage], ready_s: float) -> None:
    beyond = [one.beyond_quiet_s for one in passages]
    rows = [_row("beyond the quiet time", beyond)]
    names = dict.fromkeys(name for one in passages for name in one.stages)
    rows += [
        _row(name, [one.stages[name] for one in passages if name in one.stages])
        for name in names
    ]
    figures.table(f"Turnaround of {len(passages)} radiographs, ms", rows)
    figures.note(f"worker ready {ready_s:.1f} s after the cold start of all parts")
    figures.keep("beyond the quiet time, s", beyond)
    for key, quantile in (("turnaround-p50", 50), ("turnaround-p99", 99)):
        value = float(np.percentile(beyond, quantile))
        figures.bar(key, Summary(value, min(beyond), max(beyond), len(beyond)))
    figures.bar("start-worker", summarise([ready_s]))


def _row(name: str, seconds: list[float]) -> dict[str, object]:
    milliseconds = np.array(seconds) * 1000
    return {
        "stage": name,
        "p50": float(np.percentile(milliseconds, 50)),
        "p99": float(np.percentile(milliseconds, 99)),
        "largest": float(milliseconds.max()),
    }


if __name__ == "__main__":
    main()
