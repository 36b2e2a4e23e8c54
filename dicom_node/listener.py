"""One listener: associations on sockets that are bound already, in this process."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pynetdicom import AE, evt

from core.received import KnownInstance
from core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.association_log import AssociationLog, AssociationRecord
from dicom_node.contexts import supported_contexts
from dicom_node.data_transfer.takeover import Takeover
from dicom_node.guards import (
    Admission,
    GuardedServer,
    guard_connection,
    quiet_pynetdicom,
)
from dicom_node.guards.admission import AssociationRequest
from dicom_node.ports import Listening
from dicom_node.query_retrieve.on_demand import QueriesOnDemand
from dicom_node.reception import Reception
from dicom_node.tls import ServerTls

__all__ = ["Listener"]

_PARALLEL = 1 << 16  # pynetdicom's own limit; ours is in `Admission`


class Listener:
    """Verification and Storage SCP, as one of several or alone.

    Parameters
    ----------
    reception
        Shared with the others.
    look_up
        Asks the index by which content a UID is known.
    log
        Of this listener's associations.
    owner
        Which listener this is.
    """

    def __init__(
        self,
        reception: Reception,
        look_up: Callable[[str], KnownInstance | None],
        log: AssociationLog,
        owner: int = 0,
    ) -> None:
        quiet_pynetdicom()
        self._settings = reception.settings
        self.log = log
        self.receiver = reception.receiver(look_up, owner)
        self._admission = Admission(
            self._settings.node,
            reception.free_space.enough,
            lock=reception.lock,
            places=reception.places,
            owner=owner,
        )
        # The first query opens the index, in the process that gets it.
        self._queries = QueriesOnDemand(self._settings)
        self._takeover = Takeover(
            self._settings.node,
            self.receiver,
            on_answer=lambda one, answer, size: self.log.answered(
                id(one), answer, size
            ),
            on_ended=lambda one, outcome: self.log.ended(id(one), outcome),
            queries=self._queries,
        )
        tls = self._settings.tls
        self._tls = None if tls.port is None else ServerTls(tls)
        self._servers: list[GuardedServer] = []

    def start(self, ports: Sequence[Listening]) -> None:
        """Accept associations from now on.

        Parameters
        ----------
        ports
            Bound and listening; this listener closes them.
        """
        for port_of in ports:
            listening = port_of.socket
            host, port = listening.getsockname()[:2]
            server: Any = self._entity().make_server(
                (host, port),
                ae_title=self._settings.node.ae_title,
                contexts=supported_contexts(
                    self._settings.node.private_storage_sop_classes
                ),
                evt_handlers=self._handlers(),
                server_class=partial(  # type: ignore[arg-type]
                    GuardedServer,
                    listening=listening,
                    on_glance=self._admission.forget_ended,
                ),
            )
            server.tls = self._tls if port_of.encrypted else None
            self._servers.append(server)
            server.serve_in_background()

    def open_associations(self) -> int:
        """Return how many associations are open."""
        return self._admission.open_associations()

    def stop(self, timeout_s: float) -> None:
        """Refuse new associations, let open ones end, abort the rest.

        Parameters
        ----------
        timeout_s
            How long open associations may take, in seconds.
        """
        self._admission.stopping = True
        deadline = time.monotonic() + timeout_s
        while self._admission.open_associations() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._takeover.stop()
        servers, self._servers = self._servers, []
        for server in servers:
            for association in server.active_associations:
                # The sessions end by themselves, and so does what was just rejected.
                if not (association.is_established or association.is_rejected):
                    threading.Thread(target=association.abort, daemon=True).start()
            server.shutdown()
            for association in server.active_associations:
                association.join(1.0)
        self._queries.close()

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
