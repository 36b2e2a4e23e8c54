"""One certificate for both ends of a measured TLS connection, made by openssl."""

import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Certificate", "certificate"]


@dataclass(frozen=True)
class Certificate:
    """Files in PEM, of a folder that goes with this process."""

    certificate: Path
    key: Path
    folder: "tempfile.TemporaryDirectory[str]"


@cache
def certificate() -> Certificate:
    """Return the certificate of this run; it is made when first asked for."""
    folder = tempfile.TemporaryDirectory()
    made = Certificate(
        Path(folder.name, "certificate.pem"), Path(folder.name, "key.pem"), folder
    )
    subprocess.run(
        ["openssl", "req", "-x509", "-noenc", "-newkey", "ec"]
        + ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"]
        + ["-days", "2", "-keyout", str(made.key), "-out", str(made.certificate)],
        check=True,
        capture_output=True,
    )
    made.key.chmod(0o600)
    return made
