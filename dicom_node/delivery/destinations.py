"""From a destination's settings to the sender that serves it."""

from core.settings import DestinationSettings, Settings
from dicom_node.senders.c_store import CStoreSender
from dicom_node.senders.negotiation import Peer
from dicom_node.senders.sender import Sender
from dicom_node.tls import ClientTls

__all__ = ["sender_for", "tls_of"]


def sender_for(destination: DestinationSettings, settings: Settings) -> Sender:
    """Make the sender that a destination's kind asks for."""
    delivery = settings.delivery
    if destination.kind == "stow":
        # Its HTTP client is imported only where there is such a destination.
        from dicom_node.senders.stow_rs import StowSender  # noqa: PLC0415

        return StowSender(
            destination.url or "",
            tls=_certificates_of(destination),
            bearer_token_file=destination.bearer_token_file,
            timeout_s=delivery.timeout_s,
            keep_open_s=delivery.keep_open_s,
        )
    return CStoreSender(
        Peer(
            host=destination.host,
            port=destination.port,
            called_ae_title=destination.ae_title,
            calling_ae_title=destination.calling_ae_title or settings.node.ae_title,
            timeout_s=delivery.timeout_s,
            tls=tls_of(destination),
        ),
        keep_open_s=delivery.keep_open_s,
    )


def tls_of(destination: DestinationSettings) -> ClientTls | None:
    """Return how a DICOM destination is to be encrypted; None: in clear."""
    return _certificates_of(destination) if destination.tls else None


def _certificates_of(destination: DestinationSettings) -> ClientTls:
    return ClientTls(
        ca_file=destination.tls_ca_file,
        certificate_file=destination.tls_certificate_file,
        key_file=destination.tls_key_file,
        check_server_name=destination.tls_check_server_name,
        server_name=destination.tls_server_name,
        prefix=f"destination {destination.name}: tls_",
    )
