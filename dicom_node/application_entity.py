"""The receiving side of a node: listeners in front, the index behind them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from core.database.engine import Database
from core.database.shelves import shelves_from
from core.errors import StoreUnavailable
from core.log import get_log
from core.settings import Settings
from dicom_node.association_log import ReceiveCounts
from dicom_node.index_look_up import look_up_with
from dicom_node.index_writer import IndexWriter
from dicom_node.instance_store import InstanceStore
from dicom_node.listener import Listener
from dicom_node.receive import Receiver
from dicom_node.receiving import Receiving
from dicom_node.reconcile import reconcile

__all__ = ["ApplicationEntity", "NodeStatus"]

# So many UIDs are read before anybody may send; more are read beside receiving.
_LOAD_AT_ONCE = 200_000
_LOAD_AGAIN_S = 5.0


@dataclass(frozen=True)
class NodeStatus:
    """The receiving side at a glance."""

    port: int
    open_associations: int
    waiting_for_index: int
    enough_space: bool
    counts: ReceiveCounts


class ApplicationEntity:
    """Verification and Storage SCP of one data directory.

    Parameters
    ----------
    settings
        The whole tree.
    receiving
        Held by this node.
    database
        The index, open and migrated.
    store
        Of the same data directory.
    on_indexed
        Called with a Study Instance UID after a new instance of it was committed.
    """

    def __init__(
        self,
        settings: Settings,
        receiving: Receiving,
        database: Database,
        store: InstanceStore,
        on_indexed: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._receiving = receiving
        self._database = database
        self._store = store
        reception = receiving.reception
        look_up = look_up_with(database)
        self._known = reception.known
        self._writer = IndexWriter(
            database=database,
            store=store,
            sources=reception.sources(),
            known=reception.known,
            doorbell=reception.doorbell,
            on_indexed=on_indexed,
            delay_s=settings.store.index_delay_s,
        )
        self._stopping = threading.Event()
        self._loading: threading.Thread | None = None
        self._listener: Listener | None = None
        if receiving.processes is not None:
            self.log = receiving.processes.log
            # For what speaks other protocols in this process, e.g. STOW-RS.
            self.receiver: Receiver = reception.receiver(look_up, reception.own)
        else:
            self.log = reception.association_log()
            self._listener = Listener(reception, look_up, self.log)
            self.receiver = self._listener.receiver

    def start(self) -> int:
        """Recover what an earlier run left, then let everybody receive.

        Returns
        -------
        The port.

        Raises
        ------
        StoreUnavailable
            If the store or the index cannot be read.
        InternalError
            If the listeners do not start.
        """
        began = time.monotonic()
        recovered = self._writer.recover()
        reconcile(self._database, self._store, passing=recovered)
        self._load_filter()
        self._writer.start()
        if self._listener is not None:
            self._listener.start(self._receiving.own_ports)
        elif self._receiving.processes is not None:
            self._receiving.processes.accept()
        get_log().info(
            "listening",
            address=self._settings.bind_address,
            port=self._receiving.port,
            instances=len(recovered),
            duration_s=round(time.monotonic() - began, 3),
        )
        return self._receiving.port

    def stop(self, timeout_s: float = 10.0) -> None:
        """Refuse new associations, let open ones end, abort the rest, write the index.

        Parameters
        ----------
        timeout_s
            How long open associations may take, in seconds.
        """
        if self._listener is not None:
            self._listener.stop(timeout_s)
        elif self._receiving.processes is not None:
            self._receiving.processes.stop()
        self._stopping.set()
        self._writer.stop(timeout_s)
        if self._loading is not None:
            self._loading.join(0.5)

    @property
    def tls_port(self) -> int:
        """The TLS port; 0 if there is none."""
        return self._receiving.tls_port

    def alive(self) -> bool:
        """Tell whether somebody listens."""
        processes = self._receiving.processes
        return processes is None or processes.alive()

    def status(self) -> NodeStatus:
        """Describe the receiving side."""
        reception = self._receiving.reception
        with reception.lock:
            taken = reception.places.taken()
        return NodeStatus(
            port=self._receiving.port,
            open_associations=taken,
            waiting_for_index=self._writer.waiting(),
            enough_space=reception.free_space.enough(),
            counts=self.log.counts(),
        )

    def _load_filter(self) -> None:
        with self._database.read() as connection:
            known = sum(shelf.filled for shelf in shelves_from(connection, 0))
        if known <= _LOAD_AT_ONCE:
            self._known.uids.load(self._database)
            return
        self._loading = threading.Thread(
            target=self._load_slowly, name="uid-filter", daemon=True
        )
        self._loading.start()

    def _load_slowly(self) -> None:
        while not self._stopping.is_set():
            try:
                self._known.uids.load(self._database, self._stopping.is_set)
                return
            except StoreUnavailable as error:
                get_log().warning("index_unreadable", error=str(error))
                self._stopping.wait(_LOAD_AGAIN_S)
