"""Serves DICOMweb from within the node: uvicorn in a thread of its own.

Within the node, because what STOW-RS sends must pass the very receiver that C-STORE
uses: its claims on SOP Instance UIDs and its inbox are in this process. Pixels are
decoded elsewhere. A port that cannot be had, or a fault in here, never ends receiving.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from core.database.engine import Database
from core.log import get_log
from core.settings import Settings
from dicom_node.dicomweb.access import TokenAuthorisation
from dicom_node.dicomweb.access_log import AccessLog
from dicom_node.dicomweb.app import dicomweb_app
from dicom_node.dicomweb.deadlines import DeadlineProtocol
from dicom_node.dicomweb.renderer import Renderer
from dicom_node.instance_store import InstanceStore
from dicom_node.receive import Receiver

__all__ = ["DicomwebServer", "is_loopback"]

PATH = "/dicom-web"
# A search for a thousand UIDs stands in one line.
_LONGEST_HEAD = 1 << 17
_BACKLOG = 128
_STOP_WITHIN_S = 2


class DicomwebServer:
    """The HTTP side of one node.

    Parameters
    ----------
    settings
        The whole tree.
    database, store
        Index and files.
    receiver
        Takes in what STOW-RS sends.
    render_command
        Starts a process that decodes pixels; empty where nothing is rendered.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: InstanceStore,
        receiver: Receiver | None,
        render_command: Sequence[str] = (),
    ) -> None:
        self._settings = settings.dicomweb
        self._renderer = Renderer(render_command) if render_command else None
        self.app = node_app(settings, database, store, receiver, self._renderer)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int | None:
        """Listen.

        Returns
        -------
        The port, or None if DICOMweb is switched off or the port cannot be had; the log
        tells which.
        """
        if not self._settings.enabled:
            return None
        address = self._settings.bind_address, self._settings.port
        try:
            listener = _listener(*address)
        except OSError as error:
            get_log().error(
                "dicomweb_not_listening",
                address=address[0],
                port=address[1],
                error=error.strerror or type(error).__name__,
            )
            return None
        self._server = uvicorn.Server(self._config())
        self._thread = threading.Thread(
            target=self._run,
            args=(self._server, listener),
            name="dicomweb",
            daemon=True,
        )
        self._thread.start()
        port = int(listener.getsockname()[1])
        get_log().info("dicomweb_listening", address=address[0], port=port)
        return port

    def stop(self, timeout_s: float = 5.0) -> None:
        """Refuse new requests, give open ones a moment, then end."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.should_exit = True
        self._thread.join(timeout_s)
        if self._renderer is not None:
            self._renderer.close()

    def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        try:
            with listener:
                asyncio.run(server.serve(sockets=[listener]))
        except BaseException as error:  # noqa: BLE001 - receiving goes on without us
            get_log().error("dicomweb_ended", error=type(error).__name__)

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self.app,
            http=DeadlineProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # The one that is counted is among them.
            limit_concurrency=self._settings.maximum_requests + 1,
            # `DeadlineProtocol` waits as long for everything else.
            timeout_keep_alive=max(1, int(self._settings.timeout_s)),
            timeout_graceful_shutdown=_STOP_WITHIN_S,
            h11_max_incomplete_event_size=_LONGEST_HEAD,
        )


def node_app(
    settings: Settings,
    database: Database,
    store: InstanceStore,
    receiver: Receiver | None,
    renderer: Renderer | None = None,
) -> Starlette:
    """Return what the node serves: DICOMweb and a sign of life."""
    required = settings.dicomweb.require_token or not is_loopback(
        settings.dicomweb.bind_address
    )
    dicomweb = dicomweb_app(
        settings,
        database,
        store,
        authorise=TokenAuthorisation(database, required=required),
        receiver=receiver,
        renderer=renderer,
    )
    return Starlette(
        routes=[Route("/healthz", _alive), Mount(PATH, dicomweb)],
        middleware=[Middleware(AccessLog)],
    )


def is_loopback(address: str) -> bool:
    """Tell whether an address can be reached from this machine alone."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _alive(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _listener(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
