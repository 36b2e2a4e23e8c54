"""What a row of the index costs while it grows to millions of instances.

Rows are loaded up to each size in the order of their arrival, with random UIDs, into
the indexes as they are: the trees have the shape that so many receptions would have
left. Then batches of 64 go through the node's own call, in rounds that visit every
size, while the index's checkpoints run in their own thread as they do in the node.

    python -m benchmarks.index [--rows 10000,100000,1000000,5000000] [--plain-indexes]
"""

import argparse
import hashlib
import random
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from benchmarks.harness import Report, Summary, add_output_options, ratios, summarise
from core.database.checkpoint import Checkpoints
from core.database.engine import Database, open_database
from core.database.shelves import ROWS_OF_SHELF
from core.database.studies import Recorded, record_instances
from core.database.uid_filter import UidFilter
from core.received import ReceivedInstance
from core.settings import Priority, Settings
from core.uids import uid_hash

_BATCH = 64
_INSTANCES_OF_STUDY = 300
_SERIES_OF_STUDY = 3
_STUDIES_AT_ONCE = 8
_LOADED_AT_ONCE = 20_000
_CT = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_PLAIN_INDEXES = (
    "CREATE UNIQUE INDEX plain_uid ON instance (sop_instance_uid)",
    "CREATE INDEX plain_sha256 ON instance (sha256)",
)


class Arrivals:
    """Instances of CT studies, so many studies at once, with random UIDs."""

    def __init__(self, start: int, seed: int) -> None:
        self._number = start
        self._random = random.Random(seed)  # noqa: S311 - no secret

    def __iter__(self) -> Iterator[tuple[int, int, str, str]]:
        """Give number of the study, of the series, SOP Instance UID and SHA-256."""
        while True:
            group, place = divmod(self._number, _STUDIES_AT_ONCE * _INSTANCES_OF_STUDY)
            study = group * _STUDIES_AT_ONCE + place % _STUDIES_AT_ONCE
            series = place // _STUDIES_AT_ONCE % _SERIES_OF_STUDY
            uid = f"2.25.{self._random.getrandbits(128)}"
            yield study, series, uid, f"{self._random.getrandbits(256):064x}"
            self._number += 1


def study_uid(number: int) -> str:
    """Return a random-looking UID that a second call gives again."""
    digest = hashlib.blake2b(str(number).encode("ascii"), digest_size=16).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


def load(path: Path, start: int, end: int) -> None:
    """Add the rows `start` to `end`, as receptions would have added them."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-1500000")
        arrivals = iter(Arrivals(start, seed=start))
        for first in range(start, end, _LOADED_AT_ONCE):
            _load_part(connection, arrivals, first, min(first + _LOADED_AT_ONCE, end))
        shelves = [
            (shelf, min(ROWS_OF_SHELF, end - shelf * ROWS_OF_SHELF))
            for shelf in range(end // ROWS_OF_SHELF + 1)
        ]
        connection.executemany("INSERT OR REPLACE INTO shelf VALUES (?, ?)", shelves)
        connection.commit()


def _load_part(
    connection: sqlite3.Connection,
    arrivals: Iterator[tuple[int, int, str, str]],
    first: int,
    end: int,
) -> None:
    rows, parents = [], {}
    for number in range(first, end):
        study, series, uid, sha256 = next(arrivals)
        series_id = study * _SERIES_OF_STUDY + series + 1
        parents[series_id] = study
        rows.append(
            (study + 1, series_id, uid, number // ROWS_OF_SHELF, uid_hash(uid), _CT,
             _EXPLICIT, sha256, 524288, True, False, 1e9 + number)
        )  # fmt: skip
    connection.executemany(
        "INSERT OR IGNORE INTO study (id, study_instance_uid, state, order_priority, "
        "calling_ae_title, called_ae_title, peer_address, instance_count, "
        "first_instance_at, last_instance_at) "
        "VALUES (?, ?, 'settled', 'routine', 'CT', 'SECONDREAD', '::1', 300, ?, ?)",
        [(study + 1, study_uid(study), first, first) for study in parents.values()],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO series (id, study_id, series_instance_uid, modality) "
        "VALUES (?, ?, ?, 'CT')",
        [
            (key, study + 1, f"{study_uid(study)}.{key}")
            for key, study in parents.items()
        ],
    )
    connection.executemany(
        "INSERT INTO instance (study_id, series_id, sop_instance_uid, shelf, uid_hash, "
        "sop_class_uid, transfer_syntax_uid, sha256, bytes, is_image, own_result, "
        "received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    connection.commit()


@dataclass
class Index:
    """One index of a size, and what its batches cost."""

    rows: int
    database: Database
    uids: UidFilter
    arrivals: Iterator[tuple[int, int, str, str]]
    load_filter_s: float
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    kib: list[float] = field(default_factory=list)
    batch_ms: list[float] = field(default_factory=list)

    def measure(self, batches: int) -> None:
        """Record so many batches; one figure a row is their mean."""
        prepared = [self._batch() for _ in range(batches)]
        rows = batches * _BATCH
        with _Checkpointing(self.database):
            written, cpu, wall = _written(), time.process_time(), time.perf_counter()
            for batch in prepared:
                began = time.perf_counter()
                with self.database.write() as connection:
                    outcomes = record_instances(connection, batch, uids=self.uids)
                self.batch_ms.append(1e3 * (time.perf_counter() - began))
                if outcomes != [Recorded.NEW] * _BATCH:
                    raise RuntimeError("a new instance was not recorded as new")
            self.wall_ms.append(1e3 * (time.perf_counter() - wall) / rows)
        self.cpu_ms.append(1e3 * (time.process_time() - cpu) / rows)
        self.kib.append((_written() - written) / 1024 / rows)

    def _batch(self) -> list[ReceivedInstance]:
        batch = []
        for study, series, uid, sha256 in islice(self.arrivals, _BATCH):
            batch.append(
                ReceivedInstance(
                    study_instance_uid=study_uid(study),
                    series_instance_uid=f"{study_uid(study)}.{series}",
                    sop_instance_uid=uid,
                    sop_class_uid=_CT,
                    transfer_syntax_uid=_EXPLICIT,
                    sha256=sha256,
                    bytes=524288,
                    modality="CT",
                    is_image=True,
                    own_result=False,
                    order_priority=Priority.ROUTINE,
                    calling_ae_title="CT",
                    called_ae_title="SECONDREAD",
                    peer_address="10.0.0.1",
                    received_at=time.time(),
                )
            )
        return batch


class _Checkpointing:
    """The node's checkpoints, while something is measured; the last one counts too."""

    def __init__(self, database: Database) -> None:
        self._checkpoints = Checkpoints(database)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.wait(self._checkpoints.step()):
            pass

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._checkpoints.step()


