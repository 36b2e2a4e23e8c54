"""The sockets that listeners accept from: bound once, shared out by the kernel."""

import socket
from dataclasses import dataclass

from core.errors import StoreUnavailable

__all__ = ["Listening", "listen_on"]

_BACKLOG = 128


@dataclass(frozen=True)
class Listening:
    """A socket that takes connections."""

    socket: socket.socket
    encrypted: bool
    """Whether who connects must speak TLS."""


def listen_on(
    address: str, port: int, count: int, *, setting: str = "node.port"
) -> list[socket.socket]:
    """Bind sockets to one port, between which the kernel spreads connections.

    They stay open in the process that called this, so the connections that wait for a
    listener which died wait for the one that follows.

    Parameters
    ----------
    address, port
        Where to listen; port 0 takes a free one.
    count
        How many sockets.
    setting
        What an operator changes to have another port.

    Raises
    ------
    StoreUnavailable
        If the port cannot be bound, or another process has it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sockets: list[socket.socket] = []
    try:
        # Without SO_REUSEPORT, which would let two nodes share a port unnoticed.
        first = _bound(family, address, port, shared=False)
        if count > 1:
            port = first.getsockname()[1]
            first.close()
            for _ in range(count):
                sockets.append(_bound(family, address, port, shared=True))
        else:
            sockets.append(first)
        for one in sockets:
            one.listen(_BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        raise StoreUnavailable(
            f"the DICOM port {port} of {address} cannot be bound "
            f"({error.strerror}); is another node running? Change {setting}"
        ) from error
    return sockets


def _bound(
    family: socket.AddressFamily, address: str, port: int, *, shared: bool
) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((address, port))
    except OSError:
        one.close()
        raise
    return one
