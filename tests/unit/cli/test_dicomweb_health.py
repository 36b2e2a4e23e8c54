"""The doctor's line about DICOMweb."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cli.health.check import Level
from cli.health.dicomweb import check_dicomweb
from core.settings import DicomwebSettings, NodeSettings, Settings
from dicom_node.dicomweb.server import DicomwebServer
from tests.running import free_port
from tests.stored_studies import stored_studies


def settings(data_dir: Path, **dicomweb: object) -> Settings:
    return Settings(
        data_dir=data_dir,
        node=NodeSettings(port=0),
        dicomweb=DicomwebSettings(**dicomweb),  # type: ignore[arg-type]
    )


@contextmanager
def other_program() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_node_that_serves_is_told_from_another_program(tmp_path: Path) -> None:
    with stored_studies(tmp_path / "data") as stored:
        parts = stored.parts
        server = DicomwebServer(
            parts.settings, parts.database, parts.store, parts.receiver
        )
        port = server.start()
        try:
            (ours,) = check_dicomweb(settings(tmp_path, port=port))
        finally:
            server.stop()
    with other_program() as port:
        (other,) = check_dicomweb(settings(tmp_path, port=port))

    assert (ours.level, other.level) == (Level.OK, Level.FAIL)
    assert "dicomweb.port" in other.action


def test_nobody_and_switched_off_are_no_fault(tmp_path: Path) -> None:
    (nobody,) = check_dicomweb(settings(tmp_path, port=free_port()))
    (off,) = check_dicomweb(settings(tmp_path, enabled=False))

    assert nobody.level is off.level is Level.OK


def test_a_port_that_is_taken_does_not_keep_the_node_from_starting(
    tmp_path: Path,
) -> None:
    with other_program() as port, stored_studies(tmp_path) as stored:
        parts = stored.parts
        server = DicomwebServer(
            settings(tmp_path, port=port), parts.database, parts.store, parts.receiver
        )

        assert server.start() is None
        server.stop()
