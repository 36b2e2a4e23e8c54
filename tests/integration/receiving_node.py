"""A node with a port, and the raw bytes that a peer may throw at it."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy import select

from core.database.engine import open_database
from core.database.schema import instance
from core.log import configure_logging
from core.settings import Settings
from dicom_node.application_entity import ApplicationEntity
from dicom_node.instance_store import InstanceStore
from dicom_node.receiving import receiving
from tests.data_sets import Sample
from tests.receiving import Order, settings_for

AE_TITLE = "SECONDREAD"
REPOSITORY = Path(__file__).parents[2]


@dataclass
class Node:
    """A node in this process."""

    settings: Settings
    entity: ApplicationEntity
    store: InstanceStore
    port: int
    indexed: list[str] = field(default_factory=list)

    def rows(self) -> dict[str, str]:
        """SOP Instance UID to SHA-256 of every row."""
        database = open_database(self.settings, migrate=False)
        try:
            with database.read() as connection:
                return {
                    row.sop_instance_uid: row.sha256
                    for row in connection.execute(select(instance))
                }
        finally:
            database.close()


@contextmanager
def node_on(
    settings: Settings, on_indexed: Callable[[str], None] = lambda _uid: None
) -> Iterator[Node]:
    """Run a node on a free port."""
    store = InstanceStore(settings.data_dir, durable=True)
    indexed: list[str] = []

    def note(study_instance_uid: str) -> None:
        indexed.append(study_instance_uid)
        on_indexed(study_instance_uid)

    with receiving(settings) as held, closing(open_database(settings)) as database:
        entity = ApplicationEntity(settings, held, database, store, note)
        node = Node(settings, entity, store, entity.start(), indexed)
        try:
            yield node
        finally:
            entity.stop(0.2)
            # On a busy machine it may still be at its last batch.
            for thread in threading.enumerate():
                if thread.name == "index-writer":
                    thread.join(10)


@contextmanager
def associated(port: int, *samples: Sample, **titles: str) -> Iterator[Association]:
    """Associate for the classes of `samples`, and Verification."""
    entity = AE(ae_title=titles.get("calling", "SCANNER"))
    contexts = [build_context("1.2.840.10008.1.1")]
    for sample in samples:
        context = build_context(sample.sop_class_uid, sample.transfer_syntax_uid)
        if context not in contexts:
            contexts.append(context)
    association = entity.associate(
        "127.0.0.1", port, contexts=contexts, ae_title=titles.get("called", AE_TITLE)
    )
    transport = association.dul.socket.socket if association.dul.socket else None
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        entity.shutdown()
        if transport is not None:
            # pynetdicom forgets to, when the peer was first to go.
            transport.close()


def store_bytes(
    association: Association, sample: Sample, data: bytes | None = None
) -> Dataset:
    """C-STORE exactly these bytes and return the answer."""
    from io import BytesIO

    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sample.sop_class_uid
    request.AffectedSOPInstanceUID = sample.sop_instance_uid
    request.Priority = 2
    request.DataSet = BytesIO(sample.data_set if data is None else data)
    (context,) = (
        context
        for context in association.accepted_contexts
        if context.abstract_syntax == sample.sop_class_uid
        and context.transfer_syntax == [sample.transfer_syntax_uid]
    )
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    result = Dataset()
    if answer is not None:
        result.Status = answer.Status
        if answer.ErrorComment:
            result.ErrorComment = answer.ErrorComment
    return result


def rows_in(data_dir: Path) -> int:
    """Count the instances that the index of a running node knows."""
    database = open_database(settings_for(data_dir), migrate=False)
    try:
        with database.read() as connection:
            return len(connection.execute(select(instance.c.id)).all())
    finally:
        database.close()


def send_all(port: int, *samples: Sample) -> list[int]:
    """Send samples over one association and return their statuses."""
    with associated(port, *samples) as association:
        return [store_bytes(association, sample).Status for sample in samples]


# Raw PDUs, PS3.8 9.3.


def associate_rq(
    *,
    called: bytes = b"SECONDREAD      ",
    calling: bytes = b"SCANNER         ",
    application_context: bytes = b"1.2.840.10008.3.1.1.1",
    contexts: tuple[tuple[int, bytes], ...] = (
        (1, b"1.2.840.10008.1.1"),
        (3, b"1.2.840.10008.5.1.4.1.1.2"),
    ),
) -> bytes:
    """An A-ASSOCIATE-RQ."""

    def sub(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    items = sub(0x10, application_context)
    for number, abstract in contexts:
        items += sub(
            0x20,
            bytes((number, 0, 0, 0))
            + sub(0x30, abstract)
            + sub(0x40, b"1.2.840.10008.1.2.1"),
        )
    user = sub(0x51, struct.pack(">L", 16384)) + sub(0x52, b"1.2.3.4")
    items += sub(0x50, user)
    body = struct.pack(">HH", 1, 0) + called + calling + bytes(32) + items
    return pdu(0x01, body)


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """A PDU whose length may lie."""
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def pdv(context: int, header: int, content: bytes) -> bytes:
    """A presentation data value."""
    return struct.pack(">LBB", len(content) + 2, context, header) + content


def command(**values: bytes) -> bytes:
    """A command set; names are `e0100` for (0000,0100)."""
    return b"".join(
        struct.pack("<HHL", 0, int(name[1:], 16), len(value)) + value
        for name, value in values.items()
    )


def store_command(**changes: bytes | None) -> bytes:
    """A C-STORE-RQ's command set with some elements changed or left out."""
    values: dict[str, bytes | None] = {
        "e0002": b"1.2.840.10008.5.1.4.1.1.2\0",
        "e0100": b"\x01\x00",
        "e0110": b"\x07\x00",
        "e0700": b"\x00\x00",
        "e0800": b"\x00\x00",
        "e1000": b"1.2.3.4.5.6\0",
        **changes,
    }
    return command(**{k: v for k, v in values.items() if v is not None})


class RawPeer:
    """A socket and what comes back on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> "RawPeer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send; a connection that was closed meanwhile is no error."""
        with suppress(OSError):
            self.socket.sendall(data)

    def associate(self) -> None:
        """Associate in the ordinary way."""
        self.send(associate_rq())
        assert self.receive()[:1] == b"\x02"

    def receive(self) -> bytes:
        """Return the next PDU; empty when the connection is closed."""
        try:
            head = self._exactly(6)
            return head + self._exactly(int.from_bytes(head[2:], "big"))
        except (EOFError, OSError):
            return b""

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data


class NodeProcess:
    """A node in a process of its own, which a test may kill."""

    def __init__(
        self,
        data_dir: Path,
        *,
        order: Order = "log",
        listeners: int = 0,
        faults: str = "",
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(data_dir), order, str(listeners)],
            cwd=REPOSITORY,
            env={**os.environ, "FAULTS": faults, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline() or "0")

    def __enter__(self) -> "NodeProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for its end."""
        code = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def _main() -> None:
    folder, order, listeners = sys.argv[1:]
    settings = settings_for(
        Path(folder),
        order=order,  # type: ignore[arg-type]
        listeners=int(listeners),
    )
    configure_logging(settings.log, "node")  # to standard error
    with receiving(settings) as held:
        database = open_database(settings)
        store = InstanceStore(settings.data_dir, durable=True)
        entity = ApplicationEntity(settings, held, database, store, lambda _uid: None)
        sys.stdout.write(f"{entity.start()}\n")
        sys.stdout.flush()
        while entity.alive():
            time.sleep(0.1)


if __name__ == "__main__":
    _main()
