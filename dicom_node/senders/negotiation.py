"""Asking for an association: pynetdicom negotiates, then its part is over.

Once the A-ASSOCIATE-AC is read, pynetdicom's reading thread is told to end (it looks at
that flag before it reads again) and its association's thread is never started: the
socket goes to `Association`. With deadlines on everything, and never with a hang.
"""

import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.presentation import PresentationContext, build_context

from core.errors import (
    DestinationRefused,
    DestinationUnavailable,
    InvalidSettings,
)
from core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.data_transfer.protocol import Abort, encode_abort
from dicom_node.data_transfer.requestor import OFFERED_PDU_LENGTH
from dicom_node.guards import quiet_pynetdicom
from dicom_node.senders.association import Association
from dicom_node.tls import ClientTls, TlsSocket

__all__ = ["Peer", "request_association"]

# PS3.8 9.3.4, Table 9-21: source, reason -> words.
_REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "our AE title (calling) is not known there",
    (1, 7): "the called AE title is not its own",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


@dataclass(frozen=True)
class Peer:
    """Whom to call, as whom, and how long to wait."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout_s: float = 30.0
    """Longest silence of the peer."""
    tls: ClientTls | None = None
    """How to encrypt; None: in clear."""


def request_association(peer: Peer, pairs: Iterable[tuple[str, str]]) -> Association:
    """Ask for an association.

    Parameters
    ----------
    peer
        Whom to call.
    pairs
        SOP class and transfer syntax: each becomes a presentation context, so that the
        peer's choice is never another syntax than that of a file.

    Returns
    -------
    An established association with at least one accepted context.

    Raises
    ------
    DestinationUnavailable
        If the peer is not there, does not answer in time, or rejects us.
    DestinationRefused
        If it accepts none of the contexts.
    """
    quiet_pynetdicom()
    request = _Request(peer)
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    return request.make(contexts)


class _Request:
    """One attempt, and what became of it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._connection: socket.socket | None = None
        self._encrypted: TlsSocket | None = None
        self._taken = False

    # What pynetdicom takes for an `ssl.SSLContext`: this one method is what it calls.
    def wrap_socket(
        self, connection: socket.socket, *, server_side: bool, server_hostname: str
    ) -> TlsSocket:
        """Encrypt a connection that is not made yet."""
        assert self._peer.tls is not None
        assert not server_side
        self._encrypted = self._peer.tls.wrap(connection, server_hostname)
        return self._encrypted

    def make(self, contexts: Sequence[PresentationContext]) -> Association:
        """Call, and take the connection over if it was accepted."""
        requested = self._call(contexts)
        accepted = {
            (str(one.abstract_syntax), str(one.transfer_syntax[0])): one.context_id
            for one in requested.accepted_contexts
        }
        if self._taken and self._connection is not None and accepted:
            return Association(
                self._connection,
                contexts=accepted,
                peer_maximum=requested.acceptor.maximum_length or 0,
                timeout_s=self._peer.timeout_s,
            )
        self._hang_up()
        if requested.rejected_contexts and not accepted:
            classes = sorted({str(one.abstract_syntax) for one in contexts})
            raise DestinationRefused(
                f"it accepts no presentation context for {', '.join(classes)}"
            )
        raise DestinationUnavailable(self._why_not(requested))

    def _call(self, contexts: Sequence[PresentationContext]) -> Any:
        peer = self._peer
        tls: Any = None
        if peer.tls is not None:
            try:
                peer.tls.context()
            except InvalidSettings as error:
                raise DestinationUnavailable(str(error)) from error
            tls = (self, peer.host)
        try:
            return self._entity().associate(
                peer.host,
                peer.port,
                contexts=list(contexts),
                ae_title=peer.called_ae_title,
                max_pdu=OFFERED_PDU_LENGTH,
                tls_args=tls,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._connected),
                    (evt.EVT_PDU_RECV, _end_reading_thread),
                    (evt.EVT_ESTABLISHED, self._established),
                ],
            )
        except OSError as error:  # a name that does not resolve
            raise DestinationUnavailable(
                f"no connection to {peer.host} port {peer.port} ({error.strerror})"
            ) from error

    def _entity(self) -> AE:
        timeout_s = self._peer.timeout_s
        entity = AE(ae_title=self._peer.calling_ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.connection_timeout = timeout_s
        entity.acse_timeout = timeout_s
        entity.dimse_timeout = timeout_s
        entity.network_timeout = timeout_s
        return entity

    def _connected(self, event: Event) -> None:
        transport = event.assoc.dul.socket
        connection = transport.socket if transport else None
        if connection is None:
            return  # closed again already
        self._connection = connection
        # Command and data set are two packets; without this the second waits for the
        # peer's delayed acknowledgement (40 ms each time).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # pynetdicom takes the time limit away after connecting; a peer that stops
        # reading would then block the sending thread for ever.
        connection.settimeout(self._peer.timeout_s)

    def _established(self, event: Event) -> None:
        event.assoc.dul.join()
        transport: Any = event.assoc.dul.socket
        self._taken = transport.socket is not None
        # So its own thread is not started.
        event.assoc.is_established = False

    def _hang_up(self) -> None:
        """Say that this is the end; pynetdicom may have left the connection open."""
        connection = self._connection or self._encrypted
        if connection is None or connection.fileno() < 0:
            return
        with suppress(OSError):
            connection.settimeout(1.0)
            connection.sendall(encode_abort(Abort.SERVICE_USER))
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _why_not(self, requested: Any) -> str:
        where = f"{self._peer.host} port {self._peer.port}"
        if self._encrypted is not None and self._encrypted.failure:
            return f"no TLS with {where}: {self._encrypted.failure}"
        if self._connection is None:
            return f"no connection to {where}"
        if requested.is_rejected:
            answer = requested.acceptor.primitive
            source = getattr(answer, "result_source", 0)
            reason = getattr(answer, "diagnostic", 0)
            words = _REJECTIONS.get((source, reason), "reserved reason")
            return f"association rejected ({source}/{reason}): {words}"
        return "the association was aborted or not answered in time"


def _end_reading_thread(event: Event) -> None:
    # This runs in that thread, which looks at the flag before it reads again.
    if isinstance(event.pdu, A_ASSOCIATE_AC):
        event.assoc.dul.kill_dul()
