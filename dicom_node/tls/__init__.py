"""DICOM over TLS, in and out: what is offered, whose certificate, and the connection.

`contexts` turns files of certificates into what OpenSSL needs, and again when they
change; `connection` is a socket that encrypts; `server` and `client` say who uses which
of them.

Source: PS3.15 B.12 and B.13 (BCP 195, RFC 8996 and 9325).
"""

from dicom_node.tls.client import ClientTls
from dicom_node.tls.connection import TlsSocket, words_for
from dicom_node.tls.server import ServerTls

__all__ = ["ClientTls", "ServerTls", "TlsSocket", "words_for"]
