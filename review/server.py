"""Serves the pages: uvicorn, the worklist's writer beside it, the first link."""

import secrets
import socket
import threading
import time
from collections.abc import Callable

import uvicorn

from core.database import accounts
from core.database.accounts import Role
from core.database.engine import Database, open_database
from core.errors import OperatorError
from core.log import get_log
from core.settings import Settings
from dicom_node.instance_store import InstanceStore
from dicom_node.periodic import PeriodicThread
from review.application import review_application
from review.worklist_writer import WorklistWriter

__all__ = ["ReviewServer", "first_link"]

_LONGEST_HEAD = 1 << 15
_MAXIMUM_REQUESTS = 200
_START_WITHIN_S = 10.0


def first_link(database: Database, settings: Settings) -> str | None:
    """Make the link to the first account, as long as there is none.

    Returns
    -------
    The path of the link, to be shown once; None once somebody can administer.
    """
    token = secrets.token_urlsafe(24)
    with database.write() as connection:
        if any(
            one.role is Role.ADMIN and not one.disabled
            for one in accounts.accounts(connection)
        ):
            return None
        # A link that was printed before could be anywhere by now.
        accounts.void_invitations(connection, Role.ADMIN)
        accounts.add_invitation(
            connection,
            token,
            Role.ADMIN,
            expires_at=time.time() + settings.review.invitation_s,
        )
    return f"/start/{token}"


class ReviewServer:
    """The pages of one installation, for as long as they are wanted.

    Parameters
    ----------
    settings
        The whole tree.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = open_database(settings)
        self._failed = threading.Event()
        store = InstanceStore(settings.data_dir, durable=settings.store.durable_writes)
        writer = WorklistWriter(self._database, store)
        self._writing = PeriodicThread(
            "worklist", writer.step, on_crash=lambda _name, _error: self._failed.set()
        )
        self._application = review_application(settings, self._database)
        self._server = uvicorn.Server(self._config())

    def run(
        self, stop: threading.Event, ready: Callable[[str, str | None], None]
    ) -> None:
        """Serve until `stop` is set.

        Parameters
        ----------
        stop
            Ends it.
        ready
            Called once with the address and, as long as nobody can log in as an
            administrator, the link that makes the first account.

        Raises
        ------
        OperatorError
            If the address or port cannot be had.
        """
        with self._listener() as listener:
            address = self._address(listener)
            serving = threading.Thread(
                target=self._server.run, kwargs={"sockets": [listener]}, daemon=True
            )
            serving.start()
            self._writing.start()
            self._wait_for_start()
            get_log().info("pages_listening", address=address)
            path = first_link(self._database, self._settings)
            ready(address, f"{address}{path}" if path else None)
            while not stop.wait(0.1) and serving.is_alive():
                if self._failed.is_set():
                    break
            self._server.should_exit = True
            self._writing.stop()
            serving.join(5.0)
            self._writing.join(5.0)
        self._application.state.office.previews.close()
        self._database.close()
        if not stop.is_set():
            raise OperatorError("the pages ended by themselves; the log tells why")

    def _wait_for_start(self) -> None:
        deadline = time.monotonic() + _START_WITHIN_S
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.02)

    def _listener(self) -> socket.socket:
        review = self._settings.review
        family = socket.AF_INET6 if ":" in review.bind_address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((review.bind_address, review.port))
        except OSError as error:
            listener.close()
            raise OperatorError(
                f"the pages cannot listen on {review.bind_address} port {review.port} "
                f"({error.strerror}); choose another one: review.port in "
                "secondread.toml or SECONDREAD_REVIEW__PORT"
            ) from error
        return listener

    def _address(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()[:2]
        shown = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
        scheme = "https" if self._settings.review.https else "http"
        return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._application,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MAXIMUM_REQUESTS,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=_LONGEST_HEAD,
        )
