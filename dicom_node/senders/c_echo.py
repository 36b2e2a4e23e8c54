"""C-ECHO: whether a peer is there and knows us."""

import time
from dataclasses import dataclass

from core.errors import OperatorError
from dicom_node.contexts import VERIFICATION
from dicom_node.senders.association import AssociationBroken
from dicom_node.senders.negotiation import Peer, request_association
from dicom_node.tls import ClientTls

__all__ = ["EchoResult", "echo"]

_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_PAIR = (VERIFICATION, _IMPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True)
class EchoResult:
    """What came of a C-ECHO."""

    ok: bool
    seconds: float
    """From the call to the answer."""
    words: str


def echo(
    host: str,
    port: int,
    *,
    called: str,
    calling: str,
    timeout_s: float = 10.0,
    tls: ClientTls | None = None,
) -> EchoResult:
    """Ask a peer whether it is there.

    Parameters
    ----------
    host, port
        Where it listens.
    called, calling
        Its AE title and ours.
    timeout_s
        Longest silence.
    tls
        How to encrypt; None: in clear.

    Source
    ------
    PS3.4 Annex A; PS3.7 9.1.5.
    """
    began = time.monotonic()
    peer = Peer(host, port, called, calling, timeout_s, tls)
    try:
        association = request_association(peer, [_PAIR])
    except OperatorError as error:
        return EchoResult(False, time.monotonic() - began, str(error))
    try:
        status = association.echo(VERIFICATION, association.contexts[_PAIR]).status
    except AssociationBroken as error:
        words = f"no answer to C-ECHO: {error}"
        return EchoResult(False, time.monotonic() - began, words)
    seconds = time.monotonic() - began
    association.release()
    ok = status == 0
    return EchoResult(ok, seconds, "success" if ok else f"status {status:04X}")
