"""Takes hold of a data directory and a port, and forks the listeners.

To be entered first of all, while the process has neither threads nor a database: what
is forked then is small, and a listener that is started again much later is as clean.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.directory_lock import only_one
from core.errors import StoreUnavailable
from core.settings import Settings
from dicom_node.listeners import ListenerProcesses
from dicom_node.ports import Listening, listen_on
from dicom_node.reception import Reception, listener_count, make_reception
from dicom_node.tls import ServerTls

__all__ = ["Receiving", "receiving"]

# How long listeners of a node that was killed may take to notice.
_HELD_FOR_S = 3.0
_STOP_WITHIN_S = 3.0


@dataclass(frozen=True)
class Receiving:
    """A data directory and ports that are ours, and who listens there."""

    reception: Reception
    port: int
    """The plain port, or that of TLS if there is no plain one."""
    tls_port: int
    """0 if there is none."""
    processes: ListenerProcesses | None
    """None if the node's own process receives, from `own_ports`."""
    own_ports: tuple[Listening, ...]


@contextmanager
def receiving(settings: Settings) -> Iterator[Receiving]:
    """Hold data directory and ports; the listeners wait until they are let go.

    Raises
    ------
    StoreUnavailable
        If another node holds the data directory or a port, or it cannot be used.
    InvalidSettings
        If certificate or key of TLS cannot be used.
    """
    with only_one(settings.data_dir, "node", wait_s=_HELD_FOR_S):
        if settings.tls.port is not None:
            # Here, because here somebody reads what is wrong with a file.
            ServerTls(settings.tls)
        count = listener_count(settings)
        ports = _bind(settings, max(1, count))
        reception = make_reception(settings)
        processes = None
        if count:
            processes = ListenerProcesses(
                reception, ports, stop_within_s=_STOP_WITHIN_S
            )
        numbers = [one.socket.getsockname()[1] for one in ports[0]]
        held = Receiving(
            reception,
            port=numbers[0],
            tls_port=numbers[-1] if ports[0][-1].encrypted else 0,
            processes=processes,
            own_ports=() if processes else tuple(ports[0]),
        )
        try:
            if processes is not None:
                processes.fork()
            yield held
        finally:
            if processes is not None:
                processes.stop()
            for one in held.own_ports:
                one.socket.close()
            reception.close()


def _bind(settings: Settings, count: int) -> list[list[Listening]]:
    """Bind all ports; returns what each listener accepts from."""
    wanted = [] if settings.tls.only else [(settings.node.port, "node.port", False)]
    if settings.tls.port is not None:
        wanted.append((settings.tls.port, "tls.port", True))
    bound: list[list[Listening]] = [[] for _ in range(count)]
    try:
        for port, setting, encrypted in wanted:
            sockets = listen_on(settings.bind_address, port, count, setting=setting)
            for listener, one in zip(bound, sockets, strict=True):
                listener.append(Listening(one, encrypted))
    except StoreUnavailable:
        for listening in bound:
            for port_of in listening:
                port_of.socket.close()
        raise
    return bound
