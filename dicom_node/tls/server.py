"""TLS for those who call us."""

import socket
import ssl

from core.settings import TlsSettings
from dicom_node.tls.connection import TlsSocket
from dicom_node.tls.contexts import (
    ReloadedContext,
    load_authorities,
    load_identity,
    profiled,
)

__all__ = ["ServerTls"]


class ServerTls:
    """Greets those who connect to the node's TLS port.

    Parameters
    ----------
    settings
        With a port, a certificate and its key.

    Raises
    ------
    InvalidSettings
        If the files cannot be used.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        files = settings.certificate_file, settings.key_file, settings.ca_file
        self._context = ReloadedContext(
            self._build, [path for path in files if path is not None]
        )
        self._context.current()

    def greet(self, connection: socket.socket) -> TlsSocket:
        """Encrypt an accepted connection; takes the handshake's time.

        Parameters
        ----------
        connection
            Is taken over, and closed if this fails.

        Raises
        ------
        OSError
            If the handshake fails or lasts longer than `tls.handshake_timeout_s`;
            `words_for` says why.
        """
        encrypted = TlsSocket(connection, self._context.current(), server_side=True)
        try:
            encrypted.greet(self._settings.handshake_timeout_s)
        except BaseException:
            encrypted.close()
            raise
        return encrypted

    def _build(self) -> ssl.SSLContext:
        settings = self._settings
        assert settings.certificate_file is not None
        assert settings.key_file is not None
        context = profiled(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.num_tickets = 0
        load_identity(
            context, settings.certificate_file, settings.key_file, prefix="tls."
        )
        if settings.ca_file is not None:
            load_authorities(context, settings.ca_file, "tls.ca_file")
            context.verify_mode = (
                ssl.CERT_REQUIRED
                if settings.require_client_certificate
                else ssl.CERT_OPTIONAL
            )
        return context