def _written() -> int:
    """Return the bytes this process has handed to write(2)."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def build(folder: Path, sizes: list[int], *, plain_indexes: bool) -> list[Index]:
    """Make an index of each size, the larger ones from copies of the smaller."""
    indexes: list[Index] = []
    growing, have = folder / "growing", 0
    settings = Settings(data_dir=growing)
    with closing(open_database(settings)) as database:
        path = Path(str(database.engine.url.database))
        if plain_indexes:
            with database.write() as connection:
                for statement in _PLAIN_INDEXES:
                    connection.exec_driver_sql(statement)
    for size in sizes:
        began = time.perf_counter()
        load(path, have, size)
        have = size
        place = folder / str(size)
        shutil.copytree(growing, place)
        print(f"{size} rows loaded in {time.perf_counter() - began:.0f} s", flush=True)
        database = open_database(Settings(data_dir=place))
        began = time.perf_counter()
        uids = UidFilter()
        uids.load(database)
        # A new group of studies, so that none of those loaded is opened again.
        group = _STUDIES_AT_ONCE * _INSTANCES_OF_STUDY
        arrivals = iter(Arrivals((size // group + 1) * group, seed=-size))
        indexes.append(
            Index(size, database, uids, arrivals, time.perf_counter() - began)
        )
    return indexes


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index")
    parser.add_argument(
        "--rows",
        default="10000,100000,1000000,5000000",
        help="sizes, the least first; the bar is the last over the first",
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batches", type=int, default=100, help="in each round")
    parser.add_argument(
        "--plain-indexes",
        action="store_true",
        help="also keep one B-tree over all UIDs and one over all hashes of content, "
        "as the first release did, to see what they cost",
    )
    add_output_options(parser)
    given = parser.parse_args()
    sizes = [int(text) for text in given.rows.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        report = Report("index", Path(folder))
        indexes = build(Path(folder), sizes, plain_indexes=given.plain_indexes)
        for number in range(given.rounds + 1):
            for index in indexes[:: 1 if number % 2 else -1]:
                index.measure(given.batches)
        _tell(report, indexes)
        for index in indexes:
            index.database.close()
        report.finish(given)


def _tell(report: Report, indexes: list[Index]) -> None:
    first = indexes[0]
    report.table(
        f"a row in batches of {_BATCH}",
        [
            {
                "rows": f"{index.rows:,}",
                "ms": summarise(index.wall_ms[1:]),
                "CPU ms": summarise(index.cpu_ms[1:]),
                "KiB written": summarise(index.kib[1:]),
                "batch p50 ms": statistics.median(index.batch_ms),
                "batch p99 ms": _p99(index.batch_ms),
                "ms / first": _growth(index, first, "wall_ms"),
                "CPU / first": _growth(index, first, "cpu_ms"),
                "KiB / first": _growth(index, first, "kib"),
                "filter loaded in s": index.load_filter_s,
            }
            for index in indexes
        ],
        plot="ms",
    )
    report.bar("index-growth", _growth(indexes[-1], first, "wall_ms"))


def _growth(index: Index, first: Index, figure: str) -> Summary:
    return summarise(ratios(getattr(index, figure)[1:], getattr(first, figure)[1:]))


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


if __name__ == "__main__":
    main()
