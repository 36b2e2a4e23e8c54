"""A socket that encrypts: TLS over memory buffers, with few and large reads.

`ssl.SSLSocket` asks the kernel twice for each record of 16 KiB at most and hands over
one record at a time. Here one read takes what has arrived, up to 256 KiB, and all that
can be decrypted of it is handed over at once. It is a `socket.socket` in whatever the
DICOM code uses, so nobody above it knows the difference.
"""

import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["TlsSocket", "words_for"]

_READ_BYTES = 1 << 18
# Encrypted bytes wait in memory until they are sent; so many at once are enough.
_WRITE_BYTES = 1 << 18
_RECORD_HEAD = 5  # type, version, length: RFC 8446 5.1

# OpenSSL's names for what happens in the field -> what an operator can act on.
_WORDS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it does not speak TLS but HTTP",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS newer than 1.1",
    "TLSV1_ALERT_PROTOCOL_VERSION": "no common version of TLS",
    "NO_SHARED_CIPHER": "no common cipher suite",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "no common cipher suite, or no certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has shown no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate of ours",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
}


def words_for(error: OSError) -> str:
    """Say why a TLS connection failed, in words fit for a log and an operator."""
    if isinstance(error, TimeoutError):
        return "no TLS handshake in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "it closed the connection during the TLS handshake"
    if isinstance(error, ssl.SSLError):
        name = error.reason or ""
        return _WORDS.get(name, f"TLS: {name.replace('_', ' ').lower() or 'failure'}")
    return f"connection lost during the TLS handshake ({error.strerror or error})"


