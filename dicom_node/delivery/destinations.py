"""From a destination's settings to the sender that serves it."""

from core.settings import DestinationSettings, Settings
from dicom_node.senders.association import Peer
from dicom_node.senders.c_store import CStoreSender
from dicom_node.senders.sender import Sender

__all__ = ["sender_for"]


def sender_for(destination: DestinationSettings, settings: Settings) -> Sender:
    """Make the sender that a destination's kind asks for."""
    if destination.kind == "stow":
        # Its HTTP client is imported only where there is such a destination.
        from dicom_node.senders.stow_rs import StowSender  # noqa: PLC0415

        return StowSender(
            destination.url or "",
            bearer_token_file=destination.bearer_token_file,
            timeout_s=settings.delivery.timeout_s,
        )
    return CStoreSender(
        Peer(
            host=destination.host,
            port=destination.port,
            called_ae_title=destination.ae_title,
            calling_ae_title=destination.calling_ae_title or settings.node.ae_title,
            timeout_s=settings.delivery.timeout_s,
        )
    )
