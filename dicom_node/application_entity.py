"""The node on the network: one application entity that verifies and stores."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, evt

from core.database.engine import Database
from core.errors import StoreUnavailable
from core.log import get_log
from core.settings import Settings
from core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.association_log import (
    AssociationLog,
    AssociationRecord,
    ReceiveCounts,
)
from dicom_node.contexts import supported_contexts
from dicom_node.data_transfer.takeover import Takeover
from dicom_node.guards import (
    Admission,
    GuardedServer,
    guard_connection,
    quiet_pynetdicom,
)
from dicom_node.guards.admission import AssociationRequest
from dicom_node.inbox import Inbox
from dicom_node.index_writer import IndexWriter
from dicom_node.instance_store import InstanceStore
from dicom_node.known_content import KnownContent
from dicom_node.query_retrieve.provider import QueryRetrieveProvider
from dicom_node.receive import FreeSpace, Receiver
from dicom_node.reconcile import reconcile
from dicom_node.tls import ServerTls

__all__ = ["ApplicationEntity", "NodeStatus"]

_PARALLEL = 1 << 16  # pynetdicom's own limit; ours is in `Admission`


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
        database: Database,
        store: InstanceStore,
        on_indexed: Callable[[str], None],
    ) -> None:
        quiet_pynetdicom()
        self._settings = settings
        self._database = database
        self._store = store
        known = KnownContent(database)
        self._inbox = Inbox(settings.data_dir, durable=settings.store.durable_writes)
        self._writer = IndexWriter(
            database=database,
            store=store,
            inbox=self._inbox,
            known=known,
            on_indexed=on_indexed,
        )
        self._free_space = FreeSpace(settings.data_dir, settings.store.low_water_bytes)
        self.receiver = Receiver(
            inbox=self._inbox,
            known=known,
            free_space=self._free_space,
            on_kept=self._writer.add,
            on_conflict=self._writer.add_conflict,
        )
        self.log = AssociationLog()
        self._admission = Admission(settings.node, self._free_space.enough)
        self._queries = QueryRetrieveProvider(settings)
        self._takeover = Takeover(
            settings.node,
            self.receiver,
            on_answer=lambda one, answer, size: self.log.answered(
                id(one), answer, size
            ),
            on_ended=lambda one, outcome: self.log.ended(id(one), outcome),
            queries=self._queries,
        )
        tls = settings.tls
        self._tls = None if tls.port is None else ServerTls(tls)
        self._servers: list[GuardedServer] = []
        self.tls_port = 0
        """The TLS port that is bound; 0 if there is none."""

    def start(self) -> int:
        """Recover what an earlier run left, then listen.

        Returns
        -------
        The port that is bound: the plain one, or that of TLS if `tls.only`.

        Raises
        ------
        StoreUnavailable
            If a port cannot be bound, or the store or the index cannot be read.
        """
        began = time.monotonic()
        self._inbox.sweep()
        reconcile(self._database, self._store)
        recovered = self._writer.start()
        plain_port = self._settings.node.port
        if not self._settings.tls.only:
            self._listen(plain_port, "node.port", None)
        if self._tls is not None:
            server = self._listen(self._settings.tls.port or 0, "tls.port", self._tls)
            self.tls_port = int(server.server_address[1])
        port = int(self._servers[0].server_address[1])
        for server in self._servers:
            server.serve_in_background()
            get_log().info(
                "listening",
                name="plain" if server.tls is None else "tls",
                address=self._settings.bind_address,
                port=int(server.server_address[1]),
                instances=recovered,
                duration_s=round(time.monotonic() - began, 3),
            )
        return port

    def _listen(self, port: int, setting: str, tls: ServerTls | None) -> GuardedServer:
        """Bind one port; whoever connects is served once all are bound."""
        node = self._settings.node
        host = self._settings.bind_address
        try:
            server = self._entity().make_server(
                (host, port),
                ae_title=node.ae_title,
                contexts=supported_contexts(node.private_storage_sop_classes),
                evt_handlers=self._handlers(),
                server_class=GuardedServer,
            )
        except OSError as error:
            for bound in self._servers:
                bound.server_close()
            self._servers.clear()
            raise StoreUnavailable(
                f"the DICOM port {port} of {host} cannot be bound "
                f"({error.strerror}); is another node running? Change {setting}"
            ) from error
        assert isinstance(server, GuardedServer)
        server.tls = tls
        self._servers.append(server)
        return server

    def stop(self, timeout_s: float = 10.0) -> None:
        """Refuse new associations, let open ones end, abort the rest, write the index.

        Parameters
        ----------
        timeout_s
            How long open associations may take, in seconds.
        """
        servers, self._servers = self._servers, []
        self._admission.stopping = True
        if servers:
            deadline = time.monotonic() + timeout_s
            while self._admission.open_associations() and time.monotonic() < deadline:
                time.sleep(0.05)
            self._takeover.stop()
            active = [one for server in servers for one in server.active_associations]
            for association in active:
                # The sessions end by themselves, and so does what was just rejected.
                if not (association.is_established or association.is_rejected):
                    threading.Thread(target=association.abort, daemon=True).start()
            for server in servers:
                server.shutdown()
            for association in active:
                association.join(1.0)
        self._writer.stop(timeout_s)
        self._queries.close()

    def status(self) -> NodeStatus:
        """Describe the receiving side."""
        return NodeStatus(
            port=int(self._servers[0].server_address[1]) if self._servers else 0,
            open_associations=self._admission.open_associations(),
            waiting_for_index=self._writer.waiting(),
            enough_space=self._free_space.enough(),
            counts=self.log.counts(),
        )

    def _entity(self) -> AE:
        node = self._settings.node
        entity = AE(ae_title=node.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = node.maximum_pdu_length
        entity.maximum_associations = _PARALLEL
        entity.acse_timeout = node.request_timeout_s
        entity.network_timeout = node.network_timeout_s
        return entity

    def _handlers(self) -> list[evt.EventHandlerType]:
        return [
            (evt.EVT_CONN_OPEN, guard_connection, [self._settings.node]),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            *self._takeover.handlers(),
            (evt.EVT_ABORTED, lambda event: self._ended(event, "aborted")),
            (evt.EVT_CONN_CLOSE, lambda event: self._ended(event, "closed")),
        ]

    def _requested(self, event: evt.Event) -> None:
        primitive: Any = event.assoc.requestor.primitive
        calling_ae_title, called_ae_title = _titles(event)
        request = AssociationRequest(
            application_context=str(primitive.application_context_name or ""),
            calling_ae_title=calling_ae_title,
            called_ae_title=called_ae_title,
            peer_address=event.assoc.requestor.address,
            context_ids=[
                context.context_id
                for context in primitive.presentation_context_definition_list
            ],
        )
        refusal = self._admission.decide(request, event.assoc)
        if refusal is None:
            return
        self.log.rejected(_record(event, outcome=refusal.reason))
        event.assoc.acse.send_reject(refusal.result, refusal.source, refusal.diagnostic)
        # Waits until the rejection is on its way.
        event.assoc.kill()

    def _accepted(self, event: evt.Event) -> None:
        self.log.accepted(id(event.assoc), _record(event))

    def _ended(self, event: evt.Event, outcome: str) -> None:
        self.log.ended(id(event.assoc), outcome)


def _titles(event: evt.Event) -> tuple[str, str]:
    primitive: Any = event.assoc.requestor.primitive
    return primitive.calling_ae_title.strip(), primitive.called_ae_title.strip()


def _record(event: evt.Event, outcome: str = "open") -> AssociationRecord:
    calling_ae_title, called_ae_title = _titles(event)
    return AssociationRecord(
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        peer_address=event.assoc.requestor.address,
        began_at=time.time(),
        outcome=outcome,
    )
