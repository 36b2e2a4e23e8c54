"""Takes hold of a data directory and a port, and forks the listeners.

To be entered first of all, while the process has neither threads nor a database: what
is forked then is small, and a listener that is started again much later is as clean.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.directory_lock import only_one
from core.settings import Settings
from dicom_node.listeners import ListenerProcesses
from dicom_node.ports import listen_on
from dicom_node.reception import Reception, listener_count, make_reception

__all__ = ["Receiving", "receiving"]

# How long listeners of a node that was killed may take to notice.
_HELD_FOR_S = 3.0
_STOP_WITHIN_S = 3.0


@dataclass(frozen=True)
class Receiving:
    """A data directory and a port that are ours, and who listens there."""

    reception: Reception
    port: int
    processes: ListenerProcesses | None
    """None if the node's own process receives, from `own_socket`."""
    own_socket: socket.socket | None


@contextmanager
def receiving(settings: Settings) -> Iterator[Receiving]:
    """Hold data directory and port; the listeners wait until they are let go.

    Raises
    ------
    StoreUnavailable
        If another node holds the data directory or the port, or it cannot be used.
    """
    with only_one(settings.data_dir, "node", wait_s=_HELD_FOR_S):
        count = listener_count(settings)
        sockets = listen_on(settings.bind_address, settings.node.port, max(1, count))
        port = int(sockets[0].getsockname()[1])
        reception = make_reception(settings)
        processes = None
        if count:
            processes = ListenerProcesses(
                reception, [[one] for one in sockets], stop_within_s=_STOP_WITHIN_S
            )
            processes.fork()
        try:
            yield Receiving(
                reception, port, processes, None if processes else sockets[0]
            )
        finally:
            if processes is not None:
                processes.stop()
            else:
                sockets[0].close()
            reception.close()
