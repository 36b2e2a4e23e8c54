"""Takes an accepted association's socket from pynetdicom.

pynetdicom reads the socket in a thread of its own (the DUL), polls it, and hands what
it read to the association's thread. We let it send the A-ASSOCIATE-AC and end that
thread before it reads another byte; the association's thread then runs our session
instead of its own loop. Places, counts and logs stay where they were, because the
association lives as long as its thread does. Public events and `kill_dul` do all of it.
"""

import socket
import threading
from collections.abc import Callable
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_AC

from core.settings import NodeSettings
from dicom_node.data_transfer.protocol import DataTransfer, Limits
from dicom_node.data_transfer.services import (
    AcceptedContext,
    Caller,
    QueryRetrieve,
    Services,
)
from dicom_node.data_transfer.session import Outcome, Session
from dicom_node.receive import Receiver
from dicom_node.statuses import StorageAnswer

__all__ = ["Takeover"]


class Takeover:
    """Serves every accepted association of one node.

    Parameters
    ----------
    settings
        Limits and deadlines.
    receiver
        Takes the instances in.
    on_answer
        Called with the association, each answer to a C-STORE-RQ and the size of its
        data set.
    on_ended
        Called with the association and how it ended.
    queries
        Serves queries and retrievals; None where there are none.
    """

    def __init__(
        self,
        settings: NodeSettings,
        receiver: Receiver,
        *,
        on_answer: Callable[[Association, StorageAnswer, int], None],
        on_ended: Callable[[Association, str], None],
        queries: QueryRetrieve | None = None,
    ) -> None:
        self._settings = settings
        self._receiver = receiver
        self._on_answer = on_answer
        self._on_ended = on_ended
        self._queries = queries
        self._lock = threading.Lock()
        self._open: set[Session] = set()
        self._stopping = False

    def handlers(self) -> list[evt.EventHandlerType]:
        """List what is bound to pynetdicom's events."""
        return [
            (evt.EVT_PDU_SENT, _end_reading_thread),
            (evt.EVT_ESTABLISHED, self._established),
        ]

    def stop(self) -> None:
        """Abort every session, and those that would begin from now on."""
        with self._lock:
            self._stopping = True
            sessions = list(self._open)
        for session in sessions:
            session.stop()

    def _established(self, event: evt.Event) -> None:
        association = event.assoc
        # It ends after the A-ASSOCIATE-AC, or because of a dead connection.
        association.dul.join()
        transport: Any = association.dul.socket
        outcome = Outcome.CLOSED
        try:
            if transport.socket is not None:
                outcome = self._run(self._session(association, transport.socket))
        finally:
            association.is_established = False
            association.is_released = outcome is Outcome.RELEASED
            association.is_aborted = not association.is_released
            self._on_ended(association, outcome.value)

    def _run(self, session: Session) -> Outcome:
        with self._lock:
            self._open.add(session)
            stopping = self._stopping
        if stopping:
            session.stop()
        try:
            return session.run()
        finally:
            with self._lock:
                self._open.discard(session)

    def _session(self, association: Association, peer: socket.socket) -> Session:
        settings = self._settings
        contexts = {
            int(context.context_id or 0): AcceptedContext(
                str(context.abstract_syntax),
                str(context.transfer_syntax[0]),
                we_may_send=bool(context.as_scu),
            )
            for context in association.accepted_contexts
        }
        primitive: Any = association.requestor.primitive
        caller = Caller(
            calling_ae_title=primitive.calling_ae_title.strip(),
            called_ae_title=primitive.called_ae_title.strip(),
            address=association.requestor.address,
        )
        return Session(
            peer,
            protocol=DataTransfer(
                contexts,
                Limits(
                    maximum_pdu_length=settings.maximum_pdu_length,
                    maximum_command_bytes=settings.maximum_command_bytes,
                    maximum_data_set_bytes=settings.maximum_instance_bytes,
                ),
            ),
            services=Services(
                contexts=contexts,
                caller=caller,
                receiver=self._receiver,
                on_answer=lambda answer, size: self._on_answer(
                    association, answer, size
                ),
                queries=self._queries,
            ),
            network_timeout_s=settings.network_timeout_s,
            peer_maximum=association.requestor.maximum_length or 0,
            peer_address=caller.address,
        )


def _end_reading_thread(event: evt.Event) -> None:
    # This runs in that thread, which looks at the flag before it reads again.
    if isinstance(event.pdu, A_ASSOCIATE_AC):
        event.assoc.dul.kill_dul()
