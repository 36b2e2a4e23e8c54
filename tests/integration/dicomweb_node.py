"""A node's DICOMweb in a process of its own, so that its memory can be looked at."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from core.log import configure_logging
from core.settings import DicomwebSettings

REPOSITORY = Path(__file__).resolve().parents[2]


class DicomwebProcess:
    """A process that receives, catalogues and serves."""

    def __init__(self, data_dir: Path, **settings: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(data_dir), repr(settings)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline() or "0")
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"

    def __enter__(self) -> "DicomwebProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def peak_bytes(self) -> int:
        """The most memory that it had until now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


def _main() -> None:
    import ast

    from dicom_node.dicomweb.server import DicomwebServer
    from dicom_node.periodic import PeriodicThread
    from dicom_node.query.cataloguer import Cataloguer
    from tests.receiving import Receiving, settings_for

    dicomweb = DicomwebSettings(port=0, **ast.literal_eval(sys.argv[2]))
    settings = settings_for(Path(sys.argv[1])).model_copy(update={"dicomweb": dicomweb})
    configure_logging(settings.log, "node")  # to standard error
    parts = Receiving(settings)
    parts.writer.start()
    cataloguer = Cataloguer(parts.database, parts.store)

    def catch_up() -> float:
        cataloguer.compare(100)
        return 0.1

    PeriodicThread("catalogue", catch_up, on_crash=lambda *_: os._exit(1)).start()
    server = DicomwebServer(settings, parts.database, parts.store, parts.receiver)
    sys.stdout.write(f"{server.start()}\n")
    sys.stdout.flush()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    _main()
