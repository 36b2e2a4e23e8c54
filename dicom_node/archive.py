"""A small archive: a storage SCP that keeps what it gets in a folder.

It is the "PACS" of `secondread demo` and of the tests, which may also ask it to
misbehave. It promises no durability and knows no index.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_node.contexts import supported_contexts
from dicom_node.file_meta import FileMeta, encode_file_meta
from dicom_node.guards import GuardedServer, quiet_pynetdicom
from dicom_node.ports import listen_on
from dicom_node.statuses import PROCESSING_FAILURE, SUCCESS

__all__ = ["Archive", "Arrival", "Behaviour"]

_LONGEST_HANG_S = 600.0


class Behaviour(StrEnum):
    """What the archive does with an instance."""

    STORE = "store"
    """Keep it and answer `Archive.status`; keep it only if that is no failure."""
    ABORT = "abort"
    """Abort the association instead of an answer."""
    CLOSE_AFTER_STORING = "close after storing"
    """Keep it and close the connection before the answer."""
    HANG = "hang"
    """Never answer."""


@dataclass(frozen=True)
class Arrival:
    """One instance that was kept."""

    sop_class_uid: str
    sop_instance_uid: str
    sha256: str
    """Of the data set as it came."""
    at: float
    """Seconds since 1970, UTC."""
    path: Path


class Archive:
    """A storage SCP on a folder, for as long as its `with` block lasts.

    Parameters
    ----------
    directory
        Where the files go, named by their data set's SHA-256.
    ae_title
        Accepts this called AE title only.
    port
        0 takes a free one; `port` tells which.
    host
        Address to listen on.
    refused_sop_classes
        Classes it does not offer, for peers that must fall back.
    """

    def __init__(
        self,
        directory: Path,
        ae_title: str,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        refused_sop_classes: frozenset[str] = frozenset(),
    ) -> None:
        quiet_pynetdicom()
        self.directory = directory
        self.ae_title = ae_title
        self.port = port
        self.host = host
        self.behaviour = Behaviour.STORE
        self.status = SUCCESS
        self._refused_sop_classes = refused_sop_classes
        self._arrivals: list[Arrival] = []
        self._arrived = threading.Condition()
        self._ended = threading.Event()
        self._server: GuardedServer | None = None

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """What was kept so far, the same instance each time it came."""
        with self._arrived:
            return tuple(self._arrivals)

    def start(self) -> int:
        """Listen; return the port.

        Raises
        ------
        StoreUnavailable
            If the port cannot be bound.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._ended.clear()
        entity = AE(ae_title=self.ae_title)
        entity.require_called_aet = True
        entity.maximum_associations = 100
        entity.maximum_pdu_size = 131072
        offered = [
            context
            for context in supported_contexts(())
            if context.abstract_syntax not in self._refused_sop_classes
        ]
        (listening,) = listen_on(self.host, self.port, 1)
        server: Any = entity.make_server(
            (self.host, self.port),
            ae_title=self.ae_title,
            contexts=offered,
            evt_handlers=[(evt.EVT_C_STORE, self._store)],
            server_class=partial(GuardedServer, listening=listening),  # type: ignore[arg-type]
        )
        self._server = server
        self.port = int(server.server_address[1])
        server.serve_in_background()
        return self.port

    def stop(self) -> None:
        """Abort what is open and close the port."""
        self._ended.set()
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        for association in server.active_associations:
            association.abort()
        for association in server.active_associations:
            association.join(2.0)

    def __enter__(self) -> "Archive":
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Wait until `count` instances have arrived; False if they did not in time."""
        with self._arrived:
            return self._arrived.wait_for(
                lambda: len(self._arrivals) >= count, timeout_s
            )

    @contextmanager
    def behaving(
        self, behaviour: Behaviour, *, status: int = SUCCESS
    ) -> Iterator[None]:
        """Misbehave for the length of a `with` block."""
        before = self.behaviour, self.status
        self.behaviour, self.status = behaviour, status
        try:
            yield
        finally:
            self.behaviour, self.status = before

    def _store(self, event: evt.Event) -> Dataset:
        response = Dataset()
        response.Status = self.status
        if self.behaviour is Behaviour.ABORT:
            event.assoc.abort()
        elif self.behaviour is Behaviour.HANG:
            self._ended.wait(_LONGEST_HANG_S)
            event.assoc.abort()
            response.Status = PROCESSING_FAILURE
        elif self.behaviour is Behaviour.CLOSE_AFTER_STORING:
            self._keep(event)
            _close(event)
        elif _keeps(self.status):
            self._keep(event)
        return response

    def _keep(self, event: evt.Event) -> None:
        request: Any = event.request
        requestor: Any = event.assoc.requestor
        data = request.DataSet.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        meta = FileMeta(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_ae_title=requestor.primitive.calling_ae_title.strip(),
            called_ae_title=self.ae_title,
            peer_address=requestor.address,
        )
        path = self.directory / f"{sha256}.dcm"
        part = path.with_suffix(f".{threading.get_ident()}.part")
        part.write_bytes(encode_file_meta(meta) + data)
        part.rename(path)
        arrival = Arrival(
            sop_class_uid=meta.sop_class_uid,
            sop_instance_uid=meta.sop_instance_uid,
            sha256=sha256,
            at=time.time(),
            path=path,
        )
        with self._arrived:
            self._arrivals.append(arrival)
            self._arrived.notify_all()


def _keeps(status: int) -> bool:
    # Success and the warnings, PS3.4 Table B.2-1.
    return status == SUCCESS or status >> 12 == 0xB


def _close(event: evt.Event) -> None:
    transport: Any = event.assoc.dul.socket
    with suppress(Exception):
        transport.socket.shutdown(2)
