"""Who talks to the system in tests: a sender with a ledger, PACS, DCMTK and Orthanc."""

import hashlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from tests.data import Instance
from tests.running import AE_TITLE, Part, free_port, wait_until

__all__ = [
    "Arrival",
    "DcmtkArchive",
    "Ledger",
    "Orthanc",
    "RecordingPacs",
    "Sent",
    "dcmsend",
    "echoscu",
    "needs_dcmtk",
    "needs_orthanc",
    "send",
    "storescu",
]

SR_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.22",
)
# Without it DCMTK waits for delayed acknowledgements: 45 ms an instance.
NO_DELAY = {"TCP_NODELAY": "1"}

needs_dcmtk = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("storescu", "storescp", "dcmsend")),
    reason="needs DCMTK's storescu, storescp and dcmsend (Debian: dcmtk)",
)
needs_orthanc = pytest.mark.skipif(
    shutil.which("Orthanc") is None, reason="needs Orthanc (Debian: orthanc)"
)


# -- the sender and its ledger ---------------------------------------------------------


@dataclass
class Sent:
    """One line of the ledger: written before sending, completed by the answer."""

    instance: Instance
    status: int | None = None
    """None: no answer came, so nothing was promised."""

    @property
    def acknowledged(self) -> bool:
        """Whether the node has promised to keep it (PS3.4 B.2.3: success, warnings)."""
        return self.status is not None and (
            self.status == 0 or 0xB000 <= self.status <= 0xBFFF
        )


@dataclass
class Ledger:
    """What a sender knows, kept outside the node: the oracle of every kill test."""

    lines: list[Sent] = field(default_factory=list)
    not_negotiated: list[Instance] = field(default_factory=list)

    def acknowledged(self) -> list[Instance]:
        """Return what the node promised to keep, each once."""
        kept = {
            line.instance.sop_instance_uid: line.instance
            for line in self.lines
            if line.acknowledged
        }
        return list(kept.values())

    def missing(self, instances: Iterable[Instance]) -> list[Instance]:
        """Return what has not been acknowledged and must be sent again."""
        done = {instance.sop_instance_uid for instance in self.acknowledged()}
        return [one for one in instances if one.sop_instance_uid not in done]


def send(
    port: int,
    instances: Sequence[Instance],
    ledger: Ledger | None = None,
    *,
    calling: str = "SENDER",
    called: str = AE_TITLE,
) -> Ledger:
    """Send data sets as they are over one association, until done or cut off.

    Each pair of SOP class and transfer syntax has a context of its own, so that nothing
    is ever transcoded.
    """
    ledger = Ledger() if ledger is None else ledger
    if not instances:
        return ledger
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    pairs = sorted({(one.sop_class_uid, one.transfer_syntax_uid) for one in instances})
    for sop_class, syntax in pairs:
        entity.add_requested_context(sop_class, syntax)
    sockets: list[Any] = []
    association = entity.associate(
        "127.0.0.1",
        port,
        ae_title=called,
        evt_handlers=[
            (evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket))
        ],
    )
    try:
        return _send_all(association, instances, ledger)
    finally:
        if association.is_established:
            association.release()
        # pynetdicom leaves it open where the peer was the first to go.
        for connection in sockets:
            if connection is not None and connection.socket is not None:
                connection.socket.close()


def _send_all(
    association: Any, instances: Sequence[Instance], ledger: Ledger
) -> Ledger:
    if not association.is_established:
        if association.rejected_contexts:
            ledger.not_negotiated += instances
        return ledger
    contexts = {
        (context.abstract_syntax, context.transfer_syntax[0]): context.context_id
        for context in association.accepted_contexts
    }
    for number, instance in enumerate(instances, start=1):
        pair = (instance.sop_class_uid, instance.transfer_syntax_uid)
        if pair not in contexts:
            ledger.not_negotiated.append(instance)
            continue
        line = Sent(instance)
        ledger.lines.append(line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a wrong UID is sent as it is
            line.status = _store(association, contexts[pair], number, instance)
        if not association.is_established:
            break
    return ledger


def _store(
    association: Any, context_id: int, number: int, instance: Instance
) -> int | None:
    request = C_STORE()
    request.MessageID = number
    request.AffectedSOPClassUID = instance.sop_class_uid
    request.AffectedSOPInstanceUID = instance.sop_instance_uid
    request.Priority = 2
    request.DataSet = BytesIO(instance.data_set)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    try:
        association.dimse.send_msg(request, context_id)
        response = _answer(association)
    finally:
        association._reactor_checkpoint.set()
    status = getattr(response, "Status", None)
    return None if status is None else int(status)


def _answer(association: Any, timeout_s: float = 30.0) -> Any:
    """Wait for a response, and no longer once the connection is gone."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        gone = association.acse.is_aborted() or not association.dul.is_alive()
        _, response = association.dimse.get_msg(block=False)
        if response is not None or gone:
            return response
        time.sleep(0.001)
    return None


# -- a PACS that remembers everything --------------------------------------------------


@dataclass(frozen=True)
class Arrival:
    """One object that the PACS was sent, accepted or not."""

    sop_instance_uid: str
    data_set: bytes
    at: float
    accepted: bool

    @property
    def sha256(self) -> str:
        """Of the data set as it arrived."""
        return hashlib.sha256(self.data_set).hexdigest()


class RecordingPacs:
    """A storage SCP of this test, which keeps a line for each object it gets.

    Parameters
    ----------
    port
        None takes a free one. It stays the same over `stop` and `start`.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.arrivals: list[Arrival] = []
        self.status = 0x0000
        self._lock = threading.Lock()
        self._server: Any = None

    def start(self) -> None:
        """Listen."""
        entity = AE(ae_title="PACS")
        for sop_class in SR_CLASSES:
            entity.add_supported_context(sop_class, ExplicitVRLittleEndian)
        self._server = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._keep)],
        )

    def stop(self) -> None:
        """Listen no more and abort what is open; what was kept stays."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            # Couriers keep their association for a while.
            for association in server.active_associations:
                association.abort()

    def _keep(self, event: Event) -> int:
        request = event.request
        with self._lock:
            self.arrivals.append(
                Arrival(
                    str(request.AffectedSOPInstanceUID),
                    request.DataSet.getvalue(),
                    time.monotonic(),
                    self.status == 0,
                )
            )
        return self.status

    @property
    def accepted(self) -> list[Arrival]:
        """What it said Success to, in order."""
        with self._lock:
            return [arrival for arrival in self.arrivals if arrival.accepted]

    @property
    def uids(self) -> list[str]:
        """UIDs of the objects it holds, each once, in order of arrival."""
        return list(dict.fromkeys(one.sop_instance_uid for one in self.accepted))

    def __enter__(self) -> "RecordingPacs":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


# -- DCMTK -----------------------------------------------------------------------------


def storescu(port: int, paths: Sequence[Path], *options: str) -> str:
    """Send files with DCMTK's storescu; returns what it said."""
    return _dcmtk(
        ["storescu", "-v", "-R", "-aet", "STORESCU", "-aec", AE_TITLE, *options]
        + ["127.0.0.1", str(port), *map(str, paths)]
    )


