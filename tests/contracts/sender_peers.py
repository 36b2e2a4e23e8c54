"""Destinations that behave as they are told: a storage SCP and a STOW-RS server."""

import json
import re
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_node.senders.c_store import CStoreSender
from dicom_node.senders.negotiation import Peer
from dicom_node.senders.sender import Sender
from dicom_node.senders.stow_rs import StowSender
from dicom_node.tls import ClientTls
from tests.certificates import Authority

SR_3D = "1.2.840.10008.5.1.4.1.1.88.34"
EXPLICIT = "1.2.840.10008.1.2.1"
TIMEOUT_S = 1.2
HANG_S = 5.0


def data_set_of(part10: bytes) -> bytes:
    """Cut preamble, prefix and file meta information off."""
    (group_length,) = struct.unpack_from("<L", part10, 140)
    return part10[144 + group_length :]


class PeerUnderTest(Protocol):
    received: list[bytes]
    """Data sets as they arrived."""
    connections: int

    def sender(self) -> Sender: ...

    def behave(self, how: str) -> None: ...

    def close(self) -> None: ...


@dataclass
class DicomPeer:
    """A storage SCP."""

    status: int = 0
    how: str = "accept"
    received: list[bytes] = field(default_factory=list)
    connections: int = 0
    classes: tuple[str, ...] = (SR_3D,)
    authority: Authority | None = None
    """If there is one, it speaks TLS and asks for a certificate."""

    def __post_init__(self) -> None:
        self._closed = False
        self._released = threading.Event()
        entity = AE(ae_title="PACS")
        for sop_class in self.classes:
            entity.add_supported_context(sop_class, [EXPLICIT])
        entity.require_called_aet = True
        self._server = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            ssl_context=self._encryption(),
            evt_handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_CONN_OPEN, self._connected),
            ],
        )
        self.port = self._server.server_address[1]

    def sender(self, called: str = "PACS") -> CStoreSender:
        tls = None
        if self.authority is not None:
            own = self.authority.identity("secondread")
            tls = ClientTls(
                ca_file=self.authority.certificate,
                certificate_file=own.certificate,
                key_file=own.key,
            )
        peer = Peer("127.0.0.1", self.port, called, "SECONDREAD", TIMEOUT_S, tls)
        return CStoreSender(peer)

    def _encryption(self) -> ssl.SSLContext | None:
        if self.authority is None:
            return None
        own = self.authority.identity("pacs")
        context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=self.authority.certificate
        )
        context.load_cert_chain(own.certificate, own.key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def behave(self, how: str) -> None:
        statuses = {"warn": 0xB000, "refuse": 0x0122, "later": 0xA700}
        self.how = how
        self.status = statuses.get(how, 0)
        if how == "closed":
            self.close()

    def close(self) -> None:
        self._released.set()
        if not self._closed:
            self._closed = True
            self._server.shutdown()

    def _connected(self, _event: evt.Event) -> None:
        self.connections += 1

    def _store(self, event: evt.Event) -> int | Dataset:
        self.received.append(event.request.DataSet.getvalue())
        if self.how == "hang":
            self._released.wait(HANG_S)
        elif self.how in ("abort", "abort once"):
            self.how = "accept" if self.how == "abort once" else self.how
            event.assoc.abort()
        elif self.how == "reset after storing":
            raw = event.assoc.dul.socket.socket
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        if self.status and self.how == "refuse":
            answer = Dataset()
            answer.Status = self.status
            answer.ErrorComment = "no SR here"
            return answer
        return self.status


@dataclass
class StowPeer:
    """A STOW-RS server."""

    how: str = "accept"
    status: int = 200
    body: bytes = b"{}"
    authority: Authority | None = None
    """If there is one, it speaks https and asks for a certificate."""
    received: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                peer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                peer.answer(self)

            def log_message(self, *_arguments: Any) -> None:
                return

        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._tls: ClientTls | None = None
        if self.authority is not None:
            self._encrypt(self.authority)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    def sender(self, token: Path | None = None, keep_open_s: float = 0.0) -> StowSender:
        return StowSender(
            f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/dicom-web/",
            bearer_token_file=token,
            timeout_s=TIMEOUT_S,
            tls=self._tls,
            keep_open_s=keep_open_s,
        )

    def _encrypt(self, authority: Authority) -> None:
        pacs, own = authority.identity("pacs"), authority.identity("secondread")
        context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=authority.certificate
        )
        context.load_cert_chain(pacs.certificate, pacs.key)
        context.verify_mode = ssl.CERT_REQUIRED
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._tls = ClientTls(
            ca_file=authority.certificate,
            certificate_file=own.certificate,
            key_file=own.key,
        )

    def behave(self, how: str) -> None:
        self.how = how
        self.status = {"warn": 202, "refuse": 409, "later": 503}.get(how, 200)
        if how == "refuse":
            self.body = failed_with(0x0122)
        if how == "closed":
            self._server.shutdown()
            self._server.server_close()

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = _chunked(handler)
        self.headers.append(dict(handler.headers) | {"path": handler.path})
        content_type = handler.headers["Content-Type"]
        boundary = re.search(r"boundary=(\S+)", content_type)[1].encode()
        first, part, last = body.split(b"--" + boundary)
        assert (first, last) == (b"", b"--\r\n")
        head, _, payload = part.partition(b"\r\n\r\n")
        assert b"Content-Type: application/dicom" in head
        self.received.append(data_set_of(payload.removesuffix(b"\r\n")))
        if self.how == "hang":
            self._released.wait(HANG_S)
        how, self.how = self.how, "accept" if "once" in self.how else self.how
        if how in ("abort", "abort once", "reset after storing", "hang"):
            handler.close_connection = True
            handler.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            handler.connection.close()
            return
        handler.send_response(self.status)
        if 300 <= self.status < 400:
            handler.send_header("Location", f"http://127.0.0.1:{self.port}/elsewhere")
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)


def failed_with(reason: int) -> bytes:
    """Write a response body that says why the instance was not stored."""
    item = {"00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


def _chunked(handler: BaseHTTPRequestHandler) -> bytes:
    body = bytearray()
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return bytes(body)


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def seconds(began: float) -> float:
    return time.monotonic() - began