class TlsSocket(socket.socket):
    """The encrypted end of a connection.

    Parameters
    ----------
    plain
        Connected or not; this object takes it over, and `plain` is of no use any more.
    context
        With certificates and rules.
    server_side
        Whether the peer opened the connection.
    server_hostname
        Whom we mean to call, as the server's certificate must name it.
    """

    def __init__(
        self,
        plain: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        timeout_s = plain.gettimeout()
        super().__init__(fileno=plain.detach())
        super().settimeout(timeout_s)
        self.failure = ""
        """Why TLS ended this connection, in words; empty as long as it has not."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = memoryview(b"")
        self._scratch = memoryview(bytearray(_READ_BYTES))
        self._ended = False
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )

    def connect(self, address: object) -> None:
        """Connect and greet, both within the time limit of this socket."""
        super().connect(address)  # type: ignore[arg-type]
        self.greet(self.gettimeout())

    def greet(self, timeout_s: float | None) -> None:
        """Run the TLS handshake.

        Parameters
        ----------
        timeout_s
            For all of it, however the peer's bytes trickle in.

        Raises
        ------
        OSError
            If it fails; the peer was told why, and the connection is of no use.
        """
        deadline = _deadline(timeout_s)
        head, body_bytes = bytearray(), 0
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                # Never beyond the record: what comes behind the handshake must stay in
                # the kernel, or who waits with `select` for it does not see it.
                part = self._fill(deadline, body_bytes or _RECORD_HEAD - len(head))
                if body_bytes:
                    body_bytes -= len(part)
                    continue
                head += part
                if len(head) == _RECORD_HEAD:
                    body_bytes = int.from_bytes(head[3:], "big")
                    head.clear()
            except OSError as error:
                self._note(error)
                with suppress(OSError):
                    self._flush()  # the alert
                raise
            else:
                self._flush()
                return

    def version(self) -> str:
        """Name the version of TLS that was negotiated."""
        return self._tls.version() or ""

    def pending(self) -> int:
        """Return how many bytes were read of the network and not yet by us."""
        return self._tls.pending() + self._incoming.pending

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Read at most `bufsize` bytes; none means that the peer has ended."""
        buffer = bytearray(bufsize)
        count = self.recv_into(buffer, 0, flags)
        return bytes(memoryview(buffer)[:count])

    def recv_into(
        self, buffer: "WriteableBuffer", nbytes: int = 0, flags: int = 0
    ) -> int:
        """Read what there is, at least one byte; 0 means that the peer has ended."""
        view = memoryview(buffer).cast("B")
        if nbytes:
            view = view[:nbytes]
        if self._ended:
            return super().recv_into(view, 0, flags)
        deadline = _deadline(self.gettimeout())
        filled = 0
        while filled < len(view):
            try:
                count = self._tls.read(len(view) - filled, view[filled:])
            except ssl.SSLWantReadError:
                if filled:
                    break
                self._flush()  # an answer to a key update
                self._fill(deadline)
                continue
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                break
            except OSError as error:
                self._note(error)
                if filled:
                    break
                raise
            if not count:
                break
            filled += int(count)
        return filled

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:
        """Send the first bytes of `data` and return how many."""
        if self._ended:
            raise BrokenPipeError("TLS has ended")
        self._flush()
        count = self._tls.write(memoryview(data).cast("B")[:_WRITE_BYTES])
        self._flush()
        return count

    def sendall(self, data: "ReadableBuffer", flags: int = 0) -> None:
        """Send all of `data`."""
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view) :]

    def sendmsg(self, buffers: "Iterable[ReadableBuffer]", *_more: Any) -> int:
        """Send all of `buffers` and return their size; nothing beside them."""
        if self._ended:
            raise BrokenPipeError("TLS has ended")
        sent = 0
        for data in buffers:
            view = memoryview(data).cast("B")
            sent += len(view)
            while view:
                view = view[self._tls.write(view[:_WRITE_BYTES]) :]
                if self._outgoing.pending > _WRITE_BYTES:
                    self._flush()
        self._flush()
        return sent

    def _clear(self, *_arguments: Any, **_options: Any) -> Any:
        raise NotImplementedError("this call would send or read in clear")

    sendto = sendfile = recvfrom = recvfrom_into = recvmsg = recvmsg_into = _clear

    def shutdown(self, how: int) -> None:
        """End one or both directions; with ours the peer is told that TLS ends.

        Its own farewell is not waited for: DICOM has one of its own (A-RELEASE).
        """
        if how != socket.SHUT_RD and not self._ended:
            timeout_s = self.gettimeout()
            super().settimeout(0)
            # Our close_notify is written before the peer's is missed.
            with suppress(OSError, ValueError):
                self._tls.unwrap()
            with suppress(OSError):
                self._flush()
            self._ended = True
            super().settimeout(timeout_s)
        super().shutdown(how)

    def _fill(self, deadline: float | None, most: int = _READ_BYTES) -> memoryview:
        """Take and return what has arrived; waits for it until the deadline."""
        scratch = self._scratch[:most]
        if deadline is None:
            count = super().recv_into(scratch)
        else:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("timed out")
            timeout_s = self.gettimeout()
            super().settimeout(remaining)
            try:
                count = super().recv_into(scratch)
            finally:
                super().settimeout(timeout_s)
        if count:
            self._incoming.write(scratch[:count])
        else:
            self._incoming.write_eof()
        return scratch[:count]

    def _flush(self) -> None:
        """Send what is encrypted; the rest stays if the peer takes no more."""
        while True:
            if not self._unsent:
                if not self._outgoing.pending:
                    return
                self._unsent = memoryview(self._outgoing.read())
            try:
                self._unsent = self._unsent[super().send(self._unsent) :]
            except ConnectionError:
                self._hear_last_words()
                raise

    def _hear_last_words(self) -> None:
        """Read the alert of a peer that has gone: it says why."""
        with suppress(OSError):
            super().settimeout(0)
            self._incoming.write(self._scratch[: super().recv_into(self._scratch)])
            try:
                self._tls.read(1)
            except ssl.SSLWantReadError:
                pass
            except OSError as error:
                self._note(error)

    def _note(self, error: OSError) -> None:
        if isinstance(error, ssl.SSLError):
            self.failure = words_for(error)


def _deadline(timeout_s: float | None) -> float | None:
    # A socket that never waits tells by itself that there is nothing.
    return time.monotonic() + timeout_s if timeout_s else None