def dcmsend(port: int, paths: Sequence[Path], *options: str) -> str:
    """Send files with DCMTK's dcmsend; returns what it said."""
    return _dcmtk(
        ["dcmsend", "-v", "-aet", "DCMSEND", "-aec", AE_TITLE, *options]
        + ["127.0.0.1", str(port), *map(str, paths)]
    )


def echoscu(port: int, *, called: str = AE_TITLE) -> int:
    """Ask with DCMTK's echoscu whether a node is there; returns its exit status."""
    command = ["echoscu", "-aet", "ECHOSCU", "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def _dcmtk(command: list[str]) -> str:
    run = subprocess.run(
        command,
        env=NO_DELAY | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = run.stdout + run.stderr
    assert run.returncode == 0, f"{command[0]} exited with {run.returncode}:\n{said}"
    return said


class DcmtkArchive:
    """DCMTK's storescp, writing what it gets to a folder bit by bit.

    Parameters
    ----------
    folder
        Made at the start.
    options
        Further ones, as those for TLS.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.part = Part(
            "storescp",
            [
                *("storescp", "--bit-preserving", "--accept-all", "-aet", "STORESCP"),
                *options,
                *("--output-directory", str(folder), str(self.port)),
            ],
            folder.parent / "storescp.log",
            NO_DELAY,
        )

    def files(self) -> list[Path]:
        """Return what arrived."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def __enter__(self) -> "DcmtkArchive":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.part.start()
        wait_until(lambda: _listens(self.port), "storescp")
        return self

    def __exit__(self, *_: object) -> None:
        self.part.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# -- Orthanc ---------------------------------------------------------------------------


class Orthanc:
    """Orthanc with its DICOM server and REST interface on loopback ports.

    Parameters
    ----------
    folder
        For its configuration and storage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.http_port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._configuration = folder / "orthanc.json"
        self._configuration.write_text(
            json.dumps(
                {
                    "Name": "PACS",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "DicomServerEnabled": True,
                    "DicomAet": "ORTHANC",
                    "DicomPort": self.port,
                    "DicomCheckCalledAet": True,
                    "HttpServerEnabled": True,
                    "HttpPort": self.http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    # For Orthanc's own modality list, filled by REST.
                    "DicomModalitiesInDatabase": True,
                    "Plugins": [],
                }
            )
        )
        self.part = Part(
            "Orthanc",
            ["Orthanc", str(self._configuration)],
            folder / "orthanc.log",
            NO_DELAY,
        )

    def get(self, path: str) -> Any:
        """Ask its REST interface."""
        with urllib.request.urlopen(self._url(path), timeout=10) as answer:
            return json.load(answer)

    def get_file(self, path: str) -> bytes:
        """Fetch a file from its REST interface."""
        with urllib.request.urlopen(self._url(path), timeout=10) as answer:
            return bytes(answer.read())

    def post(self, path: str, body: bytes | dict[str, Any]) -> Any:
        """Upload a file or start something."""
        return json.loads(self._send("POST", path, body))

    def _send(self, method: str, path: str, body: bytes | dict[str, Any]) -> bytes:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self._url(path), data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def know(self, name: str, port: int) -> None:
        """Add our node to its modalities."""
        body = {"AET": AE_TITLE, "Host": "127.0.0.1", "Port": port}
        self._send("PUT", f"/modalities/{name}", body)

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    def _answers(self) -> bool:
        assert self.part.alive, f"Orthanc died:\n{self.part.words()[-2000:]}"
        try:
            return bool(self.get("/system"))
        except OSError:
            return False

    def __enter__(self) -> "Orthanc":
        self.part.start()
        wait_until(self._answers, "Orthanc answers", timeout_s=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.part.kill()


@contextmanager
def recording_pacs() -> Iterator[RecordingPacs]:
    """Run a PACS for the length of a block."""
    with RecordingPacs() as pacs:
        yield pacs
