"""From files of certificates to what OpenSSL needs, read again when they change.

What an operator may have got wrong is told here, before a peer meets it: a missing
file, a key that others may read, a key of another certificate, one that has expired.
"""

import ssl
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.errors import InvalidSettings
from core.log import get_log

__all__ = ["ReloadedContext", "load_authorities", "load_identity", "profiled"]

# PS3.15 B.13 for TLS 1.2, of it what needs no Diffie-Hellman parameters of ours: AEAD,
# ephemeral elliptic curves, keys of 2048 bits or more (that is what level 2 asks for).
# The suites of TLS 1.3 are OpenSSL's own three, which B.13 names as well.
_CIPHER_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:@SECLEVEL=2"
_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_EXPIRES_SOON_S = 30 * 86400.0


def profiled(context: ssl.SSLContext) -> ssl.SSLContext:
    """Restrict a context to the profile.

    Source
    ------
    PS3.15 B.12 (TLS 1.2 at least, 1.3 preferred), B.13 (cipher suites).
    """
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHER_SUITES)
    # Each connection proves its certificate anew: a replaced authority counts at once.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A connection cut without TLS's own farewell is no more than a lost connection:
    # an association that ends without A-RELEASE counts as broken anyway.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def load_identity(
    context: ssl.SSLContext,
    certificate_file: Path,
    key_file: Path,
    *,
    prefix: str,
) -> None:
    """Load our own certificate with its chain, and its key.

    Parameters
    ----------
    context
        Takes them.
    certificate_file, key_file
        PEM; the certificate first, then those that lead to its authority.
    prefix
        Of the settings' names, for messages.

    Raises
    ------
    InvalidSettings
        Naming the setting, the file and what to do.
    """
    certificate_name, key_name = f"{prefix}certificate_file", f"{prefix}key_file"
    _check_readable(certificate_file, certificate_name)
    _check_readable(key_file, key_name)
    if key_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidSettings(
            f"{key_name}: {key_file} is open to others; set its mode to 600"
        )
    _load_chain(context, certificate_file, key_file, certificate_name, key_name)
    probe = profiled(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    _load_chain(probe, certificate_file, key_file, certificate_name, key_name)
    ends_at = _proven(probe, certificate_file, certificate_name)
    left_s = ends_at - time.time()
    if left_s < _EXPIRES_SOON_S:
        get_log().warning(
            "tls_certificate_expires",
            path=str(certificate_file),
            count=int(left_s // 86400),
        )


def load_authorities(context: ssl.SSLContext, ca_file: Path, name: str) -> None:
    """Load the certificates of the authorities that are trusted.

    Raises
    ------
    InvalidSettings
        If the file cannot be read or holds none.
    """
    _check_readable(ca_file, name)
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise InvalidSettings(
            f"{name}: {ca_file} holds no certificate in PEM ({_reason(error)})"
        ) from error


class ReloadedContext:
    """A context that is built again when its files have changed.

    Parameters
    ----------
    build
        Reads the files.
    files
        Those that it reads.
    """

    def __init__(
        self, build: Callable[[], ssl.SSLContext], files: Sequence[Path]
    ) -> None:
        self._build = build
        self._files = files
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[object, ...] = ()

    def current(self) -> ssl.SSLContext:
        """Return the context of the files as they are now.

        New files that cannot be used are logged, and the last good ones stay in use.

        Raises
        ------
        InvalidSettings
            If there never were good ones.
        """
        seen = tuple(map(_version, self._files))
        with self._lock:
            if self._context is None:
                self._context = self._build()
                self._seen = seen
            elif seen != self._seen:
                # Even if they are bad: they are not tried again for each connection.
                self._seen = seen
                self._reload()
            return self._context

    def _reload(self) -> None:
        try:
            self._context = self._build()
        except InvalidSettings as error:
            get_log().error("tls_reload_failed", error=str(error))
        else:
            get_log().info("tls_reloaded")


def _version(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


def _check_readable(path: Path, name: str) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InvalidSettings(
            f"{name}: {path} cannot be read ({error.strerror})"
        ) from error


def _load_chain(
    context: ssl.SSLContext,
    certificate_file: Path,
    key_file: Path,
    certificate_name: str,
    key_name: str,
) -> None:
    def no_password() -> str:
        raise InvalidSettings(
            f"{key_name}: {key_file} is encrypted; a key without a password is needed"
        )

    try:
        context.load_cert_chain(certificate_file, key_file, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidSettings(
                f"{key_name}: {key_file} is not the key of {certificate_file}"
            ) from error
        raise InvalidSettings(
            f"{certificate_name}, {key_name}: {certificate_file} and {key_file} are no "
            f"certificate and key in PEM that can be used ({_reason(error)})"
        ) from error


def _proven(server: ssl.SSLContext, certificate_file: Path, name: str) -> float:
    """Let a client in memory look at our certificate, as a peer will.

    Returns
    -------
    When it expires, in seconds since 1970.
    """
    client = profiled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    client.check_hostname = False
    # It trusts the certificate itself, so that dates and key are all that is judged.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    load_authorities(client, certificate_file, name)
    try:
        shown: Any = _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
            raise InvalidSettings(
                f"{name}: {certificate_file}: {error.verify_message}; get a new one, "
                "or look at this machine's clock"
            ) from error
        return float("inf")  # of a purpose that peers judge better than we do
    except ssl.SSLError as error:
        raise InvalidSettings(
            f"{name}: {certificate_file} cannot be used ({_reason(error)})"
        ) from error
    return float(ssl.cert_time_to_seconds(shown["notAfter"]))


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> object:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server)
    called = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [caller, called]
    while waiting:
        for side in tuple(waiting):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
                waiting.remove(side)
    return caller.getpeercert()


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "unknown reason").replace("_", " ").lower()
