"""TLS for those whom we call."""

import socket
import ssl
from pathlib import Path

from core.errors import InvalidSettings
from dicom_node.tls.connection import TlsSocket
from dicom_node.tls.contexts import (
    ReloadedContext,
    load_authorities,
    load_identity,
    profiled,
)

__all__ = ["ClientTls"]


class ClientTls:
    """Encrypts connections to one peer.

    Parameters
    ----------
    ca_file
        Authorities that may vouch for the peer; None: those of this system.
    certificate_file, key_file
        Our own, for peers that ask for one; None: we show none.
    check_server_name
        Whether the peer's certificate must name the host that is called.
    server_name
        The name to look for instead of the host's.
    prefix
        Of the settings' names, for messages.

    Raises
    ------
    InvalidSettings
        If only one of certificate and key is given.
    """

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        check_server_name: bool = True,
        server_name: str | None = None,
        prefix: str = "tls_",
    ) -> None:
        if (certificate_file is None) != (key_file is None):
            raise InvalidSettings(
                f"{prefix}certificate_file and {prefix}key_file go together; "
                "only one of them is given"
            )
        self._ca_file = ca_file
        self._certificate_file = certificate_file
        self._key_file = key_file
        self._check_server_name = check_server_name
        self._server_name = server_name
        self._prefix = prefix
        files = ca_file, certificate_file, key_file
        self._context = ReloadedContext(
            self._build, [path for path in files if path is not None]
        )

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are now.

        Raises
        ------
        InvalidSettings
            If they cannot be used.
        """
        return self._context.current()

    def wrap(self, connection: socket.socket, host: str) -> TlsSocket:
        """Take over a socket that is not connected yet; its `connect` greets as well.

        Parameters
        ----------
        connection
            Of no use afterwards.
        host
            As it is called: its name or address.
        """
        return TlsSocket(
            connection,
            self.context(),
            server_side=False,
            server_hostname=self._server_name or host,
        )

    def _build(self) -> ssl.SSLContext:
        context = profiled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        context.check_hostname = self._check_server_name
        if self._ca_file is None:
            context.load_default_certs()
        else:
            load_authorities(context, self._ca_file, f"{self._prefix}ca_file")
        if self._certificate_file is not None and self._key_file is not None:
            load_identity(
                context, self._certificate_file, self._key_file, prefix=self._prefix
            )
        return context
