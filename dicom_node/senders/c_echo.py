"""C-ECHO: whether a peer is there and knows us."""

import time
from dataclasses import dataclass

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from core.errors import OperatorError
from dicom_node.senders.association import (
    Peer,
    contexts_for,
    release,
    request_association,
)

__all__ = ["EchoResult", "echo"]

_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"


@dataclass(frozen=True)
class EchoResult:
    """What came of a C-ECHO."""

    ok: bool
    seconds: float
    """From the call to the answer."""
    words: str


def echo(
    host: str, port: int, *, called: str, calling: str, timeout_s: float = 10.0
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

    Source
    ------
    PS3.4 Annex A; PS3.7 9.1.5.
    """
    began = time.monotonic()
    peer = Peer(host, port, called, calling, timeout_s)
    try:
        association = request_association(
            peer, contexts_for([(Verification, _IMPLICIT_VR_LITTLE_ENDIAN)])
        )
    except OperatorError as error:
        return EchoResult(False, time.monotonic() - began, str(error))
    try:
        status = association.send_c_echo()
    finally:
        release(association)
    seconds = time.monotonic() - began
    if "Status" not in status:
        return EchoResult(False, seconds, "no answer to C-ECHO")
    ok = status.Status == 0
    return EchoResult(ok, seconds, "success" if ok else f"status {status.Status:04X}")
