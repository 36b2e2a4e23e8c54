"""A receiving node without a network: inbox, index and everything between."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import select

from core.database.engine import Database, open_database
from core.database.schema import conflict, instance
from core.settings import DatabaseSettings, NodeSettings, Settings, StoreSettings
from dicom_node.index_look_up import look_up_with
from dicom_node.index_writer import IndexWriter
from dicom_node.instance_store import InstanceStore
from dicom_node.reception import make_reception
from dicom_node.statuses import StorageAnswer
from tests.data_sets import Sample

Order = Literal["log", "file"]


def settings_for(data_dir: Path, *, order: Order = "log", **node: object) -> Settings:
    """Settings of a node that a test may starve and hurry."""
    return Settings(
        data_dir=data_dir,
        # A test's process has threads, so it forks nothing unless it asks for it.
        node=NodeSettings(**{"port": 0, "listeners": 0, **node}),  # type: ignore[arg-type]
        store=StoreSettings(
            low_water_bytes=0,
            receive_order=order,
            log_bytes=64 * 2**20,
            index_delay_s=0.05,
        ),
        database=DatabaseSettings(busy_timeout_s=0.2),
    )


class Receiving:
    """The parts of a receiving node, joined."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database: Database = open_database(settings)
        self.store = InstanceStore(settings.data_dir, durable=True)
        self.reception = make_reception(settings)
        self.inbox = self.reception.inbox
        self.sources = self.reception.sources()
        self.indexed: list[str] = []
        self.writer = IndexWriter(
            database=self.database,
            store=self.store,
            sources=self.sources,
            known=self.reception.known,
            doorbell=self.reception.doorbell,
            on_indexed=self.indexed.append,
            delay_s=settings.store.index_delay_s,
        )
        self.receiver = self.reception.receiver(look_up_with(self.database))

    def start(self) -> None:
        """Recover and write the index from now on."""
        self.recover()
        self.writer.start()

    def recover(self) -> None:
        """Do what a node does before anybody may send."""
        self.writer.recover()
        self.reception.known.uids.load(self.database)

    def receive(self, sample: Sample, data: bytes | None = None) -> StorageAnswer:
        """Send an instance in two fragments."""
        sink = self.receiver.begin(sample.meta)
        content = sample.data_set if data is None else data
        sink.write(content[:10])
        sink.write(memoryview(content)[10:])
        return sink.commit()

    def rows(self) -> dict[str, str]:
        """SOP Instance UID to SHA-256 of every row."""
        with self.database.read() as connection:
            return {
                row.sop_instance_uid: row.sha256
                for row in connection.execute(select(instance))
            }

    def own_results(self) -> set[str]:
        """SOP Instance UIDs that count as results of ours."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(instance.c.sop_instance_uid).where(instance.c.own_result)
            )
            return set(rows.scalars())

    def conflicts(self) -> set[tuple[str, str, str]]:
        """UID, kept and refused SHA-256 of every conflict."""
        with self.database.read() as connection:
            return {
                (row.sop_instance_uid, row.kept_sha256, row.refused_sha256)
                for row in connection.execute(select(conflict))
            }

    def inbox_files(self) -> list[Path]:
        """What lies in the inbox."""
        return sorted(self.inbox.path.iterdir())

    def kept(self) -> list[str]:
        """SOP Instance UIDs of what is durable and was not asked for before."""
        return [
            arrival.instance.sop_instance_uid
            for source in self.sources
            for arrival in source.arrived(1000)
        ]

    def nothing_waits(self) -> bool:
        """Whether the index knows everything that is durable."""
        return not self.inbox_files() and not self.reception.known.claims


@contextmanager
def receiving(settings: Settings, *, writing: bool = True) -> Iterator[Receiving]:
    """Run a receiving node's parts."""
    parts = Receiving(settings)
    if writing:
        parts.start()
    else:
        parts.recover()
    try:
        yield parts
    finally:
        assert parts.writer.stop(10)
        parts.reception.close()
        parts.database.close()


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
