"""Accepts connections: socket options and a limit on how many are open."""

import socket
import threading
from collections import Counter
from collections.abc import Callable
from socketserver import TCPServer
from typing import Any

from pynetdicom.transport import ThreadedAssociationServer

from core.log import get_log
from dicom_node.tls import ServerTls, words_for

__all__ = ["GuardedServer"]


class GuardedServer(ThreadedAssociationServer):
    """A server of associations that many silent connections do not stop.

    Parameters
    ----------
    listening
        Bound and listening already; this server closes it.
    on_glance
        Called some times a second.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    # Silent connections live until their deadline and must not take the places of
    # associations, but each holds two threads.
    maximum_connections = 256
    maximum_connections_per_address = 128
    tls: ServerTls | None = None
    """How to greet who connects; None on a plain port. Set before it is served."""

    def __init__(
        self,
        *arguments: Any,
        listening: socket.socket,
        on_glance: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        self._listening = listening
        self._on_glance = on_glance
        self._greeting: Counter[str] = Counter()
        self._greeting_lock = threading.Lock()
        super().__init__(*arguments, **options)

    def server_bind(self) -> None:
        """Take the socket that is bound already instead of one of our own."""
        if self.socket is not None:
            self.socket.close()
        self.socket = self._listening
        self.server_address = self._listening.getsockname()

    def service_actions(self) -> None:
        """Do what is to be done now and then."""
        super().service_actions()
        if self._on_glance is not None:
            self._on_glance()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; answers leave at once instead of waiting for more."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Tell whether there is room for one more connection."""
        addresses = Counter(
            association.requestor.address for association in self.active_associations
        )
        with self._greeting_lock:
            addresses.update(self._greeting)
        room = (
            addresses.total() < self.maximum_connections
            and addresses[client_address[0]] < self.maximum_connections_per_address
        )
        if not room:
            get_log().warning(
                "connection_refused",
                peer_address=str(client_address[0]),
                associations=addresses.total(),
            )
        return room

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread of its own; TLS is greeted there."""
        if self.tls is not None:
            self._count_greeting(client_address, 1)
        try:
            super().process_request(request, client_address)
        except BaseException:
            if self.tls is not None:
                self._count_greeting(client_address, -1)
            raise

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Make an association of a connection, once it is encrypted if it is to be."""
        if self.tls is not None:
            try:
                request = self.tls.greet(request)
            except OSError as error:
                get_log().warning(
                    "tls_refused",
                    reason=words_for(error),
                    peer_address=str(client_address[0]),
                )
                return
            finally:
                self._count_greeting(client_address, -1)
        super().finish_request(request, client_address)

    def _count_greeting(self, client_address: Any, change: int) -> None:
        with self._greeting_lock:
            self._greeting[client_address[0]] += change
            if not self._greeting[client_address[0]]:
                del self._greeting[client_address[0]]

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Log that a connection could not be served, without its content."""
        get_log().error("connection_failed", peer_address=str(client_address[0]))

    def serve_in_background(self) -> threading.Thread:
        """Start to accept connections."""
        thread = threading.Thread(
            target=self.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="association-server",
            daemon=True,
        )
        thread.start()
        return thread

    def shutdown(self) -> None:
        """Stop accepting connections and close the port."""
        TCPServer.shutdown(self)
        self.server_close()
