"""What is known of an instance from the moment it was received."""

from dataclasses import dataclass

from core.settings import Priority

__all__ = ["KnownInstance", "ReceivedInstance"]


@dataclass(frozen=True)
class ReceivedInstance:
    """What the index keeps of one instance; nothing in it names a patient."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    """Of the data set's bytes, in hexadecimal."""
    bytes: int
    modality: str
    is_image: bool
    own_result: bool
    order_priority: Priority
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    received_at: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True)
class KnownInstance:
    """Content by which a SOP Instance UID is already known."""

    sha256: str
    transfer_syntax_uid: str
