"""Associations that we ask for: with deadlines on everything, and never with a hang."""

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext, build_context

from core.errors import DestinationRefused, DestinationUnavailable
from core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.guards import quiet_pynetdicom
from dicom_node.senders.checkpoint import ReactorCheckpoint

__all__ = ["Peer", "contexts_for", "release", "request_association"]

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


def contexts_for(
    pairs: Iterable[tuple[str, str]],
) -> list[PresentationContext]:
    """Propose one presentation context a pair of SOP class and transfer syntax.

    One pair a context, so that the peer's choice is never another syntax than that of
    the file: what is sent are the stored bytes.
    """
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


def request_association(
    peer: Peer, contexts: Sequence[PresentationContext]
) -> Association:
    """Ask for an association.

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
    entity = AE(ae_title=peer.calling_ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = peer.timeout_s
    entity.acse_timeout = peer.timeout_s
    entity.dimse_timeout = peer.timeout_s
    entity.network_timeout = peer.timeout_s

    connected_to: list[str] = []

    def prepare_socket(event: Event) -> None:
        connected_to.append(peer.host)
        event.assoc._reactor_checkpoint = ReactorCheckpoint(event.assoc)
        transport = event.assoc.dul.socket
        raw = transport.socket if transport else None
        if raw is None:
            return  # closed again already
        # Command and data set are two small packets; without this the second waits for
        # the peer's delayed acknowledgement (40 ms each time).
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # pynetdicom takes the time limit away after connecting; a peer that stops
        # reading would then block the sending thread for ever.
        raw.settimeout(peer.timeout_s)

    try:
        association = entity.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.called_ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, prepare_socket)],
        )
    except OSError as error:  # a name that does not resolve
        raise DestinationUnavailable(
            f"no connection to {peer.host} port {peer.port} ({error.strerror})"
        ) from error
    if association.is_established:
        return association
    if association.rejected_contexts and not association.accepted_contexts:
        classes = sorted({cx.abstract_syntax or "" for cx in contexts})
        raise DestinationRefused(
            f"it accepts no presentation context for {', '.join(classes)}"
        )
    if not connected_to:
        raise DestinationUnavailable(f"no connection to {peer.host} port {peer.port}")
    raise DestinationUnavailable(_why_not(association))


def _why_not(association: Association) -> str:
    if association.is_rejected:
        answer = association.acceptor.primitive
        source = getattr(answer, "result_source", 0)
        reason = getattr(answer, "diagnostic", 0)
        words = _REJECTIONS.get((source, reason), "reserved reason")
        return f"association rejected ({source}/{reason}): {words}"
    return "the association was aborted or not answered in time"


def release(association: Association) -> None:
    """End an association in good order where it is still there."""
    if association.is_established:
        association.release()
